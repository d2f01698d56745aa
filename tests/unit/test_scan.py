"""The scan for waves of any period: planted waves on real photographs, closed forms, and what chance finds."""

import itertools
import math

import pytest
import torch
from torch import Tensor

from ablate.components.probe import grid
from ablate.components.probe._scan import longest_period, strongest_wave
from ablate.components.probe._tone import toned
from ablate.slots.probe import Subject
from tests.support.planted import Defect, Fake, blur, contrast, dots, good, lines, none, photographs

torch.set_num_threads(1)


PLANTED = (2, 3, 4, 5, 6, 7, 8, 12, 16, 24, 32)


def wave(period: int, amplitude: float, direction: str, phase: float = 0.0) -> Defect:
    """A cosine of `amplitude` gl along x, along y, or one along each."""

    def defect(y: Tensor) -> Tensor:
        cosine = torch.cos(2 * math.pi * torch.arange(y.shape[-1]) / period + phase) * amplitude / 255
        return y + sum(cosine if along == "x" else cosine[:, None] for along in direction)

    return defect


def found(defect: Defect, side: int, per_photograph: int = 2) -> dict[str, float]:
    metrics = grid.examine(Subject(good(defect), photographs(side, per_photograph))).metrics
    return {name.removeprefix("grid/scan_"): value for name, value in metrics.items() if "scan" in name}


@pytest.mark.parametrize("direction", ["x", "y", "xy"])
@pytest.mark.parametrize("side", [64, 128])
def test_waves_on_photographs_are_found_with_their_period_and_amplitude(side: int, direction: str) -> None:
    x = photographs(side)[:: side // 64]
    y = good(none(0)).round_trip(x)
    for period, amplitude in itertools.product(PLANTED, (1, 2, 4)):
        if period > longest_period(side):
            continue
        flawed = wave(period, amplitude, direction)(y)
        seen = strongest_wave(toned(x, flawed).residual(flawed))
        assert seen.period == period, amplitude
        assert seen.db > 2
        assert seen.gl == pytest.approx(amplitude, rel=0.15)


@pytest.mark.parametrize("side", [48, 64, 96, 128])
@pytest.mark.parametrize("defect", [none(0), blur(1.2), contrast(0.49)], ids=["none", "blur", "contrast"])
def test_nothing_is_found_on_photographs_without_a_wave(defect: Defect, side: int) -> None:
    assert found(defect, side) == {"db": 0, "gl": 0, "period": 0}


def test_a_wave_whose_phase_differs_from_image_to_image_is_found() -> None:
    def wandering(y: Tensor) -> Tensor:
        phases = torch.arange(len(y)) * 2.4
        angles = 2 * math.pi * torch.arange(y.shape[-1]) / 6 + phases[:, None]
        return y + 2 / 255 * torch.cos(angles)[:, None, None, :]

    metrics = grid.examine(Subject(good(wandering), photographs(64))).metrics
    assert metrics["grid/scan_period"] == 6
    assert metrics["grid/scan_gl"] == pytest.approx(2, rel=0.1)
    assert metrics["grid/nat_z"] < 2, "the fold at the stride sees nothing"


@pytest.mark.parametrize(("defect", "period"), [(dots(4), 4), (lines(4), 8)], ids=["dots", "lines"])
def test_a_grid_has_the_longest_period_of_its_harmonics(defect: Defect, period: int) -> None:
    assert found(defect, 128)["period"] == period


@pytest.mark.parametrize(("side", "longest"), [(32, 8), (48, 12), (64, 16), (96, 24), (128, 32), (256, 32)])
def test_longer_waves_than_a_quarter_of_the_side_are_left_out(side: int, longest: int) -> None:
    assert longest_period(side) == longest
    for period in (longest + longest // 3, 2 * longest):
        assert period == 64 or found(wave(period, 3, "x"), side, 1)["period"] == 0, period


def test_images_under_32_px_are_not_scanned() -> None:
    assert not [
        name for name in grid.examine(Subject(Fake(none(0)), torch.rand(8, 3, 24, 24))).metrics if "scan" in name
    ]


@pytest.mark.parametrize("slope", [0.0, 1.0, 2.0])
def test_noise_of_any_slope_has_a_wave_in_at_most_one_draw_of_fifty(slope: float) -> None:
    """Power over frequency^-slope, as residuals of photographs have, or steeper."""
    generator = torch.Generator().manual_seed(0)
    frequency = torch.fft.fftfreq(64)
    radius = torch.hypot(frequency, frequency[:, None]).clamp(min=1 / 64)
    draws = torch.randn(50, 16, 3, 64, 64, generator=generator)
    fields = torch.fft.ifft2(torch.fft.fft2(draws) * radius ** (-slope / 2)).real
    assert sum(strongest_wave(field).db > 0 for field in fields) <= 1


def test_the_power_of_a_wave_in_white_noise_has_the_closed_form() -> None:
    """A cosine of amplitude a in noise of sd s: a^2 / 4 (sum w)^2 over s^2 sum w^2, with a 2-D Hann window w."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(64, 3, 96, 96, generator=generator) * 4 / 255
    quiet, loud = (strongest_wave(noise + wave(9, a, "x")(torch.zeros(1, 3, 96, 96))) for a in (1.0, 4.0))
    assert (quiet.period, loud.period) == (9, 9)
    assert (quiet.gl, loud.gl) == pytest.approx((1, 4), rel=0.03)
    window = torch.hann_window(96, periodic=False, dtype=torch.float64)
    ratio = 1 / 4 * (window.sum() ** 2 / window.square().sum()) ** 2 / 4**2
    assert quiet.db == pytest.approx(10 * math.log10(ratio.item()), abs=5), "less what chance gives"
    assert loud.db - quiet.db == pytest.approx(20 * math.log10(4), abs=2)
