"""Files that are whole or absent, in a folder or in object storage: `s3://bucket/runs` is used like a folder."""

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

COPIES = 3
"""Of so many files in object storage a process keeps a copy: of a checkpoint and the one before it."""


class StoreError(ValueError):
    """The store cannot be used as it was asked for."""


def parse_store(where: str | Path) -> Path:
    """A folder, or a place in object storage that is used like one: `s3://bucket/runs`.

    Credentials and endpoint are those of the environment. Raises StoreError where a package lacks.
    """
    if "://" not in str(where):
        return Path(where)
    try:
        from upath import UPath

        return cast(Path, UPath(where, use_listings_cache=False))  # other machines write there too
    except ImportError as error:
        raise StoreError(f"the store {where} needs: pip install 'ablate-vae[s3]' ({error})") from None


def is_remote(path: Path) -> bool:
    """Whether a path leads to object storage."""
    return not isinstance(path, Path)


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Write to the yielded temporary path; the file appears under its own name, complete, or not at all."""
    if is_remote(path):
        with TemporaryDirectory(prefix="ablate-") as room:
            yield Path(room) / path.name
            path.fs.put_file(f"{room}/{path.name}", path.path)  # type: ignore[attr-defined]
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{time.monotonic_ns()}")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write JSON by rename. NaN and infinity are kept as Python writes them."""
    with whole(path) as temporary:
        temporary.write_text(json.dumps(value, indent=1), encoding="utf-8")


def read_json(path: Path) -> Any:
    """The JSON in a file, or None if there is no such file."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None


def local(path: Path) -> Path:
    """The file itself, or a copy of what is in object storage under this name now; the copies last read are kept."""
    if not is_remote(path):
        return path
    mark = path.fs.checksum(path.path)  # type: ignore[attr-defined]
    if (path, mark) not in _copies:
        while len(_copies) >= COPIES:
            _copies.pop(next(iter(_copies))).cleanup()
        room = TemporaryDirectory(prefix="ablate-")
        path.fs.get_file(path.path, f"{room.name}/{path.name}")  # type: ignore[attr-defined]
        _copies[path, mark] = room
    return Path(_copies[path, mark].name) / path.name


_copies: dict[tuple[Path, Any], "TemporaryDirectory[str]"] = {}
