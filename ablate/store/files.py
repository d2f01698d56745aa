"""Reading and atomic writing of files, in a folder or in object storage (`s3://bucket/runs`)."""

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

from ablate.errors import StoreError

COPIES = 3
"""How many files in object storage a process keeps local copies of."""


def parse_store(location: str | Path) -> Path:
    """The store's root: a folder, or a location in object storage (`s3://bucket/runs`), which is used like one.

    Credentials and endpoint are taken from the environment. Raises StoreError for a file, for a location without a
    bucket, and where a package is missing.
    """
    if "://" not in str(location):
        path = Path(location).expanduser()
        file = next((part for part in (path, *path.parents) if part.is_file()), None)
        if file:
            raise StoreError(f"the store {location} cannot be used: {file} is a file, not a folder")
        return path
    protocol, _, rest = str(location).partition("://")
    if not rest.strip("/"):
        raise StoreError(f"the store {location} names no bucket; expected {protocol}://BUCKET/FOLDER")
    try:
        from upath import UPath

        return cast(Path, UPath(location, use_listings_cache=False))  # other machines write there too
    except ImportError as error:
        raise StoreError(f"the store {location} needs: pip install 'ablate-vae[s3]' ({error})") from None
    except Exception as error:  # of the package for this kind of storage
        raise StoreError(f"the store {location} cannot be used: {_reason(error)}") from None


def check_access(root: Path) -> None:
    """Raise StoreError if object storage cannot be read, for instance without credentials."""
    if not is_remote(root):
        return
    try:
        next(iter(root.iterdir()), None)
    except (FileNotFoundError, NotADirectoryError):  # nothing has been written yet; a bucket that is not there, too
        pass
    except Exception as error:  # of the package for this kind of storage, or of the network
        raise StoreError(f"the store {root} cannot be read: {_reason(error)}") from None


def _reason(error: Exception) -> str:
    """The kind and the text of an error in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def is_remote(path: Path) -> bool:
    """Whether a path is in object storage."""
    return not isinstance(path, Path)


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Write a file atomically: write to the yielded temporary path, and `path` appears complete or not at all."""
    if is_remote(path):
        with TemporaryDirectory(prefix="ablate-") as scratch:
            yield Path(scratch) / path.name
            path.fs.put_file(f"{scratch}/{path.name}", path.path)  # type: ignore[attr-defined]
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{time.monotonic_ns()}")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file atomically. NaN and infinity are written as Python does: NaN, Infinity."""
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(value, indent=1), encoding="utf-8")


def read_json(path: Path) -> Any:
    """The JSON in a file, or None if there is no such file."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None


def local(path: Path) -> Path:
    """A file on this machine: the path itself or, for object storage, a copy of its present content.

    The last `COPIES` copies are kept.
    """
    if not is_remote(path):
        return path
    checksum = path.fs.checksum(path.path)  # type: ignore[attr-defined]
    if (path, checksum) not in _copies:
        while len(_copies) >= COPIES:
            _copies.pop(next(iter(_copies))).cleanup()
        scratch = TemporaryDirectory(prefix="ablate-")
        path.fs.get_file(path.path, f"{scratch.name}/{path.name}")  # type: ignore[attr-defined]
        _copies[path, checksum] = scratch
    return Path(_copies[path, checksum].name) / path.name


_copies: dict[tuple[Path, Any], "TemporaryDirectory[str]"] = {}
"""(path, checksum) -> the folder that holds the local copy, oldest first."""
