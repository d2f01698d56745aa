"""Installed packages, each of which counts as a whole: its sources are not read one by one, torch has 2400."""

import functools
import hashlib
import site
import sysconfig
from importlib import metadata
from pathlib import Path

from ablate.slots.own_import import Module


def is_installed(module: Module) -> bool:
    """Whether a module is part of an installed package, which each machine has for itself."""
    return any(Path(module.path).is_relative_to(folder) for folder in _folders())


@functools.cache
def _folders() -> frozenset[str]:
    known = {sysconfig.get_path(name) for name in ("purelib", "platlib", "stdlib")}
    return frozenset({*site.getsitepackages(), site.getusersitepackages(), *known})


def package_digest(module: Module, name: str) -> str:
    """Content hash of the installed package that a module belongs to, by the hashes of its Python files.

    pip writes these to RECORD when it installs a package (PyPA, "Recording installed projects").
    Of a package that has none, as those of the standard library, the module's own file counts.
    """
    return _recorded(name.partition(".")[0]) or hashlib.sha256(module.source).hexdigest()


@functools.cache
def _recorded(package: str) -> str:
    """Hash of the lines of RECORD about a package's Python files; empty where there are none."""
    try:
        found = metadata.distribution(package)  # most packages are installed under the name that is imported
    except metadata.PackageNotFoundError:
        names = metadata.packages_distributions().get(package, [])
        if not names:
            return ""
        found = metadata.distribution(names[0])
    lines = (found.read_text("RECORD") or "").splitlines()
    own = (f"{package}/", f"{package}.py,")
    files = [line for line in lines if line.startswith(own) and line.split(",")[0].endswith(".py")]
    return hashlib.sha256("\n".join(sorted(files)).encode()).hexdigest() if files else ""
