"""Imports modules whose source was read before, under any name, without `sys.path` and without files of bytecode."""

import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType


@dataclass(frozen=True)
class Module:
    """The source of a module or package, as it was read from `path`."""

    path: str
    source: bytes
    is_package: bool = False


_served: dict[str, Module] = {}


def serve(modules: Mapping[str, Module]) -> None:
    """Let these modules be imported by these names, before any others of the same names.

    If one was served with another source, all modules that were imported from here are forgotten, as any may use it.
    """
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
    if any(_served.get(name, module) != module for name, module in modules.items()):
        forget()
    _served.update(modules)


def forget() -> None:
    """Serve no modules, and forget those that were imported from here."""
    for name in _served:
        if isinstance(getattr(sys.modules.get(name), "__loader__", None), _Loader):
            del sys.modules[name]
    _served.clear()


class _Finder(importlib.abc.MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        module = _served.get(fullname)
        if module is None:
            return None
        places = [str(Path(module.path).parent)] if module.is_package else None
        return importlib.util.spec_from_file_location(
            fullname, module.path, loader=_Loader(module), submodule_search_locations=places
        )


class _Loader(importlib.abc.SourceLoader):
    """Gives the source that was read. Without `path_stats` no bytecode is read or written."""

    def __init__(self, module: Module):
        self.module = module

    def get_filename(self, fullname: str) -> str:
        return self.module.path

    def get_data(self, path: str | bytes) -> bytes:
        return self.module.source
