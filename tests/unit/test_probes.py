"""Probes on fake autoencoders with one known defect each: every probe must see its own defect, and only that."""

import functools
import itertools
import math
from collections.abc import Callable
from types import ModuleType

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from skimage import color as skimage_color
from torch import Tensor, nn

from ablate.registry import level
from ablate.slots import Autoencoder, Findings, Posterior, Subject
from components.measure import GREY_LEVELS
from components.probe import border, color, grid, reconstruction
from tests.planted import Defect, Fake, blob, blur, checker, dots, frame, good, lines, none, photographs, tint

torch.set_num_threads(1)

PROBES = {"reconstruction": reconstruction, "color": color, "grid": grid, "border": border}


def examine(vae: Autoencoder, images: Tensor) -> dict[str, Findings]:
    subject = Subject(vae.eval(), images)
    return {name: probe.build(probe.Config())(subject) for name, probe in PROBES.items()}


@functools.cache
def numbers(defect: Callable[[float], Defect], amplitude: float) -> dict[str, float]:
    findings = examine(good(defect(amplitude)), photographs())
    return {name: value for found in findings.values() for name, value in found.metrics.items()}


# What a defect must move, from the weakest amplitude to the strongest, and the alarm that the last must raise.
ALARM = {
    "color": lambda m: m["color/dE00"] > 1 and m["color/coherence"] > 0.9,
    "grid": lambda m: m["grid/nat_z"] > 2 and m["grid/nat_fold"] > 0.2,
    "border": lambda m: m["border/excess_b4"] > 1 and m["border/cc_ratio"] > 1.5,
}
OWN = [
    (tint, (0.25, 0.5, 1, 2), "color", ("color/dE00", "color/bias_norm", "color/db", "color/dE00_low_p95")),
    (
        dots,
        (0.25, 0.5, 1, 2),
        "grid",
        ("grid/nat_fold", "grid/nat_fold4", "grid/nat_z", "grid/comb_db", "grid/const_fold"),
    ),
    (
        lines,
        (0.25, 0.5, 1, 2),
        "grid",
        ("grid/nat_fold8", "grid/nat_z", "grid/comb_db", "grid/comb_max_db", "grid/const_fold"),
    ),
    (checker, (0.25, 0.5, 1), "grid", ("grid/nat_fold2", "grid/nat_z", "grid/comb_db", "grid/const_fold_max")),
    (frame, (0.25, 0.5, 1), "border", ("border/excess_b4", "border/excess_b16", "border/cc_ratio", "border/extent_px")),
]
FOREIGN = [
    *((defect, amplitudes[-1], owner) for defect, amplitudes, owner, _ in OWN),
    (blur, 2.0, None),
    (blob, 0.6, None),
]


@pytest.mark.parametrize(
    ("defect", "amplitudes", "owner", "names"), OWN, ids=lambda value: getattr(value, "__name__", "")
)
def test_a_probe_grows_with_its_own_defect_and_alarms(
    defect: Callable[[float], Defect], amplitudes: tuple[float, ...], owner: str, names: tuple[str, ...]
) -> None:
    series = [numbers(none, 0.0), *(numbers(defect, amplitude) for amplitude in amplitudes)]
    for name in names:
        values = [found[name] for found in series]
        assert all(a <= b for a, b in itertools.pairwise(values)), (name, values)
        assert values[-1] > values[0] + 0.1, (name, values)
    assert not ALARM[owner](series[0])
    assert ALARM[owner](series[-1])


@pytest.mark.parametrize(("defect", "amplitude", "owner"), FOREIGN, ids=lambda value: getattr(value, "__name__", ""))
def test_probes_stay_calm_at_defects_of_others(
    defect: Callable[[float], Defect], amplitude: float, owner: str | None
) -> None:
    base, found = numbers(none, 0.0), numbers(defect, amplitude)
    assert [probe for probe, alarm in ALARM.items() if alarm(found)] == [owner][: owner is not None]
    if owner != "color":
        assert found["color/dE00"] == pytest.approx(base["color/dE00"], abs=0.2 if defect is not blob else 0.8)
    if owner != "grid":
        assert found["grid/nat_z"] == pytest.approx(base["grid/nat_z"], abs=0.1)
        assert found["grid/comb_db"] == pytest.approx(base["grid/comb_db"], abs=0.3)
        assert found["grid/const_fold"] <= base["grid/const_fold"] + 0.01
    if owner != "border":
        assert found["border/excess_b4"] == pytest.approx(base["border/excess_b4"], abs=0.15)
        assert found["border/excess_b16"] == pytest.approx(base["border/excess_b16"], abs=0.15)


def test_blur_lowers_psnr_and_ssim() -> None:
    series = [numbers(none, 0.0), numbers(blur, 1.2), numbers(blur, 2.0)]
    for name in ("psnr", "ssim"):
        assert series[0][name] > series[1][name] > series[2][name]


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


def test_folds_of_dots_have_the_closed_form() -> None:
    found = grid.examine(Subject(Fake(dots(4)), photographs())).metrics
    expected = {2: math.sqrt(3) / 4, 4: math.sqrt(15) / 4, 8: math.sqrt(15) / 4}
    for period, amplitude in expected.items():
        assert found[f"grid/nat_fold{period}"] == pytest.approx(amplitude, abs=1e-4)
        assert found[f"grid/const_fold{period}"] == pytest.approx(amplitude, abs=1e-4)
    assert found["grid/nat_fold"] == found["grid/nat_fold8"]


def test_a_grid_on_one_colour_shows_in_the_maximum() -> None:
    dark_only = Fake(lambda y: torch.where(y.amax((1, 2, 3), keepdim=True) < 0.2, lines(2)(y), y))
    found = grid.examine(Subject(dark_only, photographs())).metrics
    assert found["grid/const_fold_max"] == pytest.approx(2 * math.sqrt(7 / 32), abs=1e-4)
    assert found["grid/const_fold"] == pytest.approx(2 * math.sqrt(7 / 32) / 28, abs=1e-4)
    assert found["grid/const_rms"] == pytest.approx(found["grid/const_fold"], abs=1e-4)


def test_the_strongest_harmonic_stands_above_their_mean() -> None:
    found = numbers(lines, 2)
    assert found["grid/comb_max_db"] > found["grid/comb_db"] + 3


def test_border_of_known_width_and_depth_is_measured_exactly() -> None:
    def darker(y: Tensor) -> Tensor:
        inner = F.pad(torch.ones(y.shape[-2] - 8, y.shape[-1] - 8), [4] * 4)
        return y - (1 - inner) * 5 / GREY_LEVELS

    found = border.examine(Subject(Fake(darker), photographs())).metrics
    ring4, ring16 = 64**2 - 56**2, 64**2 - 32**2
    assert found["border/excess_b4"] == pytest.approx(5, abs=1e-3)
    assert found["border/excess_b16"] == pytest.approx(5 * ring4 / ring16, abs=1e-3)
    assert found["border/cc_ratio"] == pytest.approx((5 * ring4 / ring16 + border.FLOOR) / border.FLOOR, rel=1e-2)
    assert found["border/extent_px"] == 4


def test_border_compares_at_the_same_phase_of_the_stride() -> None:
    found = border.examine(Subject(Fake(lines(8)), photographs(48)))
    assert found.metrics == {"border/excess_b4": 0, "border/cc_ratio": 1, "border/extent_px": 0}


def decoder(upsample: Callable[[int], nn.Module]) -> nn.Sequential:
    """16 channels at an eighth of the size to RGB, at its random initial weights, reflect padding."""

    def conv(out: int) -> nn.Module:
        return nn.Conv2d(16, out, 3, padding=1, padding_mode="reflect")

    stages = [(nn.GroupNorm(4, 16), nn.SiLU(), upsample(16)) for _ in range(3)]
    return nn.Sequential(conv(16), *itertools.chain(*stages), nn.GroupNorm(4, 16), nn.SiLU(), conv(3))


def resize_conv(channels: int) -> nn.Module:
    conv = nn.Conv2d(channels, channels, 3, padding=1, padding_mode="reflect")
    return nn.Sequential(nn.Upsample(scale_factor=2, mode="nearest"), conv)


def pixel_shuffle(channels: int) -> nn.Module:
    conv = nn.Conv2d(channels, 4 * channels, 3, padding=1, padding_mode="reflect")
    return nn.Sequential(conv, nn.PixelShuffle(2))


class Small(Autoencoder):
    stride = 8
    latent_channels = 16

    def __init__(self, upsample: Callable[[int], nn.Module]) -> None:
        super().__init__()
        self.lift, self.decoder = nn.Conv2d(3, 16, 1), decoder(upsample)

    def encode(self, x: Tensor) -> Posterior:
        z = self.lift(F.avg_pool2d(x, 8))
        return Posterior(z, torch.zeros_like(z))

    def decode(self, z: Tensor) -> Tensor:
        y: Tensor = self.decoder(z)
        return y


@pytest.mark.parametrize("seed", [0, 1])
def test_constants_show_a_grid_of_pixel_shuffle_and_none_of_resize_conv(seed: int) -> None:
    found = {}
    for upsample in (resize_conv, pixel_shuffle):
        torch.manual_seed(seed)
        found[upsample] = grid.examine(Subject(Small(upsample).eval(), photographs(64))).metrics
    assert found[resize_conv]["grid/const_fold"] == 0
    assert found[resize_conv]["grid/const_fold_max"] == 0
    assert found[pixel_shuffle]["grid/const_fold"] > 1
    assert found[pixel_shuffle]["grid/const_fold8"] > found[pixel_shuffle]["grid/const_fold2"] > 0


@pytest.mark.parametrize("name", PROBES)
def test_every_metric_is_declared_and_reported(name: str) -> None:
    vae = good(none(0))
    vae.stride = 32
    declared = [metric.name for metric in level("probe", name).metrics]
    assert len(set(declared)) == len(declared)
    assert set(examine(vae, photographs())[name].metrics) == set(declared)


def test_periods_beyond_the_stride_are_left_out() -> None:
    found = numbers(none, 0.0)
    assert {name for name in found if "fold" in name and name[-1].isdigit()} == {
        f"grid/{images}_fold{period}" for images in ("nat", "const") for period in (2, 4, 8)
    }


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
    perfect = {"psnr": math.inf, "ssim": 1.0, "grid/nat_z": 1.0, "border/cc_ratio": 1.0}
    expected = {metric: perfect.get(metric, 0.0) for metric in found}
    assert found == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("name", PROBES)
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_model_gone_to_nan_is_reported_as_such(name: str, value: float) -> None:
    found = examine(Fake(lambda y: y + value), photographs(64))[name]
    assert found.metrics
    assert not any(math.isfinite(number) for number in found.metrics.values())


def test_one_broken_image_spoils_the_mean_and_only_its_own_value() -> None:
    broken = Fake(lambda y: torch.where(torch.arange(len(y))[:, None, None, None] == 3, torch.inf, y))
    found = reconstruction.examine(Subject(broken, photographs()[:8]))
    assert math.isnan(found.metrics["psnr"])
    assert [math.isnan(value) for value in found.per_image["psnr"]] == [i == 3 for i in range(8)]


@pytest.mark.parametrize(("probe", "side"), [(grid, 16), (border, 24)], ids=["grid", "border"])
def test_images_too_small_for_a_probe_give_no_number(probe: ModuleType, side: int) -> None:
    assert probe.examine(Subject(Fake(lambda y: y), torch.rand(2, 3, side, side))).metrics == {}
