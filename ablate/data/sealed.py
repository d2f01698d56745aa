"""Checksums of prepared pictures: `checksums.json` beside them, by which a process verifies what it opens first.

This file imports nothing of the store, because the fingerprint of every data level covers it.
"""

import json
import os
import sys
from pathlib import Path

import xxhash

SEAL = "checksums.json"


CHUNK = 1 << 24
"""Bytes that are read at once."""


_verified: set[tuple[Path, int, int]] = set()
"""Folders that this process has verified: path, inode and time of the seal."""


def seal(folder: Path, name: str) -> None:
    """Write the sizes and checksums of a folder's files, and wait until all are on the disk.

    `name`: what the folder will be called; the checksums are good under no other name.
    """
    files = {}
    for path in sorted(folder.iterdir()):
        files[path.name] = [path.stat().st_size, _checksum(path, name)]
        _sync(path)
    (folder / SEAL).write_text(json.dumps({"format": 1, "files": files}), encoding="utf-8")
    _sync(folder / SEAL)
    _sync(folder)


def why_damaged(folder: Path) -> str:
    """How a folder of prepared pictures is damaged; empty if it is sound, or older than checksums.

    Raises ValueError for one of a later version.
    """
    path = folder / SEAL
    if not path.exists():
        return ""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        files = {str(name): (int(size), str(checksum)) for name, (size, checksum) in found["files"].items()}
        later = found["format"] > 1
        if found["format"] < 1 or (not later and "index.json" not in files):
            return f"{SEAL} is damaged"
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return f"{SEAL} is damaged"
    if later:
        raise ValueError(f"{path}: it has format {found['format']}, of a later version of ablate: update ablate")
    for name, (size, checksum) in files.items():
        file = folder / Path(name).name
        if not file.exists():
            return f"{name} is missing"
        if file.stat().st_size != size:
            return f"{name} has {file.stat().st_size} bytes instead of {size}"
        if _checksum(file, folder.name) != checksum:
            return f"{name} does not match its checksum"
    return ""


def is_sound(folder: Path) -> bool:
    """Whether a folder can be opened. A damaged one is named on stderr and moved to `damaged/` beside it.

    A folder is read once in a process.
    """
    known = _stamp(folder)
    if known not in _verified and (reason := why_damaged(folder)):
        aside = folder.parent / "damaged"
        aside.mkdir(exist_ok=True)
        target = next(path for i in range(10**6) if not (path := aside / f"{folder.name}.{i}").exists())
        try:
            folder.rename(target)
        except FileNotFoundError:  # another process was first
            return False
        sys.stderr.write(f"damaged file: {folder}: {reason}; moved to {target}, the pictures are prepared again\n")
        return False
    _verified.add(known)
    return True


def _stamp(folder: Path) -> tuple[Path, int, int]:
    file = folder / SEAL
    found = file.stat() if file.exists() else folder.stat()
    return folder, found.st_ino, found.st_mtime_ns


def _checksum(path: Path, key: str) -> str:
    digest = xxhash.xxh3_128(key.encode())
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
