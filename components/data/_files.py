"""Files of a folder, split into training and held-out files."""

import hashlib
from collections.abc import Collection
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
        root = Path(path).expanduser()
        if heldout_path is None:
            names = self._share(self._names(root), fraction, split, root)
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
        files = [path for path in root.rglob("*") if path.suffix.lower() in self.suffixes and path.is_file()]
        if not files:
            raise ValueError(f"data/{self.level}: {root} holds no {self.thing}s ({', '.join(sorted(self.suffixes))})")
        return sorted(path.relative_to(root).as_posix() for path in files)

    def _share(self, names: list[str], fraction: float, split: Split, root: Path) -> list[str]:
        if len(names) < 2:
            raise ValueError(f"data/{self.level}: {root} holds one {self.thing}; training and held-out need one each")
        count = min(max(1, round(fraction * len(names))), len(names) - 1)
        by_hash = sorted(names, key=lambda name: hashlib.sha256(name.encode()).digest())
        return sorted(by_hash[:count] if split == "heldout" else by_hash[count:])
