"""Fidelity, colour, grid and border on fake autoencoders with one known defect each."""

import math
from types import ModuleType

import numpy as np
import pytest
import scipy.ndimage
import torch
import torch.nn.functional as F
from skimage import color as skimage_color
from torch import Tensor

from ablate.components.probe import border, color, grid, reconstruction
from ablate.components.shared.measure import GREY_LEVELS
from ablate.slots.probe import ProbeResult, Subject
from ablate.slots.registry import level
from ablate.slots.training import Autoencoder
from tests.support.planted import Fake, blurred, collapsed, corners, dots, good, lines, none, photographs, tint

torch.set_num_threads(1)


PROBES = {"reconstruction": reconstruction, "color": color, "grid": grid, "border": border}


def examine(vae: Autoencoder, images: Tensor) -> dict[str, ProbeResult]:
    subject = Subject(vae.eval(), images)
    return {name: probe.build(probe.Config())(subject) for name, probe in PROBES.items()}


def test_tint_is_measured_exactly() -> None:
    found = examine(Fake(tint(1)), photographs())["color"].metrics
    assert [found[f"color/bias_{c}"] for c in "rgb"] == pytest.approx([3, 3, -5], abs=1e-3)
    assert found["color/bias_norm"] == pytest.approx(math.sqrt(43), abs=1e-3)
    assert found["color/coherence"] == pytest.approx(1, abs=1e-4)


def test_color_difference_of_mean_colours_agrees_with_scikit_image() -> None:
    x = photographs()
    y = tint(2)(x).clamp(0, 1)
    lab = [skimage_color.rgb2lab(image.double().mean((2, 3)).numpy()) for image in (x, y)]
    found = color.examine(Subject(Fake(tint(2)), x))
    assert found.per_image["color/dE00"] == pytest.approx(skimage_color.deltaE_ciede2000(*lab).tolist(), abs=2e-3)
    assert found.metrics["color/db"] == pytest.approx((lab[1] - lab[0])[:, 2].mean(), abs=2e-3)


def test_tints_that_images_do_not_share_are_incoherent() -> None:
    generator = torch.Generator().manual_seed(0)
    own_tint = Fake(lambda y: y + torch.randn(len(y), 3, 1, 1, generator=generator) * 3 / GREY_LEVELS)
    assert color.examine(Subject(own_tint, photographs(64, 4))).metrics["color/coherence"] < 0.3


def test_gain_and_offset_are_those_of_a_straight_line() -> None:
    gain, offset = torch.tensor([0.9, 1.0, 1.1])[:, None, None], torch.tensor([8.0, 0.0, -4.0])[:, None, None]
    found = color.examine(Subject(Fake(lambda y: gain * y + offset / GREY_LEVELS), photographs())).metrics
    assert [found[f"color/gain_{c}"] for c in "rgb"] == pytest.approx([0.9, 1.0, 1.1], abs=1e-5)
    assert [found[f"color/offset_{c}"] for c in "rgb"] == pytest.approx([8, 0, -4], abs=1e-3)


def test_gain_and_offset_of_a_curve_are_those_of_scipy_and_numpy_within_images() -> None:
    x = photographs(64)
    found = color.examine(Subject(Fake(lambda y: y.clamp(min=0).sqrt()), x)).metrics
    smooth = [
        scipy.ndimage.gaussian_filter(image.double().numpy(), 8, axes=(2, 3), mode="mirror", truncate=3)[..., ::4, ::4]
        for image in (x, x.sqrt())
    ]
    for i, c in enumerate("rgb"):
        values, curve = (image[:, i] - image[:, i].mean((1, 2), keepdims=True) for image in smooth)
        gain = np.polyfit(values.ravel(), curve.ravel(), 1)[0]
        assert found[f"color/gain_{c}"] == pytest.approx(gain, rel=1e-4)
        means = [image[:, i].mean() for image in smooth]
        assert found[f"color/offset_{c}"] == pytest.approx(255 * (means[1] - gain * means[0]), rel=1e-3)


def test_a_model_that_returns_mean_colours_has_no_contrast() -> None:
    found = color.examine(Subject(Fake(collapsed(1)), photographs(64))).metrics
    assert [found[f"color/gain_{c}"] for c in "rgb"] == pytest.approx([0, 0, 0], abs=1e-5)


def test_a_shift_of_one_colour_shows_on_constants_and_agrees_with_scikit_image() -> None:
    green, shifted = (0, 128, 0), (20, 140, 10)

    def defect(y: Tensor) -> Tensor:
        is_green = (y * GREY_LEVELS - torch.tensor(green)[:, None, None]).abs().amax((1, 2, 3), keepdim=True) < 0.5
        return torch.where(is_green, torch.tensor(shifted)[:, None, None] / GREY_LEVELS, y)

    found = color.examine(Subject(Fake(defect), photographs(64))).metrics
    pair = [skimage_color.rgb2lab(np.array(c) / 255) for c in (green, shifted)]
    assert found["color/dE00_const"] == pytest.approx(skimage_color.deltaE_ciede2000(*pair) / 28, rel=1e-3)
    assert found["color/dE00"] == pytest.approx(0, abs=1e-3)


def test_folds_of_dots_have_the_closed_form() -> None:
    found = grid.examine(Subject(Fake(dots(4)), photographs())).metrics
    expected = {2: math.sqrt(3) / 4, 4: math.sqrt(15) / 4, 8: math.sqrt(15) / 4}
    for period, amplitude in expected.items():
        assert found[f"grid/nat_fold{period}"] == pytest.approx(amplitude, abs=1e-4)
        assert found[f"grid/const_fold{period}"] == pytest.approx(amplitude, abs=1e-3)
    assert found["grid/nat_fold"] == found["grid/nat_fold8"]


def test_a_grid_on_one_colour_shows_in_the_maximum() -> None:
    dark_only = Fake(lambda y: torch.where(y.amax((1, 2, 3), keepdim=True) < 0.2, lines(2)(y), y))
    found = grid.examine(Subject(dark_only, photographs())).metrics
    assert found["grid/const_fold_max"] == pytest.approx(2 * math.sqrt(7 / 32), abs=1e-4)
    assert found["grid/const_fold"] == pytest.approx(2 * math.sqrt(7 / 32) / 28, abs=1e-4)
    assert found["grid/const_rms"] == pytest.approx(found["grid/const_fold"], abs=1e-4)


def test_the_strongest_harmonic_stands_above_their_mean() -> None:
    found = grid.examine(Subject(good(lines(2)), photographs())).metrics
    assert found["grid/comb_max_db"] > found["grid/comb_db"] + 3


def darker_frame(y: Tensor) -> Tensor:
    inner = F.pad(torch.ones(y.shape[-2] - 8, y.shape[-1] - 8), [4] * 4)
    return y - (1 - inner) * 5 / GREY_LEVELS


def test_border_of_known_width_and_depth_is_measured_exactly() -> None:
    found = border.examine(Subject(Fake(darker_frame), photographs())).metrics
    ring4, ring16 = 64**2 - 56**2, 64**2 - 32**2
    assert found["border/excess_b4"] == pytest.approx(5, abs=1e-3)
    assert found["border/excess_b16"] == pytest.approx(5 * ring4 / ring16, abs=1e-3)
    assert found["border/cc_ratio"] == pytest.approx((5 * ring4 / ring16 + border.FLOOR) / border.FLOOR, rel=1e-2)
    assert found["border/extent_px"] == 4


def test_border_compares_at_the_same_phase_of_the_stride() -> None:
    found = border.examine(Subject(Fake(lines(8)), photographs(48)))
    calm = {"border/cc_ratio": 1, "border/hf_ratio": 1}
    assert found.metrics == {name: calm.get(name, 0) for name in found.metrics}
    assert "border/excess_b4" in found.metrics
    assert "border/excess_b16" not in found.metrics, "a band that wide reaches the middle"


def test_dark_corners_are_told_from_a_dark_frame() -> None:
    even = border.examine(Subject(Fake(darker_frame), photographs())).metrics
    assert even["border/corner_excess"] == pytest.approx(0, abs=1e-3)
    found = border.examine(Subject(Fake(corners(5)), photographs())).metrics
    assert found["border/corner_excess"] == pytest.approx(5 * 8**2 / 16**2, abs=1e-3)


def test_detail_lost_at_the_border_is_measured_exactly() -> None:
    def fainter(y: Tensor) -> Tensor:
        inner = F.pad(torch.ones(y.shape[-2] - 40, y.shape[-1] - 40), [20] * 4)
        return y * (0.5 + 0.5 * inner)

    found = border.examine(Subject(Fake(fainter), photographs())).metrics
    assert found["border/hf_ratio"] == pytest.approx(1 / 4, abs=1e-3), "the band's 16 px lie within the 20"


@pytest.mark.parametrize("name", PROBES)
def test_every_metric_is_declared_and_reported(name: str) -> None:
    vae = good(none(0))
    vae.stride = 32  # whose combs need 6 strides away from the border
    declared = [metric.name for metric in level("probe", name).metrics]
    assert len(set(declared)) == len(declared)
    assert set(examine(vae, photographs(256, 1))[name].metrics) == set(declared)


def test_periods_beyond_the_stride_are_left_out() -> None:
    found = grid.examine(Subject(good(none(0)), photographs())).metrics
    assert {name for name in found if "fold" in name and name[-1].isdigit()} == {
        f"grid/{images}_fold{period}" for images in ("nat", "const") for period in (2, 4, 8)
    }


def test_blocks_of_the_sources_are_not_taken_for_a_grid_of_the_model() -> None:
    blocky = lines(16)(photographs())
    softer = grid.examine(Subject(Fake(lambda y: blurred(y, 0.55)), blocky)).metrics
    assert softer["grid/comb_db"] > 6, "the residual holds what the model removed"
    assert softer["grid/comb_nr_db"] < 0.5, "the reconstruction holds no more of it than the source"
    drawn = grid.examine(Subject(Fake(lines(8)), photographs())).metrics
    assert drawn["grid/comb_nr_db"] > 3


def test_a_model_of_stride_1_has_no_grid() -> None:
    vae = good(none(0))
    vae.stride = 1
    found = grid.examine(Subject(vae, photographs(64))).metrics
    assert found["grid/nat_fold"] == found["grid/const_fold"] == 0
    assert not [name for name in found if "comb" in name]


@pytest.mark.parametrize("name", PROBES)
def test_findings_are_well_formed(name: str) -> None:
    found = examine(good(none(0)), photographs())[name]
    assert all(type(value) is float and math.isfinite(value) for value in found.metrics.values())
    for key, values in found.per_image.items():
        assert len(values) == len(photographs())
        assert np.mean(values) == pytest.approx(found.metrics[key], rel=1e-5)
    for picture in found.pictures.values():
        assert picture.dtype == np.uint8
        assert picture.shape[2] == 3
        assert 64 <= max(picture.shape) <= 256


def test_the_picture_of_a_grid_is_its_pattern_32_times() -> None:
    picture = grid.examine(Subject(Fake(lines(1)), photographs())).pictures["grid_natural_x32"]
    assert picture.shape == (128, 128, 3)
    levels = picture[8::16, 8::16, 0].astype(int)
    assert abs(levels[0, 1] - levels[1, 1] - 32) <= 1
    assert abs(levels[0, 0] - levels[1, 1] - 64) <= 1


@pytest.mark.parametrize("name", PROBES)
def test_a_perfect_model_has_no_defect(name: str) -> None:
    images = (photographs() * 256).round() / 256  # passes through [-1, 1] without rounding
    found = examine(Fake(lambda y: y), images)[name].metrics
    perfect = {"psnr": math.inf, "ssim": 1.0, "grid/nat_z": 1.0, "border/cc_ratio": 1.0, "border/hf_ratio": 1.0}
    perfect |= {f"color/gain_{c}": 1.0 for c in "rgb"}
    expected = {metric: perfect.get(metric, 0.0) for metric in found}
    assert found == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("name", PROBES)
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_model_gone_to_nan_is_reported_as_such(name: str, value: float) -> None:
    found = examine(Fake(lambda y: y + value), photographs(64))[name]
    of_images = {metric: number for metric, number in found.metrics.items() if metric != "grid/polyphase"}
    assert of_images
    assert not any(math.isfinite(number) for number in of_images.values())


def test_one_broken_image_spoils_the_mean_and_only_its_own_value() -> None:
    broken = Fake(lambda y: torch.where(torch.arange(len(y))[:, None, None, None] == 3, torch.inf, y))
    found = reconstruction.examine(Subject(broken, photographs()[:8]))
    assert math.isnan(found.metrics["psnr"])
    assert [math.isnan(value) for value in found.per_image["psnr"]] == [i == 3 for i in range(8)]


@pytest.mark.parametrize(("probe", "side"), [(grid, 16), (border, 24)], ids=["grid", "border"])
def test_images_too_small_for_a_probe_give_no_number(probe: ModuleType, side: int) -> None:
    assert probe.examine(Subject(Fake(lambda y: y), torch.rand(2, 3, side, side))).metrics == {}
