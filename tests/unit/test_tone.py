"""The map from a source to the tones of a reconstruction: exact where it must be, robust where a defect is local."""

import math

import pytest
import torch
from torch import Tensor

from ablate.components.probe._tone import lines, toned, tones
from ablate.slots.probe import Subject
from tests.support.planted import (
    Defect,
    Fake,
    blob,
    blur,
    clipping,
    collapsed,
    contrast,
    corners,
    frame,
    hue,
    none,
    offset,
    photographs,
    saturation,
    tint,
)

torch.set_num_threads(1)


def misfit(defect: Defect, side: int = 64) -> float:
    """Root mean square in gl of what the map leaves of a defect."""
    x = photographs(side)
    return 255 * toned(x, defect(x)).residual(defect(x)).square().mean().sqrt().item()


def test_what_is_the_same_stays_the_same_to_the_last_bit() -> None:
    x = photographs(64)
    found = toned(x, x)
    assert torch.equal(found.image, x)
    assert found.gain.eq(1).all()


@pytest.mark.parametrize("side", [48, 64, 128])
@pytest.mark.parametrize(
    "defect",
    [contrast(0.3), contrast(1.5), offset(20), tint(2), saturation(1), hue(60), hue(180), collapsed(0.5), collapsed(1)],
    ids=["fainter", "stronger", "offset", "tint", "grey", "hue", "opposite", "half", "mean"],
)
def test_linear_maps_of_colours_are_found_exactly(defect: Defect, side: int) -> None:
    assert misfit(defect, side) < 0.1


def test_each_image_may_have_a_contrast_of_its_own() -> None:
    x = photographs(64)
    gains = torch.linspace(0.2, 1.2, len(x))
    found = toned(x, x * gains[:, None, None, None])
    assert found.gain.numpy() == pytest.approx(gains.numpy(), abs=0.05)


@pytest.mark.parametrize(
    ("defect", "most"), [(clipping(0.1), 2), (clipping(0.2), 2), (lambda y: y**2.2, 2), (lambda y: y.sqrt(), 3.5)]
)
def test_curves_are_found_as_far_as_eight_pieces_can(defect: Defect, most: float) -> None:
    x = photographs(64)
    untreated = 255 * (defect(x) - x).square().mean().sqrt()
    assert misfit(defect) < most < untreated / 3


@pytest.mark.parametrize("gain", [1.0, 0.49, 0.3])
@pytest.mark.parametrize(
    "local", [blob(0.6), blob(-0.3), corners(16), frame(1)], ids=["spot", "hole", "corners", "frame"]
)
def test_what_is_local_does_not_change_the_map(local: Defect, gain: float) -> None:
    x = photographs(64)
    found = toned(x, local(contrast(gain)(x)))
    assert found.gain.numpy() == pytest.approx(gain, abs=0.02)
    assert 255 * (found.image - contrast(gain)(x)).square().mean().sqrt() < 1.5


@pytest.mark.parametrize("sigma", [0.8, 1.5, 3.0])
def test_blur_is_left_out_of_the_map(sigma: float) -> None:
    x = photographs(128)
    found = toned(x, contrast(0.5)(blur(sigma)(x)))
    assert found.gain.numpy() == pytest.approx(0.5, rel=0.03)


def test_an_image_that_is_not_finite_leaves_the_others_alone() -> None:
    x = photographs(64)
    y = x.clone()
    y[3, 0, 5, 5] = math.nan
    found = toned(x, y)
    assert found.image[3].isnan().all()
    assert found.gain[3].isnan()
    rest = [i for i in range(len(x)) if i != 3]
    assert torch.equal(found.image[rest], x[rest])


@pytest.mark.parametrize("side", [8, 16, 24])
def test_small_images_and_single_ones_are_survived(side: int) -> None:
    for x in (torch.rand(4, 3, side, side), torch.rand(1, 3, side, side), torch.full((2, 3, side, side), 0.5)):
        found = toned(x, 0.5 * x)
        assert found.image.isfinite().all()
        assert found.gain.isfinite().all()


def test_lines_are_those_of_most_points() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(4, 3, 400, generator=generator, dtype=torch.float64)
    y = -0.4 * x + 0.1 + 0.005 * torch.randn(x.shape, generator=generator, dtype=torch.float64)
    y[..., :80] += 0.7  # a fifth of the points
    found = lines(x, y)
    assert found.slope.numpy() == pytest.approx(-0.4, abs=0.01)
    assert found.intercept.numpy() == pytest.approx(0.1, abs=0.005)


def test_the_map_is_made_once_for_all_probes() -> None:
    made: list[Tensor] = []
    subject = Subject(Fake(lambda y: made.append(y) or none(0)(y)), photographs(64))  # type: ignore[func-returns-value]
    assert tones(subject) is tones(subject)
    assert len(made) == len(subject.images) // subject.batch
