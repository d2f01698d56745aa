"""Picture files as 8-bit RGB: how greyscale, transparent, 16-bit, CMYK and turned pictures are read, and counted."""

from collections import Counter
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from ablate.slots.data import Misfit, Pixels

if TYPE_CHECKING:
    from PIL import Image

ORIENTATION = 0x0112
"""The EXIF tag (CIPA DC-008, table 4) that says how a picture is to be turned; 1 is upright."""


class Inside(Protocol):
    """A picture file within another file, `path`."""

    @property
    def path(self) -> Path: ...

    def read(self) -> BytesIO:
        """The file, read into memory."""


@dataclass(frozen=True)
class Stored:
    """A file within another one that holds it unchanged: `size` bytes of `path` from byte `start` on."""

    path: Path
    start: int
    size: int

    def read(self) -> BytesIO:
        """The file, read into memory."""
        with self.path.open("rb") as file:
            file.seek(self.start)
            return BytesIO(file.read(self.size))


@dataclass
class PictureFile:
    """Reads a picture file when it is called. `changes`: what reading changed, once it has been read."""

    place: Path | Inside
    changes: tuple[str, ...] = field(default=(), init=False)

    def __call__(self) -> Pixels:
        """As `read_rgb`."""
        with open_picture(self.place) as image:
            self.changes = changes(image)
            return _rgb(image)


def read_rgb(path: Path) -> Pixels:
    """Read a picture file as `h w 3` uint8, upright according to its EXIF orientation.

    What is transparent lies on white; 16 bits are scaled to 8; CMYK is converted without a colour profile. Raises
    Pillow's errors for a damaged file, Misfit for one of 32 bits per channel.
    """
    return PictureFile(path)()


def read_header(place: Path | Inside) -> tuple[int, int, tuple[str, ...]]:
    """Height and width of a picture file as it is stored, and what reading will change. Raises as `read_rgb` does."""
    with open_picture(place) as image:
        return image.height, image.width, changes(image)


def open_picture(place: Path | Inside) -> "Image.Image":
    """Open a picture file. Raises Misfit for one of 32 bits per channel."""
    from PIL import Image

    image = Image.open(place if isinstance(place, Path) else place.read())
    if image.mode == "F" or (image.mode == "I" and image.format != "PNG"):  # older Pillow: 16-bit PNGs are "I"
        raise Misfit("of 32 bits per channel, whose range is not known; save them with 8 or 16")
    return image


def changes(image: "Image.Image") -> tuple[str, ...]:
    """What makes a picture other than upright 8-bit RGB, by its header; none for one that is."""
    stored = getattr(image, "tile", ())  # how files of pixels are laid out, such as "RGB;16B"
    found = {
        "greyscale": image.mode in {"1", "L", "LA", "La"} or _is_grey16(image),
        "with transparency, on white": image.has_transparency_data,
        "of 16 bits, scaled to 8": _is_grey16(image) or any(";16" in str(tile[3]) for tile in stored),
        "CMYK": image.mode == "CMYK",
        "turned upright by EXIF": image.getexif().get(ORIENTATION, 1) != 1,
    }
    return tuple(name for name, holds in found.items() if holds)


def count_changes(counts: Counter[str]) -> str:
    """How many pictures were changed in which way, as a clause; empty if none were."""
    listed = ", ".join(f"{number} {name}" for name, number in sorted(counts.items()))
    return f"read as 8-bit RGB: {listed}" if listed else ""


def _is_grey16(image: "Image.Image") -> bool:
    return image.mode.startswith("I")


def _rgb(image: "Image.Image") -> Pixels:
    from PIL import Image, ImageOps

    upright = ImageOps.exif_transpose(image)
    if _is_grey16(image):
        grey: Pixels = (np.asarray(upright) / 257).round().clip(0, 255).astype(np.uint8)
        return np.repeat(grey[..., None], 3, 2)
    if image.has_transparency_data:
        layer = upright.convert("RGBA")
        upright = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    return np.asarray(upright.convert("RGB"))
