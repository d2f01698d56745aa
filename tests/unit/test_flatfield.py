"""The flat-field probe: the reported number to the letter, why it misleads, and the sizes that do not."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from ablate.components.probe import flatfield, grid
from ablate.components.shared.measure import GREY_LEVELS
from ablate.slots.probe import COLOURS, Subject
from ablate.slots.registry import level
from tests.support.planted import Defect, Fake, dots, image_kl, noise

torch.set_num_threads(1)


SIDE = 256


def found(defect: Defect, side: int = SIDE) -> dict[str, float]:
    return flatfield.examine(Subject(Fake(defect), torch.rand(1, 3, side, side))).metrics


def off_dc(picture: Tensor) -> float:
    """The report's number of a flat picture `h w`, given in grey levels."""
    return flatfield.off_dc(2 * (picture / GREY_LEVELS).clamp(0, 1) - 1, power=1)


def flat(value: float) -> Tensor:
    return torch.full((SIDE, SIDE), value, dtype=torch.float64)


def four_px_lines(y: Tensor) -> Tensor:
    """Two rows up and two down by 1 gl: rms 1 gl, all of it of period 4."""
    rows = torch.tensor([1.0, 1.0, -1.0, -1.0]).repeat(y.shape[-2] // 4)
    return y + rows[:, None] / GREY_LEVELS


def test_the_number_is_that_of_the_reported_script() -> None:
    """Its lines, with the reconstruction in place of the model's."""
    generator = np.random.default_rng(0)
    recon = np.clip(generator.normal(0.004, 0.01, (1, 3, 1, SIDE, SIDE)), -1, 1)
    f = np.fft.fftshift(np.fft.fft2(recon[0, 1, 0]))
    cy, cx = f.shape[0] // 2, f.shape[1] // 2
    f_no_dc = f.copy()
    f_no_dc[cy - 2 : cy + 3, cx - 2 : cx + 3] = 0
    expected = np.abs(f_no_dc).sum() / np.abs(f).sum()

    y = torch.from_numpy(recon[:, :, 0] / 2 + 0.5)
    metrics = found(lambda x: y.expand(len(x), -1, -1, -1).to(x))
    assert metrics["flatfield/legacy_offdc"] == pytest.approx(expected, abs=1e-4)
    difference = np.abs(y[0, 1].numpy() - 128 / 255)
    assert metrics["flatfield/legacy_max"] == pytest.approx(difference.max(), abs=1e-6)
    assert metrics["flatfield/legacy_mean"] == pytest.approx(difference.mean(), abs=1e-6)


@pytest.mark.parametrize(
    ("value", "shares"),
    [(128, (0.82, 0.978, 0.996, 0.997)), (192, (0.03, 0.26, 0.70, 0.78)), (255, (0.02, 0.15, 0.54, 0.64))],
)
def test_the_share_of_white_noise_is_a_matter_of_the_colour(value: float, shares: tuple[float, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(SIDE, SIDE, generator=generator, dtype=torch.float64)
    for sd, share in zip((0.01, 0.1, 0.66, 1), shares, strict=True):
        mean = abs(2 * value / GREY_LEVELS - 1)
        closed_form = 1 / (1 + 2 * mean / (math.sqrt(math.pi) * 2 * sd / GREY_LEVELS * SIDE))
        assert closed_form == pytest.approx(share, abs=0.006)
        unclamped = flatfield.off_dc(2 * (flat(value) + sd * noise) / GREY_LEVELS - 1, power=1)
        assert unclamped == pytest.approx(closed_form, abs=0.003)


def test_the_share_hardly_sees_a_clean_grid() -> None:
    lines = torch.zeros(SIDE, SIDE, dtype=torch.float64)
    lines[::4] = 1
    assert off_dc(flat(128) + lines) == pytest.approx(0.50, abs=0.005)
    assert off_dc(flat(192) + lines) == pytest.approx(0.011, abs=0.001)


def test_the_share_takes_a_border_for_a_grid() -> None:
    for side, sign, share in ((256, 1, 0.915), (256, -1, 0.927), (128, -1, 0.837)):
        border = torch.full((side, side), 10.0, dtype=torch.float64)
        border[8:-8, 8:-8] = 0
        assert off_dc(128 + sign * border) == pytest.approx(share, abs=0.001)


def test_each_period_is_measured_alone() -> None:
    metrics = found(four_px_lines)
    periods = {p: metrics[f"flatfield/period{p}"] for p in flatfield.PERIODS}
    assert periods == pytest.approx({2: 0, 4: 1, 8: 0, 16: 0, 32: 0}, abs=1e-3)
    assert metrics["flatfield/rms_max"] == pytest.approx(1, abs=1e-3)
    assert metrics["flatfield/dc"] == pytest.approx(0, abs=1e-3)
    assert metrics["flatfield/border"] == pytest.approx(1, abs=1e-3)


def test_squares_of_periods_add_up_to_the_fold_of_the_grid_probe() -> None:
    subject = Subject(Fake(dots(4)), torch.rand(1, 3, SIDE, SIDE))
    own, nested = flatfield.examine(subject).metrics, grid.examine(subject).metrics
    total = math.hypot(*(own[f"flatfield/period{p}"] for p in (2, 4, 8)))
    assert own["flatfield/period4"] == pytest.approx(math.sqrt(3) / 2, abs=1e-3)
    assert total == pytest.approx(nested["grid/const_fold8"], rel=1e-4)
    assert own["flatfield/period2"] == pytest.approx(math.sqrt(3) / 4, abs=1e-3)


def test_a_border_is_told_from_a_grid_and_from_an_offset() -> None:
    def darker(y: Tensor) -> Tensor:
        y = y - 2 / GREY_LEVELS
        y[..., :8, :] -= 10 / GREY_LEVELS
        return y

    metrics = found(darker)
    band = 1 - (1 - 2 * 32 / SIDE) ** 2
    assert metrics["flatfield/border"] == pytest.approx(10 * math.sqrt(8 / SIDE / band), rel=1e-3)
    assert metrics["flatfield/dc"] == pytest.approx(2, abs=1e-3)
    assert metrics["flatfield/rms_max"] == pytest.approx(0, abs=1e-3)
    assert max(metrics[f"flatfield/period{p}"] for p in flatfield.PERIODS) == pytest.approx(0, abs=1e-3)


def test_the_share_of_energy_is_that_of_the_variance() -> None:
    """Parseval, on [0, 1]; the lines have no part inside the box."""
    assert found(four_px_lines)["flatfield/offdc_energy"] == pytest.approx(1 / (128**2 + 1), rel=1e-3)
    assert found(four_px_lines)["flatfield/legacy_offdc"] > 0.5


def test_a_fault_of_one_colour_shows_in_its_own_value() -> None:
    dark = [max(colour) == 32 for colour in COLOURS]

    def defect(y: Tensor) -> Tensor:
        return torch.where(y.amax((1, 2, 3), keepdim=True) < 0.2, four_px_lines(y), y)

    findings = flatfield.examine(Subject(Fake(defect), torch.rand(1, 3, 64, 64)))
    assert findings.per_image["flatfield/period4"] == pytest.approx([float(d) for d in dark], abs=1e-3)
    assert findings.metrics["flatfield/period4"] == pytest.approx(sum(dark) / 28, abs=1e-3)
    assert findings.metrics["flatfield/rms_max"] == pytest.approx(1, abs=1e-3)


def test_a_decoder_that_resizes_and_convolves_draws_no_grid() -> None:
    metrics = flatfield.examine(Subject(image_kl(), torch.rand(1, 3, 128, 128))).metrics
    assert max(metrics[f"flatfield/period{p}"] for p in flatfield.PERIODS) < 1e-3
    assert metrics["flatfield/dc"] > 1


def test_every_metric_is_declared_and_reported() -> None:
    declared = [metric.name for metric in level("probe", "flatfield").metrics]
    findings = flatfield.examine(Subject(Fake(noise(1)), torch.rand(1, 3, 128, 128)))
    assert set(findings.metrics) == set(declared)
    assert all(type(value) is float and math.isfinite(value) for value in findings.metrics.values())
    assert {len(values) for values in findings.per_image.values()} == {28}
    (picture,) = findings.pictures.values()
    assert picture.dtype == np.uint8 and picture.shape[2] == 3


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_model_gone_to_nan_is_reported_as_such(value: float) -> None:
    assert not any(math.isfinite(number) for number in found(lambda y: y + value, 64).values())


@pytest.mark.parametrize("stride", [1, 2, 4, 8, 16])
def test_the_smallest_size_is_enough_and_one_stride_less_is_not(stride: int) -> None:
    smallest = level("probe", "flatfield").Config().smallest(stride)
    for side in (smallest, smallest + stride):
        assert math.isfinite(found(noise(1), side)["flatfield/legacy_offdc"])
    if smallest > stride:
        assert found(noise(1), smallest - stride) == {}
