"""Any folder of pictures, searched recursively: png, jpg, jpeg, webp, bmp, tif, tiff.

The held-out pictures come from a separate folder, or are the given share of all pictures whose names have the lowest
hashes, so that few pictures change splits when others are added or removed.
"""

from typing import Annotated

from pydantic import Field

from ablate.components.data._files import Source
from ablate.data.picture import PictureFile
from ablate.data.prepare import check_pictures
from ablate.slots import DataSettings, Picture, Split

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"}


class Config(DataSettings):
    """`path`: the folder. `heldout_fraction`: the share of it that is held out, unless `heldout_path` names a folder.

    `heldout_path`: the folder of the held-out pictures; it may lie inside `path`, and is not used for training then.
    """

    path: str
    heldout_path: str | None = None
    heldout_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.1

    def preflight(self) -> None:
        """Raise ValueError if a folder is missing or empty, or naming the pictures that are unreadable or too small."""
        check_pictures("folder", self)


def build(config: Config, split: Split) -> list[Picture]:
    """The pictures of a split, sorted by relative name.

    Raises ValueError if a folder is missing or holds too few pictures.
    """
    files = Source("folder", "picture", SUFFIXES).files(
        config.path, config.heldout_path, config.heldout_fraction, split
    )
    return [Picture(name, PictureFile(path), path) for name, path in files]
