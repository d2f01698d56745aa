"""Reading and atomic writing of files, in a folder or in object storage (`s3://bucket/runs`)."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

from ablate.errors import StoreError
from ablate.store import checksum, damage
from ablate.store.scratch import mark

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
def atomic_write(path: Path, *, durable: bool = True, previous: Path | None = None) -> Iterator[Path]:
    """Write a file atomically: write to the yielded temporary path, and `path` appears complete or not at all.

    `durable`: the file survives a power cut, whole; without it the file may be damaged or absent afterwards.
    `previous`: where the file that is replaced is kept. A file that was found damaged is moved to `damaged/`.
    """
    if is_remote(path):
        with TemporaryDirectory(prefix="ablate-") as scratch:
            yield Path(scratch) / path.name
            damage.set_aside(path)
            path.fs.put_file(f"{scratch}/{path.name}", path.path)  # type: ignore[attr-defined]
        return
    make_folder(path.parent)
    temporary = path.with_name(f".{path.name}.{mark()}.{time.monotonic_ns()}")
    try:
        temporary.touch()
        mode = temporary.stat().st_mode  # of the umask; what writes the file may choose another, as safetensors does
        yield temporary
        if temporary.stat().st_mode != mode:
            temporary.chmod(mode)
        if durable:
            sync(temporary)
        damage.set_aside(path)
        if previous and path.exists():
            path.replace(previous)
        temporary.replace(path)
        if durable:
            sync(path.parent)
    except OSError as error:
        if error.filename == str(temporary):  # a user knows the file, not the name that it has for now
            error.filename = str(path)
        raise
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, so that they survive a power cut."""
    if folder.is_dir():
        return
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for each in missing:
        sync(each.parent)


def sync(path: Path) -> None:
    """Wait until a file's content, or a folder's entries, are on the disk; nothing to wait for in object storage."""
    if is_remote(path):
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        with suppress(OSError) if path.is_dir() else nullcontext():  # some file systems refuse it for folders
            os.fsync(handle)
    finally:
        os.close(handle)


def write_json(path: Path, value: Any, *, durable: bool = True) -> None:
    """Write a JSON file atomically, with its checksum. NaN and infinity are written as Python does: NaN, Infinity."""
    with atomic_write(path, durable=durable) as temporary:
        temporary.write_text(checksum.seal_json(value, checksum.key_of(path)), encoding="utf-8")


def read_json(path: Path) -> Any:
    """The JSON in a file; None if there is no such file, or if it is damaged, which is reported once.

    Raises StoreError for a file of a later version of ablate.
    """
    try:
        return checksum.open_json(path.read_bytes(), checksum.key_of(path))[0]
    except FileNotFoundError:
        return None
    except checksum.Damaged as error:
        damage.report(path, error)
        return None
    except checksum.TooNew as error:
        raise StoreError(f"{path}: {error}") from None


def is_sound(path: Path) -> bool:
    """Whether there is such a binary file and its content matches its checksum; a damaged one is reported."""
    try:
        if path.exists():
            checksum.verify_file(local(path))
            return True
    except checksum.Damaged as error:
        damage.report(path, error)
    return False


def local(path: Path) -> Path:
    """A file on this machine: the path itself or, for object storage, a copy of its present content.

    The last `COPIES` copies are kept.
    """
    if not is_remote(path):
        return path
    version = path.fs.checksum(path.path)  # type: ignore[attr-defined]
    if (path, version) not in _copies:
        while len(_copies) >= COPIES:
            _copies.pop(next(iter(_copies))).cleanup()
        scratch = TemporaryDirectory(prefix="ablate-")
        path.fs.get_file(path.path, f"{scratch.name}/{path.name}")  # type: ignore[attr-defined]
        _copies[path, version] = scratch
    return Path(_copies[path, version].name) / path.name


_copies: dict[tuple[Path, Any], "TemporaryDirectory[str]"] = {}
"""(path, version) -> the folder that holds the local copy, oldest first."""
