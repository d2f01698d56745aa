"""Pictures to probe a checkpoint with: our held-out photographs, or those of a folder."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from ablate.data.prepare import heldout_side
from ablate.data.resize import reduced_shape, resize, spread
from ablate.slots import registry
from ablate.slots.data import DataSettings, Picture, Pixels

SIDE = 256


CROPS = 4
"""Of each held-out photograph."""


MOST = 64
"""Pictures of a folder that are looked at."""


def side_for(stride: int) -> int:
    """256 px, or the next multiple of the stride."""
    return -(-SIDE // stride) * stride


def pictures(folder: Path | None, side: int, report: Callable[[str], None]) -> Pixels:
    """Square crops `n 3 side side` of pictures that are reduced (Pillow's bicubic filter) and never enlarged.

    Without a folder four of each photograph that `data: photos` holds out, else the centre of each picture in the
    folder and its subfolders: of 64 spread over the names, where there are more. `report` hears what is left out.
    Raises ValueError where nothing is left and for a picture that cannot be read.
    """
    if folder is None:
        found, count = registry.build("data", "photos", {}, "heldout"), CROPS
    else:
        settings = {"path": str(folder), "heldout_path": str(folder)}
        found, count = registry.build("data", "folder", settings, "heldout"), 1
    if len(found) > MOST:
        report(f"{MOST} of {len(found)} pictures, spread over their names")
        found = [found[i * len(found) // MOST] for i in range(MOST)]
    cut = [_crops(picture, count, side) for picture in found]
    crops = [pixels for pixels in cut if pixels is not None]
    if not crops:
        raise ValueError(f"all {len(found)} pictures are smaller than {side} px, and none is enlarged")
    if len(crops) < len(cut):
        report(f"{len(cut) - len(crops)} of {len(cut)} pictures left out: smaller than {side} px")
    return np.concatenate(crops)


def _crops(picture: Picture, count: int, side: int) -> Pixels | None:
    """`count side side` crops of a picture, spread over it; None if it is too small."""
    try:
        pixels = picture.load()
    except Exception as error:  # a damaged file raises whatever its decoder stumbles over
        reason = str(error) if isinstance(error, ValueError) else f"not readable ({type(error).__name__})"
        raise ValueError(f"{picture.path or picture.name} is {reason}") from error
    config = DataSettings(crop=side, resize_to=side, heldout_size=side)
    height, width = pixels.shape[:2]
    short = heldout_side(height, width, count, config)
    if min(reduced_shape(height, width, short, "bicubic")) < side:
        return None
    planes = resize(pixels, short, "bicubic").transpose(2, 0, 1)
    corners = spread(count, planes.shape[1] - side + 1, planes.shape[2] - side + 1)
    return np.stack([planes[:, y : y + side, x : x + side] for y, x in corners])
