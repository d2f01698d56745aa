"""Levels are found by path: `norm: scn` in a study is `components/norm/scn.py`.

A level's file holds these public things:

- `Config`, its settings, a `Settings` subclass;
- `build(config, ...)`, which makes the level (its arguments, by slot: `ablate/slots/training.py`);
- `METRICS`, probes only: what the probe reports; `CHEAP = True` if it is quick enough to run during training,
  `COSTLY = True` if it is so slow that it examines the averaged weights alone, not the raw ones as well.

All but `build` is needed to check a study, long before anything is built. It is read from the source without running
the rest of the file, so that planning never loads torch. Hence the one rule for a level's author: `Config`, `METRICS`,
`CHEAP` and `COSTLY` may use only builtins, names imported from the modules in `LIGHT_MODULES`, and of `ablate.slots`
those in `ablate.slots.LIGHT` (see `ablate/slots/level_file.py`).
"""

import functools
import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ablate.slots.level_file import Level, read_level
from ablate.slots.level_file import LevelError as LevelError

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


ROOT = Path(__file__).parents[1] / "components"


PAPERS = Path(__file__).parents[1] / "analysis" / "papers"


def levels(slot: str) -> list[str]:
    """Names of all levels of a slot, sorted."""
    return sorted(path.stem for path in (ROOT / slot).glob("[a-z]*.py"))


def papers() -> list[str]:
    """Names of all papers that results can be held against, sorted."""
    return sorted(path.stem for path in PAPERS.glob("[a-z]*.py"))


@functools.cache
def level(slot: str, name: str) -> Level:
    """Describe a level without importing it. Raises KeyError when there is none, LevelError when its file is wrong."""
    if name not in levels(slot):
        raise KeyError(f"{slot}: {name}")
    return read_level(slot, name, ROOT / slot / f"{name}.py")


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
    """Import a level and make it. `settings` are plain values without the level's name."""
    level(slot, name).fingerprint  # noqa: B018  read now, so that it is that of the code imported in the next line
    module = importlib.import_module(f"ablate.components.{slot}.{name}")
    return module.build(module.Config.read(settings), *arguments)
