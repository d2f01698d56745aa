"""Finds and reads levels: `norm: scn` in a study is the file `components/norm/scn.py`.

A level's file defines, at its top level:

- `Config`, its settings: a subclass of the slot's base class in `SETTINGS`, or of `Settings` for other slots;
- `build(config, ...)`, which makes the level; `ablate.slots.training` lists its arguments and its result by slot;
- for probes, `METRICS`: a tuple of `Metric`, what the probe reports; optionally `CHEAP = True` for a probe quick enough
  to run during training, or `COSTLY = True` for one so slow that it examines the averaged weights only.

A study is checked from `Config` and `METRICS` long before anything is built. They are read from the source, and the
rest of the file is not run, so planning never loads torch. Therefore `Config`, `METRICS`, `CHEAP` and `COSTLY` may use
only names imported from the modules in `LIGHT_MODULES`, and from `ablate.slots` only those in `ablate.slots.LIGHT`.
"""

import ast
import functools
import hashlib
import importlib
import sys
import types
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ablate import slots
from ablate.slots.data import DataSettings
from ablate.slots.hooks import (
    BranchSettings,
    DiscriminatorSettings,
    InitSettings,
    LossSettings,
    ModelSettings,
    ProbeSettings,
    RegularizerSettings,
    hidden_hooks,
)
from ablate.slots.settings import Metric, Settings

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


VIDEO_SLOTS = ("temporal_conv", "branch", "context")
"""Slots that only video models have."""


LIGHT_MODULES = {"math", "typing", "pathlib", "pydantic", "ablate.data.prepare"}
"""Modules other than `ablate.slots` whose names `Config` and `METRICS` may use."""


ROOT = Path(__file__).parents[1] / "components"
"""The folder of levels: `<slot>/<level>.py`."""


PAPERS = Path(__file__).parents[1] / "analysis" / "papers"


class LevelError(ValueError):
    """A level's file that cannot be read. The message says which file, what was found and what was expected."""


@dataclass(frozen=True)
class Level:
    """A level as its source describes it, not yet imported.

    `doc`: the file's docstring. `metrics`, `cheap`, `costly`: of probes.
    """

    slot: str
    name: str
    path: Path
    doc: str
    Config: type[Settings]
    metrics: tuple[Metric, ...]
    cheap: bool
    costly: bool

    @functools.cached_property
    def fingerprint(self) -> str:
        """Content hash of the source file: which code made a record."""
        return hashlib.sha256(self.path.read_bytes()).hexdigest()[:16]


def levels(slot: str) -> list[str]:
    """Names of all levels of a slot, sorted."""
    return sorted(path.stem for path in (ROOT / slot).glob("[a-z]*.py"))


def papers() -> list[str]:
    """Names of all papers that results can be held against, sorted."""
    return sorted(path.stem for path in PAPERS.glob("[a-z]*.py"))


@functools.cache
def level(slot: str, name: str) -> Level:
    """Describe a level without importing it.

    Raises KeyError when there is none, and LevelError when its file is not that of a level.
    """
    path = ROOT / slot / f"{name}.py"
    if name not in levels(slot):
        raise KeyError(f"{slot}: {name}")
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
    except SyntaxError as error:
        raise LevelError(f"{path}:{error.lineno}: invalid Python: {error.msg}: {(error.text or '').strip()}") from None
    light = [node for node in map(_light_part, tree.body) if node]
    module = types.ModuleType(f"ablate.components.{slot}.{name}:settings")
    sys.modules[module.__name__] = module  # pydantic looks a class's module up to resolve its annotations
    exec(compile(ast.Module(light, type_ignores=[]), str(path), "exec"), module.__dict__)
    found = module.__dict__
    config = _checked_config(slot, path, found.get("Config"))
    doc = ast.get_docstring(tree) or ""
    speed = found.get("CHEAP", False), found.get("COSTLY", False)
    return Level(slot, name, path, doc, config, found.get("METRICS", ()), *speed)


def _checked_config(slot: str, path: Path, config: Any) -> type[Settings]:
    """The level's `Config`. Raises LevelError unless it inherits the slot's base class and hides none of its hooks."""
    base = SETTINGS.get(slot, Settings)
    if config is None:
        raise LevelError(f"{path}: Config is missing; a level's settings are a class: class Config({base.__name__})")
    if not (isinstance(config, type) and issubclass(config, base)):
        found = ", ".join(parent.__name__ for parent in getattr(config, "__bases__", ())) or repr(config)
        raise LevelError(f"{path}: Config must inherit {base.__name__} of ablate.slots, found {found}")
    if hidden := hidden_hooks(config, base):
        message = f"the field '{hidden[0]}' of Config hides {base.__name__}.{hidden[0]}; give the field another name"
        raise LevelError(f"{path}: {message}")
    return config


def changed(components: Mapping[str, str]) -> list[str]:
    """Of levels with their fingerprints then, `slot/name` -> fingerprint, those that are gone or other ones now."""
    found = []
    for path, fingerprint in components.items():
        slot, _, name = path.partition("/")
        try:
            same = level(slot, name).fingerprint == fingerprint
        except KeyError:
            same = False
        found += [] if same else [path]
    return found


def _light_part(node: ast.stmt) -> ast.stmt | None:
    """What is run of a statement to read a level's settings, if anything."""
    if isinstance(node, ast.ImportFrom) and node.module == "ablate.slots":
        names = [alias for alias in node.names if alias.name in slots.LIGHT]
        return ast.copy_location(ast.ImportFrom(node.module, names, node.level), node) if names else None
    if isinstance(node, ast.ImportFrom):
        return node if node.module in LIGHT_MODULES else None
    if isinstance(node, ast.Import):
        return node if all(alias.name in LIGHT_MODULES for alias in node.names) else None
    if isinstance(node, ast.ClassDef):
        return node if node.name == "Config" else None
    targets = (
        [target.id for target in node.targets if isinstance(target, ast.Name)] if isinstance(node, ast.Assign) else []
    )
    return node if {"METRICS", "CHEAP", "COSTLY"}.intersection(targets) else None


def build(slot: str, name: str, settings: dict[str, Any], *arguments: Any) -> Any:
    """Import a level and call its `build` with its settings and `arguments`.

    `settings`: plain values without the level's name. Raises pydantic's ValidationError for settings that do not fit.
    """
    module = importlib.import_module(f"ablate.components.{slot}.{name}")
    return module.build(module.Config.read(settings), *arguments)
