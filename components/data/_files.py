"""Files of a folder, split into training and held-out files."""

import hashlib
import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from ablate.slots import Split


@dataclass(frozen=True)
class Source:
    """How a data level finds its files: by `suffixes`. Errors name the `level` and call a file a `thing`."""

    level: str
    thing: str
    suffixes: Collection[str]

    def files(self, path: str, heldout_path: str | None, fraction: float, split: Split) -> list[tuple[str, Path]]:
        """The files of a split with their relative names, sorted by name.

        The files of `heldout_path` are held out, or without it the share `fraction` of all files whose names have the
        lowest hashes. Raises ValueError if a folder is missing or holds too few files.
        """
        files = self.of(path, heldout_path, split)
        if heldout_path is not None:
            return files
        kept = {*self.share([name for name, _ in files], fraction, split, path)}
        return [(name, file) for name, file in files if name in kept]

    def of(self, path: str, heldout_path: str | None, split: Split) -> list[tuple[str, Path]]:
        """The files that a split is taken from: without `heldout_path` all, for either split. As `files` otherwise."""
        root = Path(path).expanduser()
        if heldout_path is None:
            names = self._names(root)
        else:
            heldout = Path(heldout_path).expanduser()
            if split == "heldout":
                root = heldout
                names = self._names(heldout)
            else:
                inside = heldout.resolve()
                names = [name for name in self._names(root) if not (root / name).resolve().is_relative_to(inside)]
        return [(name, root / name) for name in names]

    def _names(self, root: Path) -> list[str]:
        if not root.is_dir():
            raise ValueError(f"data/{self.level}: there is no folder {root}")
        names, litter = find_files(root, self.suffixes)
        if not names:
            beside = f"; {len(litter)} files such as {litter[0]} are left out as litter" if litter else ""
            raise ValueError(
                f"data/{self.level}: {root} holds no {self.thing}s ({', '.join(sorted(self.suffixes))}){beside}"
            )
        return names

    def share(self, names: list[str], fraction: float, split: Split, root: str) -> list[str]:
        """The names of a split: held out is the share `fraction` with the lowest hashes. Raises ValueError for one."""
        if len(names) < 2:
            raise ValueError(f"data/{self.level}: {root} holds one {self.thing}; training and held-out need one each")
        count = min(max(1, round(fraction * len(names))), len(names) - 1)
        by_hash = sorted(names, key=lambda name: hashlib.sha256(os.fsencode(name)).digest())
        return sorted(by_hash[:count] if split == "heldout" else by_hash[count:])


def find_files(root: Path, suffixes: Collection[str]) -> tuple[list[str], list[str]]:
    """The relative names of the files below a folder that have one of the suffixes, sorted, and those of litter.

    Links to folders are followed. A file with several names counts once, under that without links if there is one, so
    that it is not both trained on and held out. Litter are files that are no pictures of the user, see `is_litter`.
    """
    found = [name for name in _walk(root) if Path(name).suffix.lower() in suffixes and (root / name).is_file()]
    litter = [name for name in found if any(map(is_litter, Path(name).parts))]
    files = {name: (root / name).resolve() for name in sorted({*found} - {*litter})}

    # Of the names of one file that without links comes first
    here = root.resolve()
    names: dict[Path, str] = {}
    for name in sorted(files, key=lambda name: files[name] != here / name):
        names.setdefault(files[name], name)
    return sorted(names.values()), sorted(litter)


def is_litter(name: str) -> bool:
    """Whether a file or folder of this name was left by a system or an editor: copies and thumbnails of other files.

    Names that start with a dot (`._a.jpg` of macOS, `.ipynb_checkpoints`, `.thumbnails`), and those of archives and
    network shares.
    """
    return name.startswith(".") or name in {"__MACOSX", "@eaDir", "$RECYCLE.BIN", "Thumbs.db"}


def _walk(root: Path) -> Iterator[str]:
    """The relative names of all files below a folder, through links to folders but not around in circles."""
    above = {str(root): {root.resolve()}}
    for folder, folders, files in os.walk(root, followlinks=True):
        known = above.pop(folder)
        for name in list(folders):
            inner = Path(folder, name)
            if inner.is_symlink() and inner.resolve() in known:
                folders.remove(name)  # a link to a folder that contains it
            else:
                above[str(inner)] = known | {inner.resolve()}
        yield from (Path(folder, name).relative_to(root).as_posix() for name in files)
