"""Finds own levels: files `<slot>/<level>.py` in folders outside of this package.

Such a folder is `components/` beside the study, one that `--components` or the environment variable
`ABLATE_COMPONENTS` names (several are separated as in PATH), or the package that an entry point of the group
`ablate.components` of an installed distribution names, as in

    [project.entry-points."ablate.components"]
    my_package = "my_package.components"
"""

import functools
import importlib.metadata
import importlib.util
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from ablate.errors import Problem, StudyError
from ablate.slots import registry
from ablate.slots.own_code import OwnCode, OwnFolder

VARIABLE = "ABLATE_COMPONENTS"

GROUP = "ablate.components"

LARGEST = 2000
"""Python files in a folder of levels at most; a folder of more is something else."""

given: tuple[Path, ...] = ()
"""The folders that the command line names."""


def discover(beside: Path | None, more: Iterable[Path] = ()) -> OwnCode:
    """The own levels of a study in the folder `beside`, those in the folders `more`, and all that this process knows.

    Raises StudyError for a folder that is not there or holds no levels, and for two levels of one name.
    """
    folders: dict[Path, OwnFolder] = {}
    for path, found in [*((path, "the store's card") for path in more), *_places(beside)]:
        if path.resolve() not in folders and not _is_shipped(path):
            folder = OwnFolder(path, found, _read_files(path, found))
            if any(folder.levels(slot) for slot in registry.SLOTS):
                folders[path.resolve()] = folder
            elif found != "beside the study":
                raise StudyError([Problem(str(path), 0, 0, f"{_where(found)} holds no levels{_below(path)}")])
    if problems := list(_shadowing(list(folders.values()))):
        raise StudyError(problems)
    named = [folder.path.parent for folder in folders.values() if folder.path.name == "components"]
    roots = [*([beside.absolute()] if beside else []), *(folder.path for folder in folders.values()), *named]
    return OwnCode(tuple(folders.values()), tuple(dict.fromkeys(roots)), beside.absolute() if beside else None)


def _places(beside: Path | None) -> Iterator[tuple[Path, str]]:
    """The folders in which own levels may be, and how each was found, in words. Raises StudyError for a missing one."""
    if beside and (beside / "components").is_dir():
        yield (beside / "components").absolute(), "beside the study"
    variable = [Path(text) for text in os.environ.get(VARIABLE, "").split(os.pathsep) if text.strip()]
    for source, paths in (("--components", given), (VARIABLE, variable)):
        for path in paths:
            if not path.expanduser().is_dir():
                what = "is a file; name the folder of <slot>/<level>.py" if path.exists() else "there is no such folder"
                raise StudyError([Problem(f"{source} {path}", 0, 0, what)])
            yield path.expanduser().absolute(), source
    yield from _installed()


@functools.cache
def _installed() -> tuple[tuple[Path, str], ...]:
    """The folders that entry points of installed distributions name."""
    found = []
    for point in importlib.metadata.entry_points(group=GROUP):
        top, *rest = point.value.partition(":")[0].strip().split(".")
        name = f"entry point '{point.name}' of {point.dist.name if point.dist else 'a distribution'}"
        spec = importlib.util.find_spec(top)  # of a package at the top: nothing is imported
        places = [Path(place).joinpath(*rest) for place in (spec.submodule_search_locations or [] if spec else [])]
        folder = next((place for place in places if place.is_dir()), None)
        if folder is None:
            message = f"{name} (group {GROUP}) names the package '{point.value}', which is not there; reinstall it"
            raise StudyError([Problem(point.value, 0, 0, message)])
        found.append((folder.absolute(), name))
    return tuple(found)


def _is_shipped(path: Path) -> bool:
    """Whether a folder is that of the shipped levels, or that of another copy of this package."""
    if path.resolve() == registry.ROOT.resolve():
        return True
    init = path / "__init__.py"
    return init.is_file() and init.read_bytes() == (Path(__file__).parents[1] / "components/__init__.py").read_bytes()


def _read_files(path: Path, found: str) -> dict[str, bytes]:
    """All Python files below a folder that holds a slot's folder, by their path in it."""
    if not any((path / slot).is_dir() for slot in registry.SLOTS):
        return {}
    files: dict[str, bytes] = {}
    for folder, folders, names in os.walk(path):
        folders[:] = sorted(name for name in folders if not name.startswith((".", "__pycache__")))
        for name in sorted(name for name in names if name.endswith(".py") and not name.startswith(".")):
            file = Path(folder, name)
            try:
                files[file.relative_to(path).as_posix()] = file.read_bytes()
            except FileNotFoundError:  # an editor's lock link
                continue
            except OSError as error:
                raise StudyError([Problem(str(file), 0, 0, f"cannot be read: {error.strerror or error}")]) from None
            if len(files) > LARGEST:
                message = f"{_where(found)} holds more than {LARGEST} Python files; name a folder of levels alone"
                raise StudyError([Problem(str(path), 0, 0, message)])
    return files


def _where(found: str) -> str:
    return f"the folder named by {found}" if found in {"--components", VARIABLE} else f"the folder of {found}"


def _below(path: Path) -> str:
    """The way out of a folder without levels: the folder below it that has some, or how it must look."""
    if any((path / "components" / slot).is_dir() for slot in registry.SLOTS):
        return f"; did you mean {path / 'components'}?"
    if path.name in registry.SLOTS:
        return f"; did you mean {path.parent}?"
    return f"; a level is a file SLOT/NAME.py in it, such as {path / 'norm' / 'mine.py'}"


def _shadowing(folders: Sequence[OwnFolder]) -> Iterable[Problem]:
    """Own levels that have the name of a shipped one or of one in another folder."""
    for slot in registry.SLOTS:
        own = [(folder, name) for folder in folders for name in folder.levels(slot)]
        shipped = registry.shipped_levels(slot) if own else []
        known = {name: f"of the shipped level {registry.ROOT / slot / f'{name}.py'}; rename yours" for name in shipped}
        for folder, name in own:
            file = folder.file(slot, name)
            if name in known:
                message = f"the own level {slot}/{name} has the name {known[name]}"
                yield Problem(str(file), 1, 1, message, _first_line(folder, slot, name))
            known.setdefault(name, f"of another, {file} ({folder.found}); rename one of them")


def _first_line(folder: OwnFolder, slot: str, name: str) -> str:
    lines = folder.files[f"{slot}/{name}.py"].decode("utf-8", "replace").splitlines()
    return lines[0] if lines else ""
