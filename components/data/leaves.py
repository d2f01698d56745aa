"""Textured dead leaves: generated pictures of overlapping discs with the statistics of photographs.

Lee, Mumford and Huang, "Occlusion models for natural images", IJCV 2001: discs that occlude one another, with radii
distributed as r^-3, have the power-law spectrum and the heavy-tailed gradients of natural images; noise has only the
spectrum. The leaves are textured as in VibrantLeaves (Achddou, Gousseau and Ladjal, arXiv 2504.10201). A few leaves
carry fine gratings, which are hard for autoencoders.
"""

from collections.abc import Iterator
from functools import partial
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveInt

from ablate.data.prepare import Pixels
from ablate.slots import DataSettings, Picture, Split

Floats = NDArray[np.float32]


COVERAGE = 3.0  # mean number of leaves over a point; exp(-3) = 5 % of the backdrop remains visible


TEXTURED_FROM = 2.0  # radius in px


GRATED_FROM = 6.0  # radius in px
GRATED_SHARE = 0.05


GRATING_PERIODS = (2.5, 8.0)  # px


class Config(DataSettings):
    """`count`: training pictures. `size`: their side in px. `smallest_radius`: in px; larger ones steepen the spectrum.

    `seed`: what all pictures are drawn from; the held-out pictures are `heldout_count` others.
    """

    count: PositiveInt = 64
    size: Annotated[int, Field(ge=16)] = 128
    smallest_radius: Annotated[float, Field(ge=0.5, le=4)] = 1.5
    seed: Annotated[int, Field(ge=0)] = 0

    def preflight(self) -> None:
        """Raise ValueError if the pictures are smaller than the crops."""
        if self.size < max(self.crop, self.heldout_size):
            raise ValueError(
                f"data/leaves: size ({self.size} px) is smaller than crop ({self.crop} px) or heldout_size "
                f"({self.heldout_size} px)"
            )


def build(config: Config, split: Split) -> Iterator[Picture]:
    """The pictures of a split; each depends only on the seed, the split, its index, `size` and `smallest_radius`."""
    for index in range(config.count if split == "train" else config.heldout_count):
        key = (config.seed, int(split == "heldout"), index)
        yield Picture(f"{split}_{index:05d}", partial(render, key, config.size, config.smallest_radius))


def render(key: tuple[int, ...], size: int, smallest_radius: float) -> Pixels:
    """Render one picture `size size 3`, leaf by leaf from front to back."""
    # draw the scene; the order of the draws is part of every picture
    rng = np.random.default_rng(key)
    palette = _palette(rng)
    texture = _texture(2 * size, rng)
    image = np.zeros((3, size, size), np.float32)
    unseen = np.ones((size, size), np.float32)  # the part of each pixel that no leaf covers so far
    discs = _discs(size, smallest_radius, rng)
    colours = palette[rng.integers(len(palette), size=len(discs))] + rng.normal(0, 0.03, (len(discs), 3))
    colours = colours.astype(np.float32)
    offsets = rng.integers(size, size=(len(discs), 2))
    # add what each leaf shows between the leaves in front of it
    for (row, column, radius), colour, offset in zip(discs, colours, offsets, strict=True):
        rows = _box(row, radius, size)
        columns = _box(column, radius, size)
        y = (np.arange(rows.start, rows.stop, dtype=np.float32) - row)[:, None]
        x = np.arange(columns.start, columns.stop, dtype=np.float32) - column
        cover = unseen[rows, columns] * np.clip(radius + 0.5 - np.sqrt(y * y + x * x), 0, 1)
        unseen[rows, columns] -= cover
        shade = colour[:, None, None]
        if radius > TEXTURED_FROM:
            shade = shade + rng.exponential(0.03) * _window(texture, offset, rows, columns)
        if radius > GRATED_FROM and rng.random() < GRATED_SHARE:
            shade = shade + _grating(y, x, rng)
        image[:, rows, columns] += cover * shade
    # fill what is left with the backdrop
    backdrop = palette[0][:, None, None] + 0.04 * texture[:size, :size]
    pixels: Pixels = (255 * np.clip(image + unseen * backdrop, 0, 1)).round().astype(np.uint8)
    return pixels.transpose(1, 2, 0)


def _discs(size: int, smallest_radius: float, rng: np.random.Generator) -> Floats:
    """Rows, columns and radii `n 3` in px of the discs that touch the picture, front to back.

    Radii have density r^-3 up to half the picture's side; centres are uniform, up to half a side outside the picture.
    """
    low = smallest_radius
    high = size / 2
    mean_area = 2 * np.pi * np.log(high / low) / (low**-2 - high**-2)
    count = rng.poisson(COVERAGE * (2 * size) ** 2 / mean_area)
    radii = low / np.sqrt(1 - rng.random(count) * (1 - (low / high) ** 2))
    centres = rng.uniform(-size / 2, 1.5 * size, (count, 2))
    touching = np.abs(centres - size / 2).max(1) < size / 2 + radii - 1
    discs: Floats = np.column_stack([centres, radii])[touching].astype(np.float32)
    return discs


def _box(centre: float, radius: float, size: int) -> slice:
    """The range of pixels that a disc can touch along one axis."""
    return slice(max(0, int(np.ceil(centre - radius - 0.5))), min(size, int(centre + radius + 0.5) + 1))


def _palette(rng: np.random.Generator) -> Floats:
    """Six colours `6 3` around a common one, differing more in lightness than in hue, as in photographs."""
    centre = rng.uniform(0.2, 0.8) + rng.normal(0, 0.1, 3)
    lightness = rng.laplace(0, 0.15, (6, 1))
    colours: Floats = (centre + lightness + rng.normal(0, 0.08, (6, 3))).clip(0.02, 0.98).astype(np.float32)
    return colours


def _texture(size: int, rng: np.random.Generator) -> Floats:
    """Noise `size size` with amplitude 1/f, zero mean and unit variance."""
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size))
    frequency[0, 0] = np.inf
    noise = np.fft.irfft2(np.fft.rfft2(rng.standard_normal((size, size))) / frequency, (size, size))
    texture: Floats = (noise / noise.std()).astype(np.float32)
    return texture


def _window(texture: Floats, offset: NDArray[np.int64], rows: slice, columns: slice) -> Floats:
    """The texture of a leaf, shifted by `offset` so that neighbouring leaves do not continue one another."""
    down, across = offset
    return texture[down + rows.start : down + rows.stop, across + columns.start : across + columns.stop]


def _grating(y: Floats, x: Floats, rng: np.random.Generator) -> Floats:
    """A sinusoid at rows `y` and columns `x`, of random direction, phase, period and contrast."""
    angle, phase = rng.uniform(0, 2 * np.pi, 2)
    wave = 2 * np.pi / rng.uniform(*GRATING_PERIODS)
    contrast = rng.uniform(0.08, 0.25)
    grating: Floats = (contrast * np.sin(wave * (np.sin(angle) * y + np.cos(angle) * x) + phase)).astype(np.float32)
    return grating
