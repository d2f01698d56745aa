"""Files of a folder, split into those to train on and those that are held out."""

import hashlib
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from ablate.slots import Split


@dataclass(frozen=True)
class Source:
    """Where a data level finds its files: by `suffixes`, of what it calls `things` in errors."""

    level: str
    things: str
    suffixes: Collection[str]

    def files(self, path: str, heldout_path: str | None, fraction: float, split: Split) -> list[tuple[str, Path]]:
        """Relative names, sorted, and files of a split. Raises ValueError if a folder is missing or holds too few.

        Held out are the files of `heldout_path`, or else the share `fraction` of all whose names hash lowest.
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
            raise ValueError(f"data/{self.level}: {root} holds no {self.things}s ({', '.join(sorted(self.suffixes))})")
        return sorted(path.relative_to(root).as_posix() for path in files)

    def _share(self, names: list[str], fraction: float, split: Split, root: Path) -> list[str]:
        if len(names) < 2:
            raise ValueError(f"data/{self.level}: {root} holds one {self.things}; training and held-out need one each")
        count = min(max(1, round(fraction * len(names))), len(names) - 1)
        by_hash = sorted(names, key=lambda name: hashlib.sha256(name.encode()).digest())
        return sorted(by_hash[:count] if split == "heldout" else by_hash[count:])
