"""Videos read by PyAV: their headers, and frames in order, as they are stored."""

from itertools import islice
from pathlib import Path

import numpy as np

from ablate.data.prepare import Misfit
from ablate.data.resize import resize
from ablate.slots import Pixels, Resize


def check_pyav(level: str) -> None:
    """Raise ValueError, with the way to install it, if PyAV is missing."""
    try:
        import av  # noqa: F401
    except ModuleNotFoundError:
        raise ValueError(f"data/{level} needs PyAV: pip install 'ablate-vae[video]'") from None


def video_shape(path: Path) -> tuple[int, int, int]:
    """Frames, height and width of a video by its header; 0 frames where it does not say.

    Raises what PyAV raises for a damaged file, and Misfit for one without pictures.
    """
    import av

    with av.open(str(path)) as container:
        if not container.streams.video:
            raise Misfit("without a stream of pictures")
        stream = container.streams.video[0]
        return stream.frames, stream.height, stream.width


def read_clip(path: Path, frames: range, short_side: int, method: Resize) -> Pixels:
    """The frames of a video whose numbers are in `frames`, `t h w 3`; a shorter video gives those that it has.

    Each is resized as it is read, to bound the memory. Raises what PyAV raises for a damaged file, and Misfit for one
    without pictures or whose frames differ in size.
    """
    import av

    with av.open(str(path)) as container:
        if not container.streams.video:
            raise Misfit("without a stream of pictures")
        stored = islice(container.decode(container.streams.video[0]), frames.start, frames.stop, frames.step)
        clip = [resize(np.asarray(frame.to_ndarray(format="rgb24"), np.uint8), short_side, method) for frame in stored]
    if len({frame.shape for frame in clip}) > 1:
        raise Misfit("of frames that differ in size")
    if not clip:
        raise Misfit("without a frame")
    return np.stack(clip)
