"""The protocols of the slots that only video models have: `temporal_conv`, `branch`, `context`.

Features are `b c t h w`. A clip is its first frame and then whole groups of frames, each of which the model's latent
holds in one frame. Where g frames of features are left of a group, a clip has 1 + g n of them.

| slot | build(config, ...) | gives |
|---|---|---|
| temporal_conv | `(before, after, group, padding)` | module `forward(x, past)`, `b i t h w -> b o t h w`, 3 x 3 x 3 |
| branch | `(temporal_conv, padding)` | `Branch` |
| context | `(padding)` | `Context` |
| norm | `(channels, None, halves)` | module `forward(h)` |
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from ablate.slots.training import Padding, Posterior


class Past:
    """What a model that is given a clip chunk by chunk keeps of the frames before.

    The first chunk begins with the clip's first frame; whole groups are all that follows. Modules are given None in its
    place where they see the whole clip at once.
    """

    def __init__(self) -> None:
        self.begun = False
        """Whether the clip's first frame is over."""
        self._frames: dict[nn.Module, Tensor] = {}

    def keep(self, module: nn.Module, frames: Tensor) -> None:
        """Remember the last frames that a module was given, in place of those of the chunk before."""
        self._frames[module] = frames.clone()  # not a view, which would keep the whole chunk

    def recall(self, module: nn.Module) -> Tensor:
        return self._frames[module]


@runtime_checkable
class Chunked(Protocol):
    """A video model that clips can be given to in chunks; see `components/model/video_kl.py`."""

    groups: int

    def encode_chunks(self, chunks: Iterable[Tensor]) -> Iterator[Posterior]:
        """The posterior of each chunk."""

    def decode_chunks(self, latents: Iterable[Tensor]) -> Iterator[Tensor]:
        """The frames of each chunk of latents."""


def split_first(x: Tensor, past: Past | None) -> tuple[Tensor, Tensor]:
    """The clip's first frame, if it is in this chunk, and the frames of whole groups; either may be empty."""
    first = 0 if past is not None and past.begun else 1
    return x[:, :, :first], x[:, :, first:]


TemporalConv = Callable[[int, int, int], nn.Module]
"""Channels before and after, frames of a group: a 3 x 3 x 3 convolution `forward(x, past)` that looks ahead at most to
the end of the group."""


class Branch:
    """How channels are divided into halves of different duties, 1 or 2 of them."""

    halves: int

    @property
    def half(self) -> "Branch":
        """The branch of the image VAE that can fill each half."""
        raise TypeError(f"{type(self).__name__} does not define half")

    def conv(self, before: int, after: int, group: int) -> nn.Module:
        """A 3 x 3 (x 3) convolution, `forward(x, past)`; frame by frame where a group is one frame."""
        raise TypeError(f"{type(self).__name__} does not define conv")

    def halve_time(self, channels: int) -> nn.Module:
        """`forward(x, past)`: two frames become one, within groups; the first frame of the clip stays."""
        raise TypeError(f"{type(self).__name__} does not define halve_time")

    def double_time(self, channels: int) -> nn.Module:
        """`forward(x, past)`: one frame becomes two, within groups; the first frame of the clip stays."""
        raise TypeError(f"{type(self).__name__} does not define double_time")

    def moments(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance, each `b z t h w`, of what the encoder ends in, `b 2z t h w`."""
        raise TypeError(f"{type(self).__name__} does not define moments")

    def frames(self, y: Tensor, group: int, past: Past | None) -> Tensor:
        """Frames `b 3 t h w` of what the decoder ends in, three channels for each half."""
        raise TypeError(f"{type(self).__name__} does not define frames")


@dataclass(frozen=True)
class Context:
    """How far the coarsest level sees in space.

    `head`: channels before and after to the encoder's last convolution, `forward(x)`, frame by frame.
    `attend_everywhere`: self-attention after every block of the coarsest level, not in the middle alone.
    """

    head: Callable[[int, int], nn.Module]
    attend_everywhere: bool = False


@dataclass(frozen=True)
class VideoLayers:
    """What half of a video model is built from. `norm`: channels and halves to a module `forward(h)`."""

    padding: Padding
    norm: Callable[[int, int], nn.Module]
    branch: Branch
    context: Context


def group_of(frames: int, groups: int) -> int:
    """How many groups of `groups` frames follow the first of a clip. Raises ValueError naming the nearest counts."""
    if (frames - 1) % groups or frames < 1:
        below = 1 + (frames - 1) // groups * groups
        nearest = " or ".join(str(count) for count in (below, below + groups) if count > 0)
        raise ValueError(f"model: clips have 1 + {groups} k frames, found {frames}; the nearest are {nearest}")
    return (frames - 1) // groups


def cat_frames(parts: list[Tensor]) -> Tensor:
    """Consecutive frames in one tensor, parts without frames left out."""
    found = [part for part in parts if part.shape[2]]
    return torch.cat(found, 2) if len(found) > 1 else found[0]
