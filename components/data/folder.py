"""Any folder of pictures, searched recursively: png, jpg, jpeg, webp, bmp, tif, tiff.

Held out are the pictures of a folder of their own, or the given share of all, those whose names hash lowest: so few
pictures change sides when others come or go.
"""

from functools import partial
from typing import Annotated

from pydantic import Field

from ablate.components.data._files import Source
from ablate.data.prepare import check_pictures, read_rgb
from ablate.slots import DataSettings, Picture, Split

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"}


class Config(DataSettings):
    """`path`: the folder. `heldout_fraction`: the share of it that is held out, unless `heldout_path` names a folder.

    `heldout_path` may lie inside `path`; its pictures are not trained on.
    """

    path: str
    heldout_path: str | None = None
    heldout_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.1

    def preflight(self) -> None:
        """Raise ValueError if a folder is missing or empty; names and counts unreadable and too small pictures."""
        check_pictures("folder", self)


def build(config: Config, split: Split) -> list[Picture]:
    """The pictures of a split, by relative name. Raises ValueError if a folder is missing or holds too few pictures."""
    files = Source("folder", "picture", SUFFIXES).files(
        config.path, config.heldout_path, config.heldout_fraction, split
    )
    return [Picture(name, partial(read_rgb, path), path) for name, path in files]
