"""Any folder of videos, searched recursively: mp4, mov, mkv, webm, avi, m4v, gif.

PyAV reads the first video stream of each file from its start, all frames as they are stored: rotation flags are
ignored, and frames of a variable rate count alike. The held-out videos come from a separate folder, or are the given
share of all, as in `folder`.
"""

from functools import partial
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, PositiveInt, model_validator

from ablate.components.data._files import Source
from ablate.components.data._video import read_clip
from ablate.data.prepare import Misfit, check_pictures
from ablate.slots import ClipSettings, Picture, Split

SUFFIXES = {".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v", ".gif"}


class Config(ClipSettings):
    """`path`: the folder. `heldout_fraction`: the share of it that is held out, unless `heldout_path` names a folder.

    `heldout_path`: the folder of the held-out videos; it may lie inside `path`, and is not used for training then.
    `length`: the number of frames that are read of a training video; clips are drawn from them. `damaged_share`: up to
    this share of the files of a split may be undecodable; they are skipped and counted. Videos that are too short or
    too small, or whose frames differ in size, are errors.
    """

    path: str
    heldout_path: str | None = None
    heldout_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.1
    length: PositiveInt = 64
    damaged_share: Annotated[float, Field(ge=0, lt=1)] = 0.05

    @property
    def tolerated(self) -> float:
        return self.damaged_share

    @model_validator(mode="after")
    def _long_enough(self) -> Self:
        if self.length < self.frames:
            raise ValueError(f"length ({self.length} frames) is less than frames ({self.frames})")
        return self

    def preflight(self) -> None:
        """Raise ValueError if PyAV or a folder is missing, or naming the videos that are unreadable or do not fit."""
        from ablate.components.data._video import check_pyav

        check_pyav("video_folder")
        check_pictures("video_folder", self, self.frame_size)

    def frame_size(self, path: Path, split: Split) -> tuple[int, int]:
        """Height and width of a video's frames by its header. Raises Misfit if the header says it is too short."""
        from ablate.components.data._video import video_shape

        frames, height, width = video_shape(path)
        least = self.frames if split == "train" else self.heldout_frames
        if 0 < frames < least:  # 0 where the header does not say
            raise Misfit(f"shorter than the clip of {least} frames")
        return height, width


def build(config: Config, split: Split) -> list[Picture]:
    """The videos of a split, sorted by relative name.

    Raises ValueError if a folder is missing or holds too few videos.
    """
    files = Source("video_folder", "video", SUFFIXES).files(
        config.path, config.heldout_path, config.heldout_fraction, split
    )
    if split == "train":
        read = partial(read_clip, frames=range(config.length), short_side=config.resize_to, method=config.resize)
    else:
        read = partial(read_clip, frames=range(config.heldout_frames), short_side=0, method="none")
    return [Picture(name, partial(read, path), path) for name, path in files]
