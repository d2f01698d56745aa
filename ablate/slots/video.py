"""What the slots of video models are given and must return: `temporal_conv`, `branch`, `context`, and `norm` there.

Features are `b c t h w`. A clip is its first frame followed by whole groups of frames; the latent has one frame for the
first and one for each group. Where g frames of a group are left at some level of the model, a clip has 1 + g n frames.

| slot | called as | returns |
|---|---|---|
| temporal_conv | `build(config, before, after, group, padding)` | module `forward(x, past)`, `b i t h w -> b o t h w` |
| branch | `build(config, temporal_conv, padding)` | `Branch` |
| context | `build(config, padding)` | `Context` |
| norm | `build(config, channels, None, halves)` | module `forward(h)` |

`past` is a `Past` where a clip is given in chunks, else None. A module that needs earlier frames keeps them in it: the
result for a clip in chunks is that for the whole clip.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from ablate.slots.training import Padding, Posterior


class Past:
    """The frames that modules remember while a clip is given to the model chunk by chunk.

    The first chunk begins with the clip's first frame; everything after it is whole groups. Modules get None instead of
    a `Past` where they see the whole clip at once.
    """

    def __init__(self) -> None:
        self.begun = False
        """Whether an earlier chunk held the clip's first frame."""
        self._frames: dict[nn.Module, Tensor] = {}

    def keep(self, module: nn.Module, frames: Tensor) -> None:
        """Remember the last frames that a module was given; they replace those of the chunk before."""
        self._frames[module] = frames.clone()  # not a view, which would keep the whole chunk

    def recall(self, module: nn.Module) -> Tensor:
        """The frames that a module kept. Raises KeyError if it kept none."""
        return self._frames[module]


@runtime_checkable
class Chunked(Protocol):
    """A video model that takes clips in chunks; see `components/model/video_kl.py`.

    The chunks of a clip give what the whole clip gives. Raises ValueError where the levels inside do not allow that.
    """

    groups: int

    def encode_chunks(self, chunks: Iterable[Tensor]) -> Iterator[Posterior]:
        """The posterior of each chunk `b 3 t h w`."""

    def decode_chunks(self, latents: Iterable[Tensor]) -> Iterator[Tensor]:
        """The frames of each chunk of latents `b z t h w`."""


def split_first(x: Tensor, past: Past | None) -> tuple[Tensor, Tensor]:
    """The clip's first frame, if this chunk holds it, and the frames of whole groups; either may have no frames."""
    first = 0 if past is not None and past.begun else 1
    return x[:, :, :first], x[:, :, first:]


TemporalConv = Callable[[int, int, int], nn.Module]
"""Makes a 3 x 3 x 3 convolution `forward(x, past)` from the channels before and after and the frames of a group.

It sees no frames after the end of the group. `init: inflate` needs its attribute `inherits_at`: the index in time of
the tap that sees the frame itself.
"""


class Branch:
    """How channels are divided into `halves` of different duties: 1 or 2."""

    halves: int

    @property
    def half(self) -> "Branch":
        """The branch, of one half, of the image VAE that can fill each half."""
        raise TypeError(f"{type(self).__name__} does not define half")

    def conv(self, before: int, after: int, group: int) -> nn.Module:
        """A convolution `forward(x, past)`: 3 x 3 x 3, or frame by frame 3 x 3 where a group is one frame."""
        raise TypeError(f"{type(self).__name__} does not define conv")

    def halve_time(self, channels: int) -> nn.Module:
        """A module `forward(x, past)`: within groups two frames become one; the clip's first frame stays."""
        raise TypeError(f"{type(self).__name__} does not define halve_time")

    def double_time(self, channels: int) -> nn.Module:
        """A module `forward(x, past)`: within groups one frame becomes two; the clip's first frame stays."""
        raise TypeError(f"{type(self).__name__} does not define double_time")

    def moments(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance, each `b z t h w`, from the encoder's last features `b 2z t h w`."""
        raise TypeError(f"{type(self).__name__} does not define moments")

    def frames(self, y: Tensor, group: int, past: Past | None) -> Tensor:
        """Frames `b 3 t h w` from the decoder's last features `b 3*halves t h w`; `group`: frames of a group."""
        raise TypeError(f"{type(self).__name__} does not define frames")


@dataclass(frozen=True)
class Context:
    """How far the coarsest level sees in space.

    `head(before, after)`: makes the encoder's last convolution, `forward(x)`, `b before t h w -> b after t h w`, frame
    by frame. `attend_everywhere`: self-attention after every block of the coarsest level, not only in the middle.
    """

    head: Callable[[int, int], nn.Module]
    attend_everywhere: bool = False


@dataclass(frozen=True)
class VideoLayers:
    """The levels that the encoder or the decoder of a video model is built from.

    `norm(channels, halves)`: makes a module `forward(h)`.
    """

    padding: Padding
    norm: Callable[[int, int], nn.Module]
    branch: Branch
    context: Context


def group_of(frames: int, groups: int) -> int:
    """How many groups of `groups` frames follow the first frame of a clip.

    Raises ValueError, naming the nearest valid lengths, where `frames` is not 1 + a multiple of `groups`.
    """
    if (frames - 1) % groups or frames < 1:
        below = 1 + (frames - 1) // groups * groups
        nearest = " or ".join(str(count) for count in (below, below + groups) if count > 0)
        raise ValueError(f"model: clips have 1 + {groups} k frames, found {frames}; the nearest are {nearest}")
    return (frames - 1) // groups


def cat_frames(parts: list[Tensor]) -> Tensor:
    """Consecutive frames `b c t h w` in one tensor; parts without frames are left out."""
    filled = [part for part in parts if part.shape[2]]
    return torch.cat(filled, 2) if len(filled) > 1 else filled[0]
