"""Designs: the treatments of a study and their references. The baseline comes first."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ablate.errors import StudyError
from ablate.identity import canonical
from ablate.plan.collector import gc_paused
from ablate.plan.known import NOTHING, Known
from ablate.plan.labels import format_level, short_names
from ablate.recipe.recipe import Recipe
from ablate.study.study import Study

Levels = dict[str, Any]
"""Factor path -> level."""


LevelsText = str
"""Levels as text, independent of their order: equal levels have equal texts."""


@dataclass(frozen=True, repr=False)
class Treatment:
    """One level for every factor. `changed` holds the levels that differ from the baseline's; empty for the baseline.

    If a setting does not exist with the other levels, its level is None and it is not in `changed`. `design`: the first
    of the study's designs that lists this treatment; `reference`: the label of the treatment that its effect is
    measured against; both are None for the baseline. `aliases`: its labels in a later ladder or leave-one-out design.
    `nuisance`: the tuned settings; None until the tuning has ended, and `recipe` then has those of the study file.
    """

    levels: Levels
    changed: Levels
    label: str
    recipe: Recipe
    design: str | None
    reference: str | None
    aliases: tuple[str, ...]
    nuisance: Mapping[str, Any] | None = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"<treatment {self.label}>"

    @property
    def is_baseline(self) -> bool:
        return not self.changed


@dataclass(frozen=True)
class Row:
    """A treatment as one design lists it. `against`: the changed levels of its reference; empty for the baseline."""

    changed: Levels
    label: str
    design: str | None
    against: Levels = field(default_factory=dict)


@dataclass(frozen=True)
class Listing:
    """The rows of all designs. `rows`: changed levels -> the rows that have them, in the order of the designs.

    `left_out`: for each constraint of the study, how many rows violate it.
    """

    rows: dict[LevelsText, list[Row]]
    left_out: tuple[int, ...]

    def label(self, changed: Levels) -> str:
        """The label of the treatment with these changed levels."""
        return self.rows[_key(changed)][0].label


def treatments(study: Study, known: Known = NOTHING) -> list[Treatment]:
    """The treatments of a study, each once. Raises StudyError as `list_rows` and `resolve` do."""
    return resolve(study, known, list_rows(study, known))


def resolve(study: Study, known: Known, listing: Listing) -> list[Treatment]:
    """The treatments of a listing, each with its recipe.

    Raises StudyError when levels contradict each other in a combination.
    """
    complete = _completer(study)
    resolved = []
    for row, *others in listing.rows.values():
        nuisance = known.tuned.get(canonical(row.changed)) if study.tuning else {}
        levels = complete(row.changed)
        recipe = study.recipe({**row.changed, **(nuisance or {})})
        reference = (listing.label(row.against) if row.against else "baseline") if row.changed else None
        aliases = tuple([other.label for other in others if other.design in LABELLED])
        resolved.append(Treatment(levels, row.changed, row.label, recipe, row.design, reference, aliases, nuisance))
    return resolved


@gc_paused()
def list_rows(study: Study, known: Known = NOTHING) -> Listing:
    """The rows of all designs, grouped by equal levels. A row comes after its reference.

    Rows that the study's constraints forbid are left out. Raises StudyError if a design needs such a row, if only the
    baseline is left, and if a design changes a setting that does not exist with the other levels.
    """
    complete = _completer(study)
    rows = {_key({}): [Row({}, "baseline", None)]}
    left_out = [0] * len(study.where)
    for design in study.designs:
        for row in _searched(study, known) if design == "search" else DESIGNS[design](study):
            violated = [i for i, constraint in enumerate(study.where) if not constraint.holds(complete(row.changed))]
            for i in violated:
                left_out[i] += 1
            if violated and (design in {"ladder", "fraction"} or row.label == "all"):
                message = f"design '{design}' needs the treatment '{row.label}', left out by"
                raise _forbidden(study, violated[0], message)
            if not violated:
                rows.setdefault(_key(row.changed), []).append(row)
    if len(rows) == 1 and any(left_out):
        worst = left_out.index(max(left_out))
        message = f"nothing is left but the baseline; {left_out[worst]} treatments are left out by"
        raise _forbidden(study, worst, message)
    return Listing(rows, tuple(left_out))


def _key(changed: Levels) -> LevelsText:
    return "\n".join(sorted([f"{path}={level!r}" for path, level in changed.items()]))


def _forbidden(study: Study, index: int, message: str) -> StudyError:
    text = f"where: {message} '{study.where[index].text}'"
    return StudyError([study.document.problem(("where", index), text)])


def _completer(study: Study) -> Callable[[Levels], Levels]:
    """A function from the changed levels of a treatment to the levels of all factors."""
    baseline = {factor.path: factor.levels[0] for factor in study.factors}

    def complete(changed: Levels) -> Levels:
        levels = {**baseline, **changed}
        for path in study.conditional:
            if path not in changed and not study.variants.has(path, changed):
                levels[path] = None
        return levels

    return complete


def changed_levels(study: Study, levels: Mapping[str, Any]) -> Levels:
    """Those of these levels, one for every factor, that exist together and differ from the baseline's."""
    baseline = {factor.path: factor.levels[0] for factor in study.factors}
    return {path: level for path, level in study.existing(levels).items() if level != baseline[path]}


def is_allowed(study: Study, levels: Mapping[str, Any]) -> bool:
    """Whether these levels, one for every factor, fulfil the study's constraints and give a consistent recipe."""
    changed = changed_levels(study, levels)
    complete = _completer(study)(changed)
    if not all(constraint.holds(complete) for constraint in study.where):
        return False
    return study.variants.recipe(changed)[0] is not None


def _one_at_a_time(study: Study) -> Iterator[Row]:
    rows = ({factor.path: level} for factor in study.factors if factor.at_baseline for level in factor.levels[1:])
    return _against_baseline(study, rows, "one_at_a_time")


def _grid(study: Study) -> Iterator[Row]:
    """The product of all levels. Where a setting does not exist, its levels make one treatment together."""
    options: list[list[tuple[str, Any] | None]] = []
    for factor in study.factors:
        unchanged: list[tuple[str, Any] | None] = [None] if factor.at_baseline else []
        options.append(unchanged + [(factor.path, level) for level in factor.levels[1:]])
    rows = (dict([change for change in choice if change]) for choice in itertools.product(*options))
    return _against_baseline(study, rows, "grid")


def _fraction(study: Study) -> Iterator[Row]:
    assert study.fraction is not None
    rows = (
        {factor.path: factor.levels[index] for factor, index in zip(study.factors, run, strict=True) if index}
        for run in study.fraction.runs
    )
    return _against_baseline(study, rows, "fraction")


def _list(study: Study) -> Iterator[Row]:
    """The listed treatments, with levels as the recipe reads them, so that 1 and 1.0 are equal."""
    baseline = {factor.path: factor.levels[0] for factor in study.factors}

    def normalised(row: Levels) -> Levels:
        recipe = study.recipe(row)
        levels = {path: level if isinstance(level, dict) else recipe.value(path) for path, level in row.items()}
        return {path: level for path, level in levels.items() if level != baseline[path]}

    return _against_baseline(study, map(normalised, study.listed), "list")


def _searched(study: Study, known: Known) -> Iterator[Row]:
    """The treatments that a search has suggested so far."""
    short = short_names(study.factors)
    for suggestion in known.searched:
        changed = changed_levels(study, suggestion.levels)
        label = " ".join(f"{short[path]}={format_level(level)}" for path, level in changed.items()) or "baseline"
        yield Row(changed, label, "search")


def _against_baseline(study: Study, rows: Iterable[Levels], design: str) -> Iterator[Row]:
    """Rows labelled by their changed levels, such as `kl=1 norm=scn`."""
    short = short_names(study.factors)
    labels = {
        (f.path, repr(level)): f"{short[f.path]}={format_level(level)}" for f in study.factors for level in f.levels
    }
    for row in rows:
        changed = study.existing(row)
        label = " ".join([labels[path, repr(level)] for path, level in changed.items()]) or "baseline"
        yield Row(changed, label, design)


def _ladder(study: Study) -> Iterator[Row]:
    """One factor after another is set to its second level and keeps it. The reference of a row is the row before."""
    previous: Levels = {}
    for path, level in _second_levels(study).items():
        changed = {**previous, path: level}
        _check_existing(study, changed, "ladder")
        yield Row(changed, f"+ {short_names(study.factors)[path]}={format_level(level)}", "ladder", previous)
        previous = changed


def _leave_one_out(study: Study) -> Iterator[Row]:
    """All factors at their second level, then all but one, whose reference is the row with all."""
    full = _second_levels(study)
    short = short_names(study.factors)
    _check_existing(study, full, "leave_one_out")
    yield Row(full, "all", "leave_one_out")
    for path, level in full.items():
        rest = study.existing({other: full[other] for other in full if other != path})
        yield Row(rest, f"w/o {short[path]}={format_level(level)}", "leave_one_out", full)


def _check_existing(study: Study, changed: Levels, design: str) -> None:
    if missing := changed.keys() - study.existing(changed).keys():
        path = min(missing)
        others = ", ".join(f"{other}={format_level(level)}" for other, level in changed.items() if other != path)
        message = f"design '{design}' changes '{path}', which does not exist with {others or 'the baseline'}"
        raise StudyError([study.document.problem(("factors", path), message, at_key=True)])


DESIGNS: Mapping[str, Callable[[Study], Iterator[Row]]] = {
    "one_at_a_time": _one_at_a_time,
    "grid": _grid,
    "ladder": _ladder,
    "leave_one_out": _leave_one_out,
    "fraction": _fraction,
    "list": _list,
}


LABELLED = {"ladder", "leave_one_out"}
"""Designs whose rows have labels of their own, instead of their changed levels."""


def _second_levels(study: Study) -> Levels:
    """Factor path -> its second level, the first one after the baseline's."""
    return {factor.path: factor.levels[1] for factor in study.factors}
