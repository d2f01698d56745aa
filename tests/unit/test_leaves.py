"""Dead leaves: the statistics they are made for, and that each picture is a function of its number."""

import numpy as np
import pytest

from ablate.components.data import leaves
from ablate.components.data.leaves import _discs, _texture, render
from ablate.data.prepare import prepare
from ablate.slots import registry


@pytest.fixture(scope="module")
def pictures():
    return [render((0, 0, index), 128, 1.5) for index in range(24)]


def spectrum_slope(planes):
    """Slope of log power over log frequency, 4 to 50 cycles a picture, of `n s s` under a Hann window."""
    side = planes.shape[-1]
    window = np.hanning(side)[:, None] * np.hanning(side)
    power = (np.abs(np.fft.fft2((planes - planes.mean((1, 2), keepdims=True)) * window)) ** 2).mean(0)
    frequency = np.fft.fftfreq(side, 1 / side)
    ring = np.hypot(frequency[:, None], frequency).round().astype(int)
    rings = np.arange(4, 51)
    return np.polyfit(np.log(rings), np.log([power[ring == r].mean() for r in rings]), 1)[0]


def gradient_kurtosis(planes):
    gradient = np.diff(planes, axis=-1)
    return (gradient**4).mean() / (gradient**2).mean() ** 2


def test_spectrum_and_gradients_are_those_of_photographs(pictures):
    """Photographs: slope -2.0 to -3.2, kurtosis 9 to 41; Gaussian noise of the same slope has kurtosis 3."""
    luma = np.stack(pictures).astype(float).mean(-1)
    assert -3.2 < spectrum_slope(luma) < -2.0
    assert gradient_kurtosis(luma) > 8
    noise = np.stack([_texture(128, np.random.default_rng(i)) for i in range(24)]).astype(float)
    assert spectrum_slope(noise) == pytest.approx(-2, abs=0.1)
    assert gradient_kurtosis(noise) == pytest.approx(3, abs=0.2)


def test_pictures_are_colourful_and_fill_the_range(pictures):
    pixels = np.stack(pictures).astype(float)
    assert 0.15 * 255 < pixels.std() < 0.35 * 255
    assert 0.35 * 255 < pixels.mean() < 0.65 * 255
    assert ((pixels == 0) | (pixels == 255)).mean() < 0.1
    assert np.ptp(pixels, axis=-1).mean() > 10
    assert all(picture.shape == (128, 128, 3) and picture.dtype == np.uint8 for picture in pictures)


def test_radii_follow_the_cube_law_and_cover_the_picture_three_times():
    """Density r^-3: the share above r falls as r^-2. Cover: area of discs centred in the picture over its own."""
    discs = np.concatenate([_discs(256, 1.0, np.random.default_rng(seed)) for seed in range(30)])
    inside = discs[(discs[:, :2] >= 0).all(1) & (discs[:, :2] < 256).all(1)]
    radii = inside[:, 2]
    assert radii.min() >= 1
    for r in (2, 4, 8):
        expected = (r**-2 - 128**-2) / (1 - 128**-2)
        assert abs((radii > r).mean() - expected) < 5 * (expected * (1 - expected) / len(radii)) ** 0.5
    covered = np.pi * (radii.astype(float) ** 2).sum() / (30 * 256**2)
    assert covered == pytest.approx(3.0, rel=0.1)


@pytest.mark.parametrize("radius", [1.9, 4.0, 10.0])
def test_edges_are_antialiased(monkeypatch, radius):
    """A picture of one plain leaf covers each pixel as 16 x 16 samples of the disc do, and pi r^2 in all."""
    disc = np.array([[31.3, 30.8, radius]], np.float32)
    monkeypatch.setattr(leaves, "_discs", lambda *_: disc)
    monkeypatch.setattr(leaves, "_texture", lambda size, _: np.zeros((size, size), np.float32))
    monkeypatch.setattr(leaves, "_palette", lambda _: np.array([[0.1] * 3] + [[0.9] * 3] * 5, np.float32))
    green = render((0, 0, 0), 64, 1.5)[..., 1].astype(float)
    backdrop, colour = green[0, 0], green[31, 31]
    assert colour - backdrop > 100
    cover = (green - backdrop) / (colour - backdrop)
    samples = (np.arange(64 * 16) + 0.5) / 16 - 0.5
    inside = np.hypot(samples[:, None] - 31.3, samples - 30.8) < radius
    assert np.abs(cover - inside.reshape(64, 16, 64, 16).mean((1, 3))).max() < 0.15
    assert cover.sum() == pytest.approx(np.pi * radius**2, rel=0.04)


def test_each_picture_is_a_function_of_its_number(tmp_path):
    settings = {"size": 64, "crop": 32, "resize_to": 64, "heldout_size": 64, "heldout_count": 3}
    few = [p.load() for p in registry.build("data", "leaves", {**settings, "count": 3}, "train")]
    many = {p.name: p for p in registry.build("data", "leaves", {**settings, "count": 9}, "train")}
    assert all(np.array_equal(few[i], many[f"train_{i:05d}"].load()) for i in (2, 0, 1))
    heldout = [p.load() for p in registry.build("data", "leaves", settings, "heldout")]
    other = [p.load() for p in registry.build("data", "leaves", {**settings, "count": 3, "seed": 1}, "train")]
    assert len({picture.tobytes() for picture in few + heldout + other}) == 9
    corpus = prepare("leaves", {**settings, "count": 3}, tmp_path)
    assert np.array_equal(corpus.heldout.transpose(0, 2, 3, 1), heldout)


def test_pictures_smaller_than_the_crops_are_refused():
    config = registry.level("data", "leaves").Config
    config.read({}).preflight()
    with pytest.raises(ValueError, match=r"size \(96 px\) is smaller than crop \(64 px\) or heldout_size \(128 px\)"):
        config.read({"size": 96}).preflight()
