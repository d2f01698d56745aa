"""Moving dead leaves: generated clips of discs that occlude one another over a panning background, with exact flow.

Every surface moves as a whole, and its texture of plane waves is defined between pixels too, so the flow and the
occlusions are known exactly. `texture: leaves` has fine detail of equal power in every octave, like photographs.
`smooth` has little to encode: two flat discs on a field of slowly varying colour. It is for models that are too small
or too briefly trained to reproduce texture, which would show only blur on textured clips.

Speeds of clips are uniform, like those of MotionHD (IV-VAE, arXiv 2411.06449), since natural videos mostly hold little
motion. Some clips stand still for a while.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveInt, model_validator

from ablate.slots import ClipSettings, Motion, Picture, Pixels, Split

Floats = NDArray[np.float64]


HARDNESS = 3.0  # slope of the logistic profile of edges, 1/px


ALONE = 0.99  # a surface that covers more of a pixel than this counts as the only one in it


LEAVES = 12
LEAF_WAVES = 32  # plane waves of a textured surface


FLAT_DISCS = 2
FIELD_WAVES = 6  # plane waves of the smooth background


class Config(ClipSettings):
    """`count`: training clips. `length`: their frames. `size`: height and width in px, of held-out clips too.

    `texture`: of the surfaces; `smooth` has little to encode, see above.

    `speed`: px per frame of the fastest surface in the fastest clip. A clip's own speed is uniform between 0 and this;
    its discs move at half of it or more, the background at less than half. `still`: the share of clips that stand still
    for a while, at most half of their length. `seed`: what all clips are drawn from; the held-out clips are
    `heldout_count` others.
    """

    count: PositiveInt = 64
    size: Annotated[int, Field(ge=8)] = 128
    length: PositiveInt = 24
    texture: Literal["leaves", "smooth"] = "leaves"
    speed: Annotated[float, Field(ge=0)] = 4.0
    still: Annotated[float, Field(ge=0, le=1)] = 0.25
    seed: Annotated[int, Field(ge=0)] = 0

    @property
    def known_motion(self) -> bool:
        return True

    @model_validator(mode="after")
    def _fits(self) -> "Config":
        if self.size < self.crop or self.size != self.heldout_size:
            raise ValueError(
                f"size ({self.size} px) must be that of held-out clips, heldout_size ({self.heldout_size} px), and no "
                f"smaller than crop ({self.crop} px)"
            )
        if self.length < self.frames:
            raise ValueError(f"length ({self.length} frames) is less than frames ({self.frames})")
        return self


@dataclass(frozen=True)
class Surface:
    """A disc of `radius` px (a plane if infinite), whose centre in each frame is `path` `t 2` (down, across), in px.

    Its colour at an offset p from the centre is `colour` plus the real part of the sum of `amplitude` exp(i `wave` p),
    with `wave` `k 2` in radians per px and `amplitude` `k 3`.
    """

    path: Floats
    radius: float
    colour: Floats
    wave: Floats
    amplitude: NDArray[np.complex128]

    def shade(self, frame: int, y: Floats, x: Floats) -> Floats:
        """The colour `3 h w` at rows `y` and columns `x` of a frame."""
        down = y - self.path[frame, 0]
        across = x - self.path[frame, 1]
        rows = np.exp(1j * np.outer(down, self.wave[:, 0])) * self.amplitude.T[:, None]
        columns = np.exp(1j * np.outer(self.wave[:, 1], across))
        shade: Floats = self.colour[:, None, None] + (rows @ columns).real
        return shade

    def cover(self, frame: int, y: Floats, x: Floats) -> Floats:
        """The share of each pixel `h w` that the surface would cover if nothing were in front of it."""
        if np.isinf(self.radius):
            return np.ones((len(y), len(x)))
        distance = np.hypot((y - self.path[frame, 0])[:, None], x - self.path[frame, 1])
        cover: Floats = 1 / (1 + np.exp(np.clip(HARDNESS * (distance - self.radius), -30, 30)))
        return cover


def build(config: Config, split: Split) -> Iterator[Picture]:
    """The clips of a split; each depends only on the seed, the split, its index and the settings of its scene."""
    heldout = split == "heldout"
    for index in range(config.heldout_count if heldout else config.count):
        draw = partial(
            scene, (config.seed, int(heldout), index), config, config.heldout_frames if heldout else config.length
        )
        yield Picture(
            f"{split}_{index:05d}",
            partial(_render_scene, draw, config.size),
            motion=partial(_move_scene, draw, config.size) if heldout else None,
        )


def scene(key: tuple[int, ...], config: Config, frames: int) -> list[Surface]:
    """The surfaces of a clip, front to back; the last is the background. `key` seeds all random draws."""
    rng = np.random.default_rng(key)
    size = config.size
    times = _times(frames, config.still, rng)
    speed = config.speed * rng.random()
    # discs, front to back
    surfaces = []
    for _ in range(LEAVES if config.texture == "leaves" else FLAT_DISCS):
        start = rng.uniform(0, size, 2)
        velocity = _heading(rng) * speed * rng.uniform(0.5, 1)
        path = size - np.abs((start + velocity * times[:, None]) % (2 * size) - size)  # bounces off the borders
        if config.texture == "leaves":
            radius = _cube_law(size / 12, size / 3, rng)
            surfaces.append(Surface(path, radius, rng.uniform(0.15, 0.85, 3), *_texture(size, rng)))
        else:
            nothing = np.zeros((0, 2)), np.zeros((0, 3), np.complex128)
            surfaces.append(Surface(path, size * rng.uniform(0.12, 0.25), rng.random(3), *nothing))
    # background
    pan = rng.uniform(0, size, 2) + _heading(rng) * speed * rng.uniform(0, 0.5) * times[:, None]
    waves = _texture(size, rng) if config.texture == "leaves" else _field(size, rng)
    return [*surfaces, Surface(pan, np.inf, rng.uniform(0.3, 0.7, 3), *waves)]


def render(surfaces: list[Surface], size: int) -> Pixels:
    """Render a clip `t size size 3`."""
    grid = np.arange(size, dtype=np.float64)
    clip = np.empty((len(surfaces[0].path), size, size, 3), np.uint8)
    for frame, target in enumerate(clip):
        weights = _weights(surfaces, frame, grid, grid)
        picture = sum(
            weight * surface.shade(frame, grid, grid) for weight, surface in zip(weights, surfaces, strict=True)
        )
        target[:] = (255 * np.clip(picture, 0, 1)).round().transpose(1, 2, 0)
    return clip


def motion(surfaces: list[Surface], size: int) -> Motion:
    """Flow and visibility of a clip of `size` px; each pixel moves with the surface that covers most of it."""
    grid = np.arange(size, dtype=np.float64)
    frames = len(surfaces[0].path)
    flow = np.empty((2, frames - 1, size, size), np.float32)
    visible = np.empty((frames - 1, size, size), np.bool_)
    for frame in range(1, frames):
        weights = _weights(surfaces, frame, grid, grid)
        front = weights.argmax(0)
        seen = weights.max(0) > ALONE
        for number in np.unique(front):
            # the pixels of one surface: where they were in the frame before, and whether it was in front there too
            mine = front == number
            path = surfaces[number].path
            down, across = path[frame - 1] - path[frame]
            flow[:, frame - 1, mine] = np.array([[across], [down]])
            y = grid + down
            x = grid + across
            inside = ((y >= 0) & (y <= size - 1))[:, None] & (x >= 0) & (x <= size - 1)
            before = _weights(surfaces, frame - 1, y, x)[number] > ALONE
            visible[frame - 1, mine] = (seen & before & inside)[mine]
    return Motion(flow, visible)


def _render_scene(draw: "partial[list[Surface]]", size: int) -> Pixels:
    return render(draw(), size)


def _move_scene(draw: "partial[list[Surface]]", size: int) -> Motion:
    return motion(draw(), size)


def _weights(surfaces: list[Surface], frame: int, y: Floats, x: Floats) -> Floats:
    """The visible share of each surface in each pixel, `surfaces h w`; the shares of a pixel add up to 1."""
    weights = np.empty((len(surfaces), len(y), len(x)))
    unseen = np.ones((len(y), len(x)))
    for weight, surface in zip(weights, surfaces, strict=True):
        weight[:] = unseen * surface.cover(frame, y, x)
        unseen -= weight
    return weights


def _times(frames: int, still: float, rng: np.random.Generator) -> Floats:
    """The time of each frame; in the share `still` of clips time stops for a while."""
    steps = np.ones(frames - 1)
    stops, where, how_long = rng.random(3)
    if stops < still:
        length = 1 + int(how_long * (frames // 2))
        start = int(where * (frames - length))
        steps[start : start + length] = 0
    return np.concatenate([[0.0], np.cumsum(steps)])


def _heading(rng: np.random.Generator) -> Floats:
    """A unit vector of random direction."""
    angle = rng.uniform(0, 2 * np.pi)
    return np.array([np.sin(angle), np.cos(angle)])


def _cube_law(low: float, high: float, rng: np.random.Generator) -> float:
    """Draw a radius with density r^-3 between the bounds: Lee, Mumford and Huang, IJCV 2001."""
    return float(low / np.sqrt(1 - rng.random() * (1 - (low / high) ** 2)))


def _texture(size: int, rng: np.random.Generator) -> tuple[Floats, NDArray[np.complex128]]:
    """Waves with periods from 3 px to `size`, equally many per octave, that vary mostly lightness and little hue."""
    period = 3 * (size / 3) ** rng.random(LEAF_WAVES)
    lightness = rng.standard_normal((LEAF_WAVES, 1))
    hue = rng.standard_normal((LEAF_WAVES, 3))
    return _waves(period, 0.1 * lightness + 0.02 * hue, rng)


def _field(size: int, rng: np.random.Generator) -> tuple[Floats, NDArray[np.complex128]]:
    """Waves with periods longer than `size`, each in its own colour."""
    return _waves(size * rng.uniform(1.3, 4, FIELD_WAVES), 0.25 * rng.standard_normal((FIELD_WAVES, 3)), rng)


def _waves(period: Floats, amplitude: Floats, rng: np.random.Generator) -> tuple[Floats, NDArray[np.complex128]]:
    """Waves of random direction and phase; their sum has the rms of the amplitudes, however many there are."""
    heading = np.stack([_heading(rng) for _ in period])
    phase = np.exp(2j * np.pi * rng.random((len(period), 1)))
    return 2 * np.pi / period[:, None] * heading, amplitude * phase * np.sqrt(2 / len(period))
