"""Damaged files of the store: named once, read as if absent, and moved to `damaged/` when they are replaced."""

import sys
from pathlib import Path

ASIDE = "damaged"
"""The folder, beside the file, that damaged files are moved to."""


_found: dict[Path, str] = {}
"""The damaged files that this process has read -> how each is damaged."""


def report(path: Path, reason: object) -> None:
    """Name a damaged file on stderr, once in a process."""
    if path not in _found:
        _found[path] = str(reason)
        sys.stderr.write(f"damaged file: {path}: {reason}; what it held is made again where it is needed\n")


def found() -> dict[Path, str]:
    """The damaged files that this process has read and that still lie in their place -> how each is damaged."""
    return dict(_found)


def set_aside(path: Path) -> Path | None:
    """Move a file or folder that was reported to `damaged/` beside it; gives the new place. Does nothing to others."""
    if path not in _found:
        return None
    del _found[path]
    folder = path.parent / ASIDE
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / path.name
    count = 0
    while target.exists():
        count += 1
        target = folder / f"{path.name}.{count}"
    if isinstance(path, Path):
        path.rename(target)
    else:  # in object storage
        path.fs.mv(path.path, target.path)
    return target


def aside(folder: Path) -> list[Path]:
    """What was set aside in a folder."""
    return sorted((folder / ASIDE).glob("*"))
