"""Any folder of pictures, searched recursively: png, jpg, jpeg, webp, bmp, tif, tiff.

Held out are the pictures of a folder of their own, or the given share of all, those whose names hash lowest: so few
pictures change sides when others come or go.
"""

import hashlib
from functools import partial
from pathlib import Path
from typing import Annotated

from pydantic import Field

from ablate.data import DataSettings, Picture, Split, check_pictures, read_rgb

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
    root = Path(config.path).expanduser()
    if config.heldout_path is None:
        names = _share(_names(root), config.heldout_fraction, split, root)
    else:
        heldout = Path(config.heldout_path).expanduser()
        if split == "heldout":
            root, names = heldout, _names(heldout)
        else:
            names = [name for name in _names(root) if not (root / name).resolve().is_relative_to(heldout.resolve())]
    return [Picture(name, partial(read_rgb, root / name), root / name) for name in names]


def _names(root: Path) -> list[str]:
    if not root.is_dir():
        raise ValueError(f"data/folder: there is no folder {root}")
    files = [path for path in root.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file()]
    if not files:
        raise ValueError(f"data/folder: {root} holds no pictures ({', '.join(sorted(SUFFIXES))})")
    return sorted(path.relative_to(root).as_posix() for path in files)


def _share(names: list[str], fraction: float, split: Split, root: Path) -> list[str]:
    if len(names) < 2:
        raise ValueError(f"data/folder: {root} holds one picture; training and held-out need one each")
    count = min(max(1, round(fraction * len(names))), len(names) - 1)
    by_hash = sorted(names, key=lambda name: hashlib.sha256(name.encode()).digest())
    return sorted(by_hash[:count] if split == "heldout" else by_hash[count:])
