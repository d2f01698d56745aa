"""Temporary files and folders: their names say whose they are, so that those of killed processes can be removed."""

import functools
import re
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from hashlib import blake2s
from pathlib import Path

from ablate.store.process import lives, this_process

MARK = re.compile(r"[.-](?P<machine>[0-9a-f]{6})-(?P<pid>\d+)-(?P<started>\d*)[.-]")

FOLDERS = ("data", "studies/*/*", "studies/*/*/tuning", "needs", "code", "content", "hashes", "leases")
"""Folders of a store that temporary files may be in, besides those of stages."""

OLD_S = 7 * 24 * 3600.0
"""Age in seconds from which what another machine, or this one before it was started anew, has left is removed."""


def mark() -> str:
    """This process, as part of a name: `3f01ab-4711-98765`."""
    process = this_process()
    return f"{_machine()}-{process['pid']}-{process['started']}"


@functools.cache
def _machine() -> str:
    process = this_process()
    return blake2s("\0".join(process[key] for key in ("host", "boot", "space")).encode(), digest_size=3).hexdigest()


@contextmanager
def scratch_folder(prefix: str, parent: Path | None = None) -> Iterator[Path]:
    """A folder of this process's own in `parent`, by default that of the system, removed at the end."""
    with tempfile.TemporaryDirectory(prefix=f"{prefix}-{mark()}-", dir=parent) as folder:
        yield Path(folder)


def abandoned(root: Path, stages: Iterable[Path]) -> list[Path]:
    """Temporary files and folders of dead processes in a store and in these of its stages' folders."""
    folders = [root, *(path for pattern in FOLDERS for path in root.glob(pattern)), *stages]
    candidates = [*root.glob("data/unfinished-*"), *(path for folder in folders for path in folder.glob(".*"))]
    return sorted(path for path in candidates if is_abandoned(path, path.name))


def remove(paths: Iterable[Path]) -> None:
    """Remove files and folders that may be gone already."""
    for path in paths:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            with suppress(OSError):
                path.unlink()


def is_abandoned(path: Path, text: str) -> bool:
    """Whether the process whose mark is in a text is dead; if that cannot be told from here, whether `path` is old."""
    found = MARK.search(f".{text}.")
    if not found:
        return False
    if found["machine"] == _machine():
        return lives({"pid": int(found["pid"]), "started": found["started"]}) is False
    with suppress(OSError):
        return time.time() - path.stat().st_mtime > OLD_S
    return False
