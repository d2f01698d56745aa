"""Content hashes of the files that settings name: pictures, weights. A file is read again only after it has changed.

What was hashed is kept in `hashes/` beside the prepared pictures, by path, size, inode, time of the last change of the
content (mtime) and of the inode (ctime, which cannot be set back). The hash of a file that changed just before it was
read is not kept: the clocks of file systems are coarse, so a further change could go unnoticed.
"""

import os
import socket
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import xxhash

from ablate.identity import signature
from ablate.store.files import read_json, write_json

SETTLED_NS = 2_000_000_000
"""A hash is kept only if the file was at least this old."""


CHUNK = 1 << 24
"""Bytes that are read at once."""


UNREADABLE = "unreadable"
"""Takes the place of the hash of a file that cannot be read."""


@dataclass(frozen=True)
class Content:
    """What a level reads. `source`: `slot/level` and the path or paths. `files`: name of each file -> content hash."""

    source: str
    files: dict[str, str]

    @cached_property
    def digest(self) -> str:
        """One hash of all names and contents."""
        return signature(self.files)


def hash_files(files: Mapping[str, Path], cache: Path) -> dict[str, str]:
    """Name -> XXH3 (128 bits) of the content of each file; `UNREADABLE` for one that cannot be read."""
    if not files:
        return {}
    paths = {name: str(path.absolute()) for name, path in files.items()}
    folder = os.path.commonpath([path.parent.absolute() for path in files.values()])
    memory = cache.parent / "hashes" / f"{signature([socket.gethostname(), folder])}.json"
    known = read_json(memory) or {}
    begun = time.time_ns()
    stamps = {path: _stamp(path) for path in dict.fromkeys(paths.values())}
    found = {
        path: str(known[path][1]) for path, stamp in stamps.items() if stamp and known.get(path, [None])[0] == stamp
    }
    missing = [path for path in stamps if path not in found]
    if missing:
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            found |= dict(zip(missing, pool.map(_hash, missing), strict=True))
        new = {
            path: [stamp, found[path]]
            for path in missing
            if (stamp := stamps[path])
            and max(stamp[1:3]) < begun - SETTLED_NS
            and stamp == _stamp(path)
            and found[path] != UNREADABLE
        }
        if new:
            with suppress(OSError):  # a read-only store: the files are hashed again next time
                write_json(memory, {**known, **new}, durable=False)
    return {name: found[path] for name, path in paths.items()}


def merge_contents(parts: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """Source -> hash of what several stages have read; of one whose stages read different files, the hash of these."""
    merged: dict[str, dict[str, None]] = {}
    for part in parts:
        for source, digest in part.items():
            merged.setdefault(source, {})[digest] = None
    return {
        source: next(iter(found)) if len(found) == 1 else signature(list(found)) for source, found in merged.items()
    }


def files_below(folder: Path) -> dict[str, Path]:
    """Relative name -> path of all files below a folder, through links but not in circles; hidden ones are left out."""
    found: dict[str, Path] = {}
    seen: set[str] = set()
    for place, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        folders[:] = sorted(name for name in folders if not name.startswith(".")) if real not in seen else []
        if real not in seen:
            paths = [Path(place, name) for name in files if not name.startswith(".")]
            found |= {path.relative_to(folder).as_posix(): path for path in paths if path.is_file()}
        seen.add(real)
    return dict(sorted(found.items()))


def describe_change(before: Mapping[str, str], now: Mapping[str, str]) -> str:
    """How files differ, given the content hash of each by name: how many were replaced, renamed, added or removed."""
    new = {name: now[name] for name in now if name not in before}
    with_content = {digest: name for name, digest in new.items()}
    gone = []
    renamed = []
    for name in (name for name in before if name not in now):
        if match := with_content.pop(before[name], None):
            renamed.append(f"{name} to {match}")
            del new[match]
        else:
            gone.append(name)
    replaced = [name for name in before if name in now and now[name] != before[name]]
    if len(before) == len(now) == len(replaced) == 1:
        return "the file was replaced by another"
    kinds = (("replaced", replaced), ("renamed", renamed), ("gone", gone), ("new", list(new)))
    parts = [f"{len(names)} {kind} ({_listed(names)})" for kind, names in kinds if names]
    return f"of {len(before)} files {', '.join(parts)}"


def _listed(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")


def _stamp(path: str) -> list[int] | None:
    try:
        found = Path(path).stat()
    except OSError:
        return None
    return [found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino]


def _hash(path: str) -> str:
    digest = xxhash.xxh3_128()
    try:
        with Path(path).open("rb", buffering=0) as file:
            while chunk := file.read(CHUNK):
                digest.update(chunk)
    except OSError:
        return UNREADABLE
    return digest.hexdigest()
