"""Designs: from a study to its treatments, and what each is measured against. The baseline comes first."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ablate.errors import StudyError
from ablate.identity import canonical
from ablate.plan.known import NOTHING, Known
from ablate.plan.labels import format_level, short_names
from ablate.recipe.recipe import Recipe
from ablate.study.study import Study

Levels = dict[str, Any]
"""Factor path -> level."""


LevelsText = str
"""Levels as a text that does not depend on their order, to find equal ones."""


@dataclass(frozen=True)
class Treatment:
    """One level for every factor. `changed` holds those that differ from the baseline; it is empty for the baseline.

    The level of a setting that does not exist with the others is None, and not among those changed.
    `design` is the first of the study's designs that lists this treatment, `reference` the label of the treatment that
    its effect is measured against; both are None for the baseline. `aliases`: what a later ladder or leave-one-out
    calls it. `nuisance`: the levels of what is tuned for each treatment; None as long as the tuning has not ended, and
    the recipe then has the file's own.
    """

    levels: Levels
    changed: Levels
    label: str
    recipe: Recipe
    design: str | None
    reference: str | None
    aliases: tuple[str, ...]
    nuisance: Mapping[str, Any] | None = field(default_factory=dict)

    @property
    def is_baseline(self) -> bool:
        return not self.changed


@dataclass(frozen=True)
class Row:
    """A treatment as one design lists it. `against`: the changed levels of its reference, by default the baseline's."""

    changed: Levels
    label: str
    design: str | None
    against: Levels = field(default_factory=dict)


@dataclass(frozen=True)
class Listing:
    """The rows of all designs, by what they change; `left_out`: how many each constraint alone leaves out."""

    rows: dict[LevelsText, list[Row]]
    left_out: tuple[int, ...]

    def label(self, changed: Levels) -> str:
        """The label of the treatment with these levels."""
        return self.rows[_key(changed)][0].label


def treatments(study: Study, known: Known = NOTHING) -> list[Treatment]:
    """The treatments of a study, none twice. Raises StudyError as `list_rows` and `resolve` do."""
    return resolve(study, known, list_rows(study, known))


def resolve(study: Study, known: Known, listing: Listing) -> list[Treatment]:
    """The treatments of a listing, each with its recipe.

    Raises StudyError when levels contradict each other in a combination.
    """
    complete = _completer(study)
    found = []
    for row, *others in listing.rows.values():
        nuisance = known.tuned.get(canonical(row.changed)) if study.tuning else {}
        levels = complete(row.changed)
        recipe = study.recipe({**row.changed, **(nuisance or {})})
        reference = (listing.label(row.against) if row.against else "baseline") if row.changed else None
        aliases = tuple([other.label for other in others if other.design in NAMED])
        found.append(Treatment(levels, row.changed, row.label, recipe, row.design, reference, aliases, nuisance))
    return found


def list_rows(study: Study, known: Known = NOTHING) -> Listing:
    """The rows of all designs, those with equal levels together. A row comes after the one it is measured against.

    What the study's constraints forbid is left out. Raises StudyError where a design cannot do without, where nothing
    but the baseline is left, and where a rung of a ladder changes nothing.
    """
    complete = _completer(study)
    found = {_key({}): [Row({}, "baseline", None)]}
    left_out = [0] * len(study.where)
    for design in study.designs:
        for row in _searched(study, known) if design == "search" else DESIGNS[design](study):
            failed = [i for i, one in enumerate(study.where) if not one.holds(complete(row.changed))]
            for i in failed:
                left_out[i] += 1
            if failed and (design in {"ladder", "fraction"} or row.label == "all"):
                raise _forbidden(study, failed[0], f"design '{design}' needs the treatment '{row.label}', left out by")
            if not failed:
                found.setdefault(_key(row.changed), []).append(row)
    if len(found) == 1 and any(left_out):
        worst = left_out.index(max(left_out))
        raise _forbidden(
            study, worst, f"nothing is left but the baseline; {left_out[worst]} treatments are left out by"
        )
    return Listing(found, tuple(left_out))


def _key(changed: Levels) -> LevelsText:
    return "\n".join(sorted([f"{path}={level!r}" for path, level in changed.items()]))


def _forbidden(study: Study, index: int, message: str) -> StudyError:
    text = f"where: {message} '{study.where[index].text}'"
    return StudyError([study.document.problem(("where", index), text)])


def _completer(study: Study) -> Callable[[Levels], Levels]:
    """What gives the level of every factor, given those that a treatment changes."""
    baseline = {factor.path: factor.levels[0] for factor in study.factors}

    def complete(changed: Levels) -> Levels:
        levels = {**baseline, **changed}
        for path in study.conditional:
            if path not in changed and not study.variants.has(path, changed):
                levels[path] = None
        return levels

    return complete


def changes(study: Study, levels: Mapping[str, Any]) -> Levels:
    """Of these levels, one for every factor, those that exist together and differ from the baseline's."""
    baseline = {factor.path: factor.levels[0] for factor in study.factors}
    return {path: level for path, level in study.existing(levels).items() if level != baseline[path]}


def is_allowed(study: Study, levels: Mapping[str, Any]) -> bool:
    """Whether these levels, one for every factor, fulfil the study's constraints and contradict nothing."""
    changed = changes(study, levels)
    complete = _completer(study)(changed)
    return all(one.holds(complete) for one in study.where) and study.variants.recipe(changed)[0] is not None


def _one_at_a_time(study: Study) -> Iterator[Row]:
    changes = ({factor.path: level} for factor in study.factors if factor.at_baseline for level in factor.levels[1:])
    return _against_baseline(study, changes, "one_at_a_time")


def _grid(study: Study) -> Iterator[Row]:
    """The product of all levels. Where a setting does not exist, all its levels make one treatment."""
    options: list[list[tuple[str, Any] | None]] = []
    for factor in study.factors:
        same: list[tuple[str, Any] | None] = [None] if factor.at_baseline else []
        options.append(same + [(factor.path, level) for level in factor.levels[1:]])
    changes = (dict([change for change in row if change]) for row in itertools.product(*options))
    return _against_baseline(study, changes, "grid")


def _fraction(study: Study) -> Iterator[Row]:
    assert study.fraction is not None
    changes = (
        {factor.path: factor.levels[at] for factor, at in zip(study.factors, run, strict=True) if at}
        for run in study.fraction.runs
    )
    return _against_baseline(study, changes, "fraction")


def _list(study: Study) -> Iterator[Row]:
    """The listed treatments, with 1 and 1.0 made equal."""
    baseline = {factor.path: factor.levels[0] for factor in study.factors}

    def checked(row: Levels) -> Levels:
        recipe = study.recipe(row)
        levels = {path: level if isinstance(level, dict) else recipe.value(path) for path, level in row.items()}
        return {path: level for path, level in levels.items() if level != baseline[path]}

    return _against_baseline(study, map(checked, study.listed), "list")


def _searched(study: Study, known: Known) -> Iterator[Row]:
    """The treatments that a search has tried so far."""
    short = short_names(study.factors)
    for suggestion in known.searched:
        changed = changes(study, suggestion.levels)
        label = " ".join(f"{short[path]}={format_level(level)}" for path, level in changed.items()) or "baseline"
        yield Row(changed, label, "search")


def _against_baseline(study: Study, changes: Iterable[Levels], design: str) -> Iterator[Row]:
    """Rows named by what they change, such as `kl=1 norm=scn`."""
    short = short_names(study.factors)
    named = {
        (f.path, repr(level)): f"{short[f.path]}={format_level(level)}" for f in study.factors for level in f.levels
    }
    for given in changes:
        changed = study.existing(given)
        label = " ".join([named[path, repr(level)] for path, level in changed.items()]) or "baseline"
        yield Row(changed, label, design)


def _ladder(study: Study) -> Iterator[Row]:
    """One factor after the other takes its other level and keeps it; each rung is measured against the one before."""
    below: Levels = {}
    for path, level in _others(study).items():
        changed = {**below, path: level}
        _check_existing(study, changed, "ladder")
        yield Row(changed, f"+ {short_names(study.factors)[path]}={format_level(level)}", "ladder", below)
        below = changed


def _leave_one_out(study: Study) -> Iterator[Row]:
    """All factors at their other level, then all but one, measured against all."""
    full, short = _others(study), short_names(study.factors)
    _check_existing(study, full, "leave_one_out")
    yield Row(full, "all", "leave_one_out")
    for path, level in full.items():
        rest = study.existing({other: kept for other, kept in full.items() if other != path})
        yield Row(rest, f"w/o {short[path]}={format_level(level)}", "leave_one_out", full)


def _check_existing(study: Study, changed: Levels, design: str) -> None:
    if lost := changed.keys() - study.existing(changed).keys():
        path = min(lost)
        with_ = ", ".join(f"{other}={format_level(level)}" for other, level in changed.items() if other != path)
        message = f"design '{design}' comes to '{path}', which does not exist with {with_ or 'the baseline'}"
        raise StudyError([study.document.problem(("factors", path), message, at_key=True)])


DESIGNS: Mapping[str, Callable[[Study], Iterator[Row]]] = {
    "one_at_a_time": _one_at_a_time,
    "grid": _grid,
    "ladder": _ladder,
    "leave_one_out": _leave_one_out,
    "fraction": _fraction,
    "list": _list,
}


NAMED = {"ladder", "leave_one_out"}
"""Designs whose rows have names that say more than what they change."""


def _others(study: Study) -> Levels:
    """Each factor's one level besides the baseline's."""
    return {factor.path: factor.levels[1] for factor in study.factors}
