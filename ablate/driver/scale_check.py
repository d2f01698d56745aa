"""What is checked of the treatments of a study at one scale: files, own levels, initial weights, probes, models."""

import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ablate.driver.models import ModelCheck, build_failure, own_failure, stride_of
from ablate.errors import KeyPath, Problem
from ablate.recipe.recipe import Part, Recipe, weight
from ablate.study.origin import Origin, touches

MOST_MODELS = 100
"""Different models that are built at the scale to run, those of treatments with one change first."""


WAYS_OUT = (
    ("not readable", "repair them or move them elsewhere"),
    ("smaller than the", "move them elsewhere, or lower data.crop, data.resize_to or data.heldout_size"),
    ("holds no pictures", "convert them, or name another folder"),
    ("holds no videos", "convert them, or name another folder"),
)
"""What an error of a data level holds, and what to do about it."""


@dataclass(frozen=True)
class Case:
    """A treatment that is checked. `levels`: those that differ from the baseline's."""

    label: str
    levels: dict[str, Any]
    recipe: Recipe


@dataclass
class ScaleCheck:
    """What is wrong with the treatments of a study at one scale: `problems` of the file, `missing` on this machine.

    `base`: the recipe of the study without scale and `--set`.
    """

    origin: Origin
    probes: tuple[Part, ...]
    base: Recipe
    problems: list[Problem] = field(default_factory=list)
    missing: list[Problem] = field(default_factory=list)
    models: ModelCheck = field(default_factory=lambda: ModelCheck(MOST_MODELS))
    seen: set[tuple[str, int, int, str]] = field(default_factory=set)
    broken: set[tuple[str, str]] = field(default_factory=set)
    """Own levels that cannot be imported, as slot and name."""
    absent: dict[int, Part] = field(default_factory=dict)
    """Parts, by id, whose files cannot be used, so that a model of them cannot be built either."""

    def run(self, cases: list[Case], *, complete: bool = True) -> None:
        """Check treatments, of which the first is the baseline. `complete`: whether it has all parts."""
        self._check_files(cases)
        self._check_own(cases)
        if complete:
            self._check_mismatches(cases)
            self._check_probes(cases)
            self._check_models(cases)

    def _check_files(self, cases: list[Case]) -> None:
        """Folders, pictures and weights that settings name."""
        parts = {id(part): (case, path, part) for case in reversed(cases) for path, part in _parts(case.recipe)}
        parts |= {id(probe): (cases[0], ("probes", probe.level), probe) for probe in self.probes}
        for case, path, part in parts.values():
            try:
                part.settings.preflight()
            except (ValueError, OSError, ImportError, RuntimeError) as error:  # the last of '~' with an unknown user
                message = f"{error}{_way_out(str(error))}"
                self.absent[id(part)] = part
                self._add(self.missing, case, (*path, *_named(part, str(error))), message)
        for case in cases:
            for stage in case.recipe.stages:
                try:
                    stage.settings.preflight()
                except (ValueError, OSError) as error:
                    self._add(self.missing, case, ("stages", stage.name, "command"), f"stage '{stage.name}': {error}")

    def _check_own(self, cases: list[Case]) -> None:
        """Own levels that raise while they are imported, or whose `build` takes other arguments."""
        parts = {id(part): (case, path, part) for case in reversed(cases) for path, part in _parts(case.recipe)}
        parts |= {id(probe): (cases[0], ("base", "probe", probe.level), probe) for probe in self.probes}
        for case, path, part in parts.values():
            slot = str(path[2] if path[0] == "stages" else path[1])
            if (slot, part.level) in self.broken:
                continue
            if reason := own_failure(slot, part, _crop(case.recipe)):
                self.broken.add((slot, part.level))
                path = ("probes", part.level) if slot == "probe" else path
                message = f"level '{part.level}' of {slot} cannot be used: {reason}"
                self._add(self.problems, case, path, message, kind="own")

    def _check_mismatches(self, cases: list[Case]) -> None:
        """Initial weights that are of another model than the recipe's."""
        for case in cases if not self.missing else ():
            init = case.recipe.parts["init"]
            if reason := init.settings.mismatch(case.recipe.plain()):
                return self._add(self.missing, case, ("base", "init"), f"init '{init.level}': {reason}")
        return None

    def _check_probes(self, cases: list[Case]) -> None:
        """Probes that the held-out pictures are too small for, or that the crops do not suit, each once."""
        seen: set[tuple[int, int]] = set()
        unfit: set[str] = set()
        for case in cases:
            model = case.recipe.parts["model"]
            data = case.recipe.parts["data"]
            if (id(model), id(data)) in seen:
                continue
            seen.add((id(model), id(data)))
            for probe in self.probes:
                stride = stride_of(case.recipe)
                reason = _unfit(probe, stride, data.settings) if stride else ""
                if reason and probe.level not in unfit:
                    unfit.add(probe.level)
                    self._add(self.problems, case, ("probes", probe.level), f"probe '{probe.level}' {reason}")

    def _check_models(self, cases: list[Case]) -> None:
        """Models that cannot be built, each at the slot that is the cause."""
        wrong: set[KeyPath] = set()  # in the baseline, and thus in treatments without being due to their levels
        for case in [cases[0], *sorted(cases[1:], key=lambda case: len(case.levels))]:
            for stage, setup in zip(case.recipe.stages, case.recipe.setups, strict=True):
                if any((slot, part.level) in self.broken for slot, part in setup.present.items()):
                    continue
                if id(setup.parts["model"]) in self.absent:
                    continue
                failure = self.models.failure(setup)
                if failure is None:
                    continue
                slot = failure.slot
                path = ("stages", stage.name, slot) if slot in case.recipe.own.get(stage.name, {}) else ("base", slot)
                if case is cases[0]:
                    wrong.add(path)
                    if any((first := build_failure(base)) and first.slot == slot for base in self.base.setups):
                        self.origin = replace(self.origin, wrong_before=self.origin.wrong_before | {path})
                if case is cases[0] or path not in wrong or any(touches(level, slot) for level in case.levels):
                    message = f"the model cannot be built: {failure.reason}"
                    self._add(self.problems, case, path, message, kind="model")

    def _add(self, problems: list[Problem], case: Case, path: KeyPath, message: str, kind: str = "") -> None:
        """Note a problem of a treatment: of equal messages, or of those of one kind, the first at each position."""
        origin = replace(self.origin, levels=case.levels)
        problem = origin.problem(path, f"{message} (treatment '{case.label}', scale {self.origin.scale})")
        key = (problem.file, problem.line, problem.column, kind or message)
        if key not in self.seen:
            self.seen.add(key)
            problems.append(problem)

    @property
    def skipped(self) -> list[str]:
        """A note on the models that were not built, if there are any."""
        count = len(self.models.skipped)
        built = f"the first {self.models.most} different models were built; {count} more were not"
        text = f"scale {self.origin.scale}: {built}"
        return [text] if count else []


def _parts(recipe: Recipe) -> Iterable[tuple[KeyPath, Part]]:
    """The parts of a recipe that are used, with their paths."""
    yield from ((("base", slot), part) for slot, part in recipe.parts.items())
    for stage, own in recipe.own.items():
        yield from ((("stages", stage, *unit.split(".", 1)), part) for unit, part in own.items())
    yield from ((("base", "loss", term), part) for term, part in recipe.losses.items() if weight(part))


def _crop(recipe: Recipe) -> int:
    """The side of training crops in px; 16 where the data are wrong."""
    return int(recipe.parts["data"].setting("crop", 16)) if "data" in recipe.parts else 16


def _named(part: Part, message: str) -> list[str]:
    """The setting whose text a message holds, such as the path of a folder; none where there is no such setting."""
    fields = type(part.settings).model_fields
    texts = {name: value for name, value in part.settings.plain().items() if isinstance(value, str)}
    free = [name for name in texts if fields[name].annotation in {str, str | None}]  # not a choice, such as 'lpips'
    return [name for name in free if texts[name] in message][:1]


def _way_out(message: str) -> str:
    """What to do about folders and pictures that cannot be used; empty where the message says it."""
    folder = re.search(r"there is no folder (.+)$", message)
    with suppress(OSError):  # of a name that is too long for a file
        if folder and Path(folder[1]).is_file():
            return "; it is a file, name the folder that it lies in"
    if folder and not folder[1].startswith(("/", "~")):
        return f" in {Path.cwd()}; paths are relative to the folder in which the command runs"
    found = [way_out for words, way_out in WAYS_OUT if words in message]
    return f"; {'; '.join(found)}" if found else ""


def _unfit(probe: Part, stride: int, data: Any) -> str:
    """Why a probe cannot examine a model of this stride on such pictures; empty if it can."""
    shortest = probe.settings.shortest()
    smallest = probe.settings.smallest(stride)
    frames = data.heldout_length
    if smallest > data.heldout_size:
        found = f"data.heldout_size {data.heldout_size}"
        return f"needs held-out pictures of {smallest} px or more at stride {stride}, found {found}"
    if shortest > frames:
        found = f"data.heldout_frames {frames}" if frames > 1 else "pictures"
        return f"needs held-out clips of {shortest} frames or more, found {found}"
    if reason := probe.settings.unfit(stride, data.crop):
        return f"cannot examine crops of {data.crop} px at stride {stride}: {reason}"
    return ""
