"""Where a setting of a study comes from, so that an error is reported where it is to be mended."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ablate.errors import KeyPath, Problem
from ablate.study.document import Document

RELATED = {
    "data.crop": ("model", "discriminator", "loss.adversarial"),
    "data.heldout_size": ("model",),
    "data.frames": ("model", "discriminator", "loss.adversarial"),
    "discriminator": ("loss.adversarial", "data.frames"),
    "loss.adversarial": ("discriminator",),
    "model": ("data.crop", "data.frames"),
    "regularizer": ("model", "data"),
}
"""Path -> settings that may be the cause instead, because the study changes them and not the setting at the path."""


@dataclass(frozen=True)
class Origin:
    """Finds the text that has set a value: a treatment's level, `--set`, the scale, or the base, in this order.

    `levels`: those of the treatment that differ from the baseline's.
    """

    document: Document
    scale: str
    overrides: tuple[str, ...]
    levels: Mapping[str, Any] = field(default_factory=dict)
    wrong_before: frozenset[KeyPath] = frozenset()
    """Paths that are wrong without these changes too: a change of another setting is then not the cause."""

    def problem(self, path: KeyPath, message: str, *, at_key: bool = False) -> Problem:
        """A problem of the value at a path of the resolved study, from `base`, `stages` or `probes` on."""
        dotted = ".".join(map(str, path[1:] if path[0] == "base" else path))
        candidates = [dotted] if path in self.wrong_before else [*self._candidates(dotted), *settings_in(message)]
        for setting in candidates:
            if problem := self._changed(setting, message, at_key=at_key and setting == dotted):
                return problem
        return self._in_base(path, message, at_key=at_key)

    def _candidates(self, dotted: str) -> Iterable[str]:
        """The setting itself, then what may be the cause instead: the model is built of, and for, all others."""
        yield dotted
        yield from RELATED.get(dotted, ())
        if dotted.partition(".")[0] in BUILT:
            yield from ("model", *RELATED["model"])

    def _changed(self, dotted: str, message: str, *, at_key: bool) -> Problem | None:
        """A problem at the last change of a setting: in the treatment, by `--set`, in the scale; None if unchanged."""
        for setting in reversed([*self.levels]):
            if touches(setting, dotted):
                return self.document.problem(self._level(setting), message)
        for text in reversed(self.overrides):
            if touches(text.partition("=")[0].strip(), dotted):
                return Problem(f"--set {text}", 0, 0, message)
        scale: KeyPath = ("scales", self.scale)
        for known in reversed(self.document.keys):
            if known[:2] == scale and len(known) == 3 and touches(str(known[2]), dotted):
                return self.document.problem(known, message, at_key=at_key)
        return None

    def _level(self, setting: str) -> KeyPath:
        """Where the treatment's level of a factor stands; its factor if the level is not listed as it is."""
        data = self.document.data
        level = self.levels[setting]
        for key in ("factors", "nuisance"):
            listed = data.get(key)
            levels = listed.get(setting) if isinstance(listed, dict) else None
            if isinstance(levels, dict):
                end = next((name for name, value in levels.items() if value == level and name in {"low", "high"}), None)
                return (key, setting, end) if end else (key, setting)
            if isinstance(levels, list):
                return (key, setting, levels.index(level)) if level in levels else (key, setting)
        for i, treatment in enumerate(data.get("treatments") or ()):
            if isinstance(treatment, dict) and treatment.get(setting) == level:
                return ("treatments", i, setting)
        return ("factors",)

    def _in_base(self, path: KeyPath, message: str, *, at_key: bool) -> Problem:
        """A problem at the base, the stages or the probes; at the model where the slot is filled by default."""
        data = self.document.data
        if path[0] == "stages" and path[1:] and isinstance(data.get("stages"), list):
            index = next(
                (i for i, stage in enumerate(data["stages"]) if isinstance(stage, dict) and path[1] in stage), 0
            )
            path = ("stages", index, *path[1:])
        if path[0] == "probes" and isinstance(path[1], str) and isinstance(data.get("probes"), list):
            names = [probe.get("level") if isinstance(probe, dict) else probe for probe in data["probes"]]
            index = names.index(path[1]) if path[1] in names else int(path[1].removeprefix("probe "))
            path = ("probes", index, *path[2:])
        if path[0] == "base" and path[1:2] and path[:2] not in self.document.values and path[1] in BUILT:
            message = f"{message} (the file does not name {path[1]}, so this is its default level)"
            path = ("base", "model")
        return self.document.problem(path, message, at_key=at_key)


BUILT = ("norm", "padding", "upsample", "downsample", "temporal_conv", "branch", "context")
"""The slots that a model is built of."""


def settings_in(message: str) -> list[str]:
    """The settings of the data that a message names, such as `data.heldout_size`: one of them may be the cause."""
    return re.findall(r"\bdata\.[a-z_]+", message)


def touches(setting: str, dotted: str) -> bool:
    """Whether a change of one setting can be the cause of a problem at another path.

    A problem at a slot is caused by any setting of the slot, one at `SLOT.level` by a new level alone.
    """
    if dotted.endswith(".level"):
        return setting in {dotted, dotted.removesuffix(".level")}
    return f"{dotted}.".startswith(f"{setting}.") or f"{setting}.".startswith(f"{dotted}.")
