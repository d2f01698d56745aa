"""What driver and workers must have in common: where they import from, versions, the variables of this program."""

import functools
import importlib.metadata
import os
import platform
import socket
import sys
from collections.abc import Iterable
from pathlib import Path

import ablate

PACKAGES = ("torch", "ray", "numpy")
"""Packages whose versions change numbers, or how driver and workers talk."""


Versions = dict[str, str]


class ImportPaths(list[str]):
    """The folders that workers import from. Ray adds the script's and the working directory, ahead of all: not here."""

    def extend(self, more: Iterable[str]) -> None:
        """Add nothing."""


def import_paths() -> ImportPaths:
    """The driver's `sys.path`, with the folder of this package first, as Ray's workers are to be given it.

    A worker puts each in front of those before it, so the last is the first that it looks into.
    """
    root = str(Path(ablate.__file__).resolve().parents[1])
    paths = dict.fromkeys([root, *(str(Path.cwd() / path) for path in sys.path)])  # "" is the working directory
    return ImportPaths(reversed(paths))


def variables() -> dict[str, str]:
    """The environment variables of this program."""
    return {name: value for name, value in os.environ.items() if name.startswith("ABLATE_")}


@functools.cache
def versions(*, source: bool = False) -> Versions:
    """The versions here: of Python, the packages that matter and this program; `source`: with a digest of that."""
    found = {name: importlib.metadata.version(name) for name in PACKAGES}
    found |= {"python": platform.python_version(), "ablate": ablate.__version__}
    return {**found, "ablate source": _source()} if source else found


def difference(driver: Versions, host: str) -> str:
    """How this process differs from the driver, which runs on `host`, in words; empty if it does not."""
    own = versions(source="ablate source" in driver)
    apart = [name for name, version in driver.items() if own[name] != version]
    if not apart:
        return ""
    here, there = (", ".join(f"{name} {found[name]}" for name in apart) for found in (own, driver))
    return (
        f"the node {socket.gethostname()} has {here} ({sys.executable}, {Path(ablate.__file__).parent}), "
        f"the command on {host} has {there}; install the same on every node"
    )


def _source() -> str:
    """A digest of the package's own files, without the levels, whose fingerprints are in the records."""
    import xxhash

    root = Path(ablate.__file__).parent
    files = sorted(path for path in root.rglob("*.py") if "components" not in path.relative_to(root).parts)
    return xxhash.xxh3_64_hexdigest(b"".join(file.read_bytes() for file in files))
