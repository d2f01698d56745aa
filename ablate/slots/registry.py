"""Levels are found by path: `norm: scn` in a study is `components/norm/scn.py`.

A level's file holds these public things:

- `Config`, its settings, a `Settings` subclass;
- `build(config, ...)`, which makes the level (its arguments, by slot: `ablate/slots/training.py`);
- `METRICS`, probes only: what the probe reports; `CHEAP = True` if it is quick enough to run during training,
  `COSTLY = True` if it is so slow that it examines the averaged weights alone, not the raw ones as well.

All but `build` is needed to check a study, long before anything is built. It is read from the source without running
the rest of the file, so that planning never loads torch. Hence the one rule for a level's author: `Config`, `METRICS`,
`CHEAP` and `COSTLY` may use only names imported from the modules in `LIGHT_MODULES`, and of `ablate.slots` those in
`ablate.slots.LIGHT`.
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
from ablate.slots.settings import Metric, Settings

SLOTS = {
    "data": "the pictures that a trial trains on and is examined with",
    "model": "the autoencoder",
    "padding": "what every convolution sees beyond the border",
    "norm": "the normalisation layers",
    "upsample": "how the decoder doubles the size",
    "downsample": "how the encoder halves the size",
    "temporal_conv": "what a video model's convolutions see of other frames",
    "branch": "the halves of a video model's channels",
    "context": "how far a video model's coarsest level sees",
    "loss": "the weighted terms of the training loss",
    "discriminator": "the opponent of the adversarial term",
    "regularizer": "what shapes the latents beyond the loss",
    "init": "the weights before the first step",
    "probe": "an examination of the trained model",
}


VIDEO_SLOTS = ("temporal_conv", "branch", "context")
"""What only models have whose Config says `temporal`; for others these slots are absent."""


LIGHT_MODULES = {"math", "typing", "pathlib", "pydantic", "ablate.data.prepare"}
"""Modules, beside `ablate.slots`, whose names `Config` and `METRICS` may use."""


ROOT = Path(__file__).parents[1] / "components"


PAPERS = Path(__file__).parents[1] / "analysis" / "papers"


@dataclass(frozen=True)
class Level:
    """A level as its source describes it, not yet imported."""

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
    """Describe a level without importing it. Raises KeyError when there is none."""
    path = ROOT / slot / f"{name}.py"
    if name not in levels(slot):
        raise KeyError(f"{slot}: {name}")
    tree = ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
    light = [node for node in map(_light_part, tree.body) if node]
    module = types.ModuleType(f"ablate.components.{slot}.{name}:settings")
    sys.modules[module.__name__] = module  # pydantic looks a class's module up to resolve its annotations
    exec(compile(ast.Module(light, type_ignores=[]), str(path), "exec"), module.__dict__)
    doc = ast.get_docstring(tree) or ""
    found = module.__dict__
    speed = found.get("CHEAP", False), found.get("COSTLY", False)
    return Level(slot, name, path, doc, found["Config"], found.get("METRICS", ()), *speed)


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
    """Import a level and make it. `settings` are plain values without the level's name."""
    module = importlib.import_module(f"ablate.components.{slot}.{name}")
    return module.build(module.Config.read(settings), *arguments)
