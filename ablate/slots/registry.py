"""Finds and reads levels: `norm: scn` in a study is the file `components/norm/scn.py`.

The file is one of this package, or an own level of the user's (`ablate/slots/discover.py`).

A level's file defines, at its top level:

- `Config`, its settings: a subclass of the slot's base class in `SETTINGS`, or of `Settings` for other slots;
- `build(config, ...)`, which makes the level; `ablate.slots.training` lists its arguments and its result by slot;
- for probes, `METRICS`: a tuple of `Metric`, what the probe reports; optionally `CHEAP = True` for a probe quick enough
  to run during training, or `COSTLY = True` for one so slow that it examines the averaged weights only.

A study is checked from `Config` and `METRICS` long before anything is built. They are read from the source, and the
rest of the file is not run, so planning never loads torch. Therefore `Config`, `METRICS`, `CHEAP` and `COSTLY` may use
only builtins, names imported from the modules in `LIGHT_MODULES`, and from `ablate.slots` only those in
`ablate.slots.LIGHT` (see `ablate/slots/level_file.py`).
"""

import functools
import importlib
import inspect
import os
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from ablate.slots import targets
from ablate.slots.data import DataSettings
from ablate.slots.hooks import (
    BranchSettings,
    DiscriminatorSettings,
    InitSettings,
    LossSettings,
    ModelSettings,
    ProbeSettings,
    RegularizerSettings,
)
from ablate.slots.level_file import Level, exits, level_error, read_level
from ablate.slots.level_file import LevelError as LevelError
from ablate.slots.own_code import OwnCode
from ablate.slots.settings import Settings

SLOTS = {
    "data": "the pictures or clips that a trial trains on and is examined with",
    "model": "the autoencoder",
    "padding": "what every convolution sees beyond the border",
    "norm": "the normalisation layers",
    "upsample": "how the decoder doubles the size",
    "downsample": "how the encoder halves the size",
    "temporal_conv": "which other frames a video model's convolutions see",
    "branch": "whether a video model's channels form one branch or two halves of different duties",
    "context": "how far a video model's coarsest level sees",
    "loss": "the weighted terms of the training loss",
    "discriminator": "the opponent of the adversarial term",
    "regularizer": "what shapes the latents beyond the loss",
    "init": "the weights before the first step",
    "probe": "an examination of the trained model",
}


SETTINGS: dict[str, type[Settings]] = {
    "data": DataSettings,
    "model": ModelSettings,
    "branch": BranchSettings,
    "loss": LossSettings,
    "discriminator": DiscriminatorSettings,
    "regularizer": RegularizerSettings,
    "init": InitSettings,
    "probe": ProbeSettings,
}
"""The class that `Config` of a slot's levels must inherit; `Settings` for the slots not named here."""


OPTIONAL = ("discriminator", "regularizer")
"""Slots in which `build` may give None: there is nothing to train or to do."""


CALLED = ("padding", "norm", "upsample", "downsample", "temporal_conv", "loss", "init", "probe")
"""Slots in which what `build` gives is called like a function, as modules are."""


VIDEO_SLOTS = ("temporal_conv", "branch", "context")
"""Slots that only video models have."""


ROOT = Path(__file__).parents[1] / "components"
"""The folder of levels: `<slot>/<level>.py`."""


PAPERS = Path(__file__).parents[1] / "analysis" / "papers"


_own = OwnCode()


def own() -> OwnCode:
    """The own code in effect."""
    return _own


def use(code: OwnCode) -> None:
    """Put own code into effect, in place of that before; `level`, `levels` and `build` know it from now on."""
    global _own
    if code is _own:
        return
    if code or _own:
        level.cache_clear()
    _own = code
    code.serve()


def levels(slot: str) -> list[str]:
    """Names of all levels of a slot, sorted, own levels among them."""
    return sorted({*shipped_levels(slot), *(name for folder in _own.folders for name in folder.levels(slot))})


def shipped_levels(slot: str) -> list[str]:
    """Names of the levels of this package. Folders and links to nothing, such as editors' lock links, are none."""
    return [path.stem for path in (ROOT / slot).glob("[a-z]*.py") if path.is_file()]


def papers() -> list[str]:
    """Names of all papers that results can be held against, sorted."""
    return sorted(path.stem for path in PAPERS.glob("[a-z]*.py"))


@functools.cache
def level(slot: str, name: str) -> Level:
    """Describe a level, also one that is named as `package.module:Name`, without importing it.

    Raises KeyError when there is none, LevelError when its file is wrong.
    """
    base = SETTINGS.get(slot, Settings)
    if targets.is_target(name):
        return targets.read_target(slot, name, base, _own)
    if folder := _own.folder_of(slot, name):
        return read_level(slot, name, folder.file(slot, name), base, _own, folder)
    if not _is_shipped(slot, name):
        raise KeyError(f"{slot}: {name}")
    return read_level(slot, name, ROOT / slot / f"{name}.py", base)


def is_level(slot: str, name: str) -> bool:
    """Whether a name can be that of a level: one that there is, or an object of a module, which may be wrong."""
    own = (name in folder.levels(slot) for folder in _own.folders)
    return targets.is_target(name) or _is_shipped(slot, name) or any(own)


def _is_shipped(slot: str, name: str) -> bool:
    """Whether `shipped_levels` has a name; much faster, as a study is checked by hundreds of calls."""
    return "a" <= name[:1] <= "z" and "/" not in name and os.path.isfile(f"{ROOT}/{slot}/{name}.py")  # noqa: PTH113


def slot_of(file: Path) -> str:
    """The slot of a file of a level, or of a file that levels of a slot share; empty for any other file."""
    folders = [ROOT, *(folder.path for folder in _own.folders)]
    is_level = file.parent.name in SLOTS and (file.parent.parent in folders or file.parent.parent.name == ROOT.name)
    return file.parent.name if is_level else ""


def changed(components: Mapping[str, str]) -> list[str]:
    """Of levels with their earlier fingerprints, `slot/name` -> fingerprint, those that have changed or are gone."""
    return [path for path, fingerprint in components.items() if _fingerprint(path) != fingerprint]


def _fingerprint(path: str) -> str | None:
    """The present fingerprint of a level, given as `slot/name`; None where there is none that can be used."""
    slot, _, name = path.partition("/")
    try:
        return level(slot, name).fingerprint
    except (KeyError, LevelError):
        return None


def build(slot: str, name: str, settings: dict[str, Any], *arguments: Any) -> Any:
    """Import a level and call its `build` with its settings and `arguments`.

    `settings`: plain values without the level's name. Raises pydantic's ValidationError for settings that do not fit,
    LevelError for a `build` that takes other arguments, exits or returns what is no level.
    """
    found = level(slot, name)
    path = found.path
    if isinstance(found, targets.Target):
        built = targets.build_target(found, found.Config.read(settings), arguments)
        return _checked(slot, built, path, 1)
    try:
        module = load(slot, name)
        config = module.Config.read(settings)
        if problem := _misfit(module.build, len(arguments)):
            raise level_error(path, _line(module.build), problem)
        built = module.build(config, *arguments)
    except SystemExit as error:
        raise exits(path, error, "built") from error
    return _checked(slot, built, path, _line(module.build))


def _checked(slot: str, built: Any, path: Path, line: int) -> Any:
    """What `build` gave, if it can be a level of the slot; else raises LevelError."""
    if (built is None and slot not in OPTIONAL) or (slot in CALLED and not callable(built)):
        found = "None" if built is None else f"{built!r:.60}"
        message = f"build returns {found}; it must return the level that it makes (see ablate/slots/training.py)"
        raise level_error(path, line, message)
    return built


ARGUMENTS = {
    "data": 1, "model": 2, "padding": 0, "norm": 2, "upsample": 2, "downsample": 2, "temporal_conv": 4, "branch": 2,
    "context": 1, "loss": 0, "discriminator": 0, "regularizer": 0, "init": 1, "probe": 0,
}  # fmt: skip
"""How many arguments `build` of a slot's levels is given after the settings; of norms of video models one more."""


def check_build(slot: str, name: str) -> None:
    """Import a level and look at its `build`, without calling it. Raises LevelError as `build` does."""
    found = level(slot, name)
    owner = found.load() if isinstance(found, targets.Target) else load(slot, name)
    if isinstance(found, targets.Target) and found.plain:
        return
    function = getattr(owner, "build", None)
    if not callable(function):
        raise level_error(found.path, 1, "build is missing; build(config, ...) makes the level")
    problem = _misfit(function, ARGUMENTS[slot])
    if problem and not (slot == "norm" and not _misfit(function, 3)):
        raise level_error(found.path, _line(function), problem)


def load(slot: str, name: str) -> ModuleType:
    """The module of a level, imported. Raises LevelError where an own level raises while it is imported."""
    found = level(slot, name)
    found.fingerprint  # noqa: B018  read now, so that it is that of the code imported in the next line
    try:
        return importlib.import_module(found.module)
    except (Exception, SystemExit) as error:
        if found.folder is None:
            raise
        if isinstance(error, SystemExit):
            raise exits(found.path, error, "imported") from error
        raise _not_imported(found, error) from error


def _not_imported(found: Level, error: Exception) -> LevelError:
    """The error of an own level that cannot be imported, at the line of the user's file where it arose."""
    assert found.folder is not None
    file, line = targets.place(error, _own, found.path)
    message = f"cannot be imported: {type(error).__name__}: {' '.join(str(error).split())}"
    missing = getattr(error, "name", None) if isinstance(error, ModuleNotFoundError) else None
    if missing and found.folder.module(f"{found.slot}.{missing}"):
        message += f"; a file beside the level is imported as 'from .{missing} import …'"
    return level_error(file, line, message)


def _misfit(function: Any, count: int) -> str:
    """Why `build` cannot be called with the settings and `count` arguments after them; empty if it can."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # not written in Python
        return ""
    try:
        signature.bind(None, *[None] * count)
    except TypeError:
        return (
            f"build is given {1 + count} argument{'s' * (count > 0)}, the first of them config; found build{signature}"
        )
    return ""


def _line(function: Any) -> int:
    """The line of a function's definition; 1 where there is none."""
    return getattr(getattr(function, "__code__", None), "co_firstlineno", 1)
