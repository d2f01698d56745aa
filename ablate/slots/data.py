"""What data levels are given and what they return."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import PositiveInt, model_validator

from ablate.slots.settings import Settings

Pixels = NDArray[np.uint8]
"""A picture `h w 3` or a video `t h w 3`, RGB from 0 to 255."""


Resize = Literal["none", "nearest", "bilinear", "bicubic", "area"]


class Misfit(ValueError):
    """Raised for a picture that cannot be used. The message completes the sentence "the picture is ..."."""


Split = Literal["train", "heldout"]


SPLITS: tuple[Split, Split] = ("train", "heldout")


GROUP = 4
"""Frames of a video that share a latent frame. The first frame has one of its own, so clips have 1 + 4k frames."""


@dataclass(frozen=True)
class Motion:
    """The motion of a clip: where each pixel of frames 1 and on was in the frame before.

    `flow`: `2 t-1 h w`, the way there in px, across and down. `visible`: `t-1 h w`, whether a single surface covers the
    pixel and is also seen there; elsewhere the flow is that of the surface in front. Motion of n clips has an axis n
    before these.
    """

    flow: NDArray[np.float32]
    visible: NDArray[np.bool_]


@dataclass(frozen=True)
class Picture:
    """One source picture or video.

    `name`: unique within its data level. `load()`: the picture `h w 3` or the video `t h w 3`, RGB; the same each time.
    `path`: its file, if any, for the cache's key and for checking the header. `motion()`: of a held-out video, where it
    is known; such a video is neither reduced nor cropped.
    """

    name: str
    load: Callable[[], Pixels]
    path: Path | None = None
    motion: Callable[[], Motion] | None = None


class DataSettings(Settings):
    """Base of the `Config` of data levels of pictures: the settings that all share. Lengths are in px.

    `crop`: side of training crops. `resize`: the filter that reduces training pictures before they are cropped,
    antialiased unless `nearest` (VIVAT, section 5.1). `resize_to`: their short side afterwards. `flip`: mirror half of
    the training crops. `heldout_size`, `heldout_count`: side and number of held-out crops, which are always reduced by
    `bicubic`.
    """

    crop: PositiveInt = 64
    resize: Resize = "bicubic"
    resize_to: PositiveInt = 128
    flip: bool = True
    heldout_size: PositiveInt = 128
    heldout_count: PositiveInt = 64

    @property
    def tolerated(self) -> float:
        """The share of each split's files that may be damaged; these are left out."""
        return 0.0

    @property
    def clip_length(self) -> int:
        """Frames of a training clip; 1 for pictures."""
        return 1

    @property
    def heldout_length(self) -> int:
        """Frames of a held-out clip; 1 for pictures."""
        return 1

    @property
    def known_motion(self) -> bool:
        """Whether held-out clips come with their motion (`Picture.motion`)."""
        return False

    @model_validator(mode="after")
    def _crop_fits(self) -> Self:
        if self.resize != "none" and self.resize_to < self.crop:
            raise ValueError(f"resize_to ({self.resize_to} px) is smaller than crop ({self.crop} px)")
        return self


class ClipSettings(DataSettings):
    """Base of the `Config` of data levels of videos: `DataSettings`, which hold for each frame, and lengths in frames.

    `frames`: of a training clip, 1 + 4k. With 1, training crops and held-out crops are pictures, single frames of the
    videos. `heldout_frames`: of a held-out clip. The `balance` probe needs 1 + 4k + 3 to place its windows.
    """

    frames: PositiveInt = 9
    heldout_frames: PositiveInt = 20

    @property
    def clip_length(self) -> int:
        return self.frames

    @property
    def heldout_length(self) -> int:
        return self.heldout_frames if self.frames > 1 else 1

    @model_validator(mode="after")
    def _whole_groups(self) -> Self:
        if (self.frames - 1) % GROUP:
            below = (self.frames - 1) // GROUP * GROUP + 1
            raise ValueError(
                f"frames must be 1 + {GROUP}k, found {self.frames}; the nearest are {below} and {below + GROUP}"
            )
        if self.heldout_frames < self.frames:
            raise ValueError(f"heldout_frames ({self.heldout_frames}) is less than frames ({self.frames})")
        return self
