"""Pictures to probe a checkpoint with: our held-out photographs, or the pictures in a folder."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from ablate.data.prepare import heldout_side
from ablate.data.resize import reduced_shape, resize, spread
from ablate.slots import registry
from ablate.slots.data import DataSettings, Picture, Pixels

SIDE = 256
"""The side of the pictures in px, unless the stride does not divide it."""


CROPS = 4
"""Crops of each held-out photograph."""


MAX_PICTURES = 64
"""The largest number of pictures that is used of a folder."""


def side_for(stride: int) -> int:
    """256 px, or the next multiple of the stride."""
    return -(-SIDE // stride) * stride


def pictures(folder: Path | None, side: int, report: Callable[[str], None]) -> Pixels:
    """Square crops `n 3 side side` of pictures, downscaled with Pillow's bicubic filter, never enlarged.

    Without a folder: four crops of each held-out photograph of `data: photos`. With one: the centre of each picture in
    it and its subfolders; if there are more than 64, of 64 spread evenly over the sorted names. `report` gets a message
    about pictures that are left out. Raises ValueError if none is left, and for a picture that cannot be read.
    """
    if folder is None:
        chosen = registry.build("data", "photos", {}, "heldout")
        count = CROPS
    else:
        settings = {"path": str(folder), "heldout_path": str(folder)}
        chosen = registry.build("data", "folder", settings, "heldout")
        count = 1
    if len(chosen) > MAX_PICTURES:
        report(f"{MAX_PICTURES} of {len(chosen)} pictures, spread evenly over their names")
        chosen = [chosen[i * len(chosen) // MAX_PICTURES] for i in range(MAX_PICTURES)]
    crops = [pixels for picture in chosen if (pixels := _crops(picture, count, side)) is not None]
    if not crops:
        raise ValueError(f"all {len(chosen)} pictures are smaller than {side} px; pictures are never enlarged")
    if len(crops) < len(chosen):
        report(f"{len(chosen) - len(crops)} of {len(chosen)} pictures left out: smaller than {side} px")
    return np.concatenate(crops)


def _crops(picture: Picture, count: int, side: int) -> Pixels | None:
    """Crops `count 3 side side` of a picture, spread over it; None if it is too small."""
    try:
        pixels = picture.load()
    except Exception as error:  # decoders raise all kinds of errors for a damaged file
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
