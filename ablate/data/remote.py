"""Copies of files in object storage (`s3://bucket/shards`), fetched once and again after they have changed there."""

import fcntl
import sys
import time
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from ablate.identity import signature
from ablate.store.files import atomic_write, read_json, write_json
from ablate.store.user_cache import user_cache

FRESH_S = 60.0
"""For how long a process relies on what it has seen there."""

FETCHED_AT_ONCE = 4

_seen: dict[str, float] = {}
"""URL -> when this process last looked there."""


def is_url(path: str) -> bool:
    """Whether a path is a location that fsspec reads."""
    return "://" in path


def folder_of(path: str, suffixes: Collection[str]) -> Path:
    """The folder itself, or that of the copies of the files below a URL that have one of these suffixes.

    Copies are in the user's cache. Raises ValueError if the URL cannot be read.
    """
    if not is_url(path):
        return Path(path).expanduser()
    folder = user_cache("copies") / signature([path])
    if time.monotonic() - _seen.get(path, -FRESH_S) >= FRESH_S:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            with _alone(folder):
                _renew(path, suffixes, folder)
        except ImportError as error:
            raise ValueError(f"{path} needs: pip install 'ablate-vae[s3]' ({error})") from None
        except Exception as error:  # of the package for this kind of storage, of the network or of the disk
            reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
            raise ValueError(f"{path} cannot be copied to {folder} ({reason})") from None
        _seen[path] = time.monotonic()
    return folder / "files"


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Wait until no other process of this machine renews the copies in a folder."""
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _renew(url: str, suffixes: Collection[str], folder: Path) -> None:
    """Fetch what is new or has changed, remove the copies of what is gone."""
    from fsspec.core import url_to_fs

    system, root = url_to_fs(url, use_listings_cache=False)
    there = {
        name: (place, info)
        for place, info in system.find(root, detail=True).items()
        if PurePosixPath(name := place.removeprefix(root).lstrip("/")).suffix.lower() in suffixes
        and ".." not in PurePosixPath(name).parts
    }
    if not there:
        raise FileNotFoundError(f"there are no files {', '.join(sorted(suffixes))}")
    versions = {name: signature([str(sorted(info.items()))]) for name, (_, info) in there.items()}
    known = {name: version for name, version in (read_json(folder / "versions.json") or {}).items() if name in there}
    files = folder / "files"
    files.mkdir(exist_ok=True)
    missing = [name for name, version in versions.items() if known.get(name) != version or not (files / name).is_file()]
    if missing:
        size = sum(there[name][1].get("size") or 0 for name in missing)
        sys.stderr.write(f"copying {len(missing)} files ({size / 1e6:.1f} MB) from {url} to {files}\n")
        with ThreadPoolExecutor(FETCHED_AT_ONCE) as pool:
            fetched = pool.map(partial(_fetch, system, files), missing, (there[name] for name in missing))
            for name, _ in zip(missing, fetched, strict=True):
                known[name] = versions[name]
                write_json(folder / "versions.json", known)
    for copy in files.rglob("*"):
        if copy.is_file() and copy.relative_to(files).as_posix() not in versions:
            copy.unlink()


def _fetch(system: Any, files: Path, name: str, found: tuple[str, dict[str, Any]]) -> None:
    place, info = found
    with atomic_write(files / name) as temporary:
        system.get_file(place, str(temporary))
        if info.get("size") is not None and temporary.stat().st_size != info["size"]:
            raise OSError(f"{name} has {temporary.stat().st_size} bytes here and {info['size']} there")
