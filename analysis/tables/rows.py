"""Rows and columns of an ablation table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ablate.analysis.statistics.effects import Effect
from ablate.analysis.statistics.verdicts import trouble
from ablate.analysis.tables.searched import SearchResult
from ablate.analysis.typeset.cells import (
    Cell,
    Check,
    Column,
    Difference,
    Group,
    Level,
    Phrase,
    Seeds,
    Sentence,
    Value,
    Word,
    enough_decimals,
    unit,
)
from ablate.plan.labels import Names
from ablate.plan.treatments import Treatment
from ablate.slots.settings import Metric
from ablate.study.study import Study
from ablate.study.titles import title_of

UNFINISHED = {"diverged": "div.", "failed": "fail.", "running": "run.", "pending": "pend.", "pruned": "pruned"}
"""Status of a trial without results -> its abbreviation in a table."""

LEVELS_ONLY = {("grid",), ("fraction",), ("list",), ("search",)}
"""Designs whose rows have no name, only their levels."""


@dataclass(frozen=True)
class Arm:
    """A treatment, the number of its trials by status, and its effects by metric.

    `judged_by`: the metric of the planned comparison; the primary metric for the baseline.
    """

    treatment: Treatment
    status: Mapping[str, int]
    effects: dict[str, Effect]
    judged_by: str

    @property
    def judged(self) -> Effect:
        """The effect of the planned comparison."""
        return self.effects[self.judged_by]

    @property
    def trouble(self) -> str:
        """`diverges 2/5` or `fails 1/5` if trials have ended without a result; else empty."""
        return trouble(self.status)

    @property
    def seeds(self) -> Seeds:
        """The number of finished trials, and the status of the others."""
        total = sum(self.status.values())
        others = [f"{word} {self.status[name]}/{total}" for name, word in UNFINISHED.items() if name in self.status]
        return Seeds(self.status.get("done", 0), ", ".join(others))


def arrange(
    study: Study,
    arms: Sequence[Arm],
    metrics: Sequence[Metric],
    ranks: Mapping[str, Sequence[int]],
    search_result: SearchResult | None = None,
    *,
    components: bool,
) -> tuple[tuple[Column, ...], tuple[Group, ...]]:
    """The columns and rows of a table with a row per treatment, the baseline first, and the given metrics.

    `ranks`: metric -> the rank of each treatment, see `analysis.statistics.ranks`. `search_result`: for a study that
    searches. `components`: a column with check marks for each factor of two levels.
    """
    # Which treatment a row is.
    name_rows = _components if components else _treatments
    columns, cells = name_rows(study, [arm.treatment for arm in arms])
    if search_result:
        columns.append(Column("text", "front"))
        cells.append([Word("yes" if arm.treatment.label in search_result.front else "") for arm in arms])

    # Its metrics. The one that treatments are judged by has a difference and a verdict too, unless the study searches.
    for metric in metrics:
        alone = metric.name == study.primary and not study.primary_of and not search_result
        columns_of = _primary_columns if alone else _other_column
        for column, values_of_column in columns_of(metric, arms, ranks[metric.name]):
            columns.append(column)
            cells.append(values_of_column)
    if study.primary_of and not search_result:
        for column, values_of_column in _judged_columns(study, arms):
            columns.append(column)
            cells.append(values_of_column)

    columns.append(Column("seeds", "n"))
    cells.append([arm.seeds for arm in arms])
    return tuple(columns), _groups(study, arms, list(zip(*cells, strict=True)))


def _components(study: Study, treatments: Sequence[Treatment]) -> tuple[list[Column], list[list[Cell]]]:
    """A column per factor: a check mark for the second of two levels, or the level if there are more than two."""
    columns: list[Column] = []
    cells: list[list[Cell]] = []
    names = Names(study)
    for factor in study.factors:
        name = names.factors[factor.path]
        levels = [treatment.levels[factor.path] for treatment in treatments]
        if len(factor.levels) == 2:
            columns.append(Column("check", name, level=named(names, factor.path, factor.levels[1])))
            cells.append([Check(level == factor.levels[1]) for level in levels])
        else:
            columns.append(Column("level", name))
            cells.append([named(names, factor.path, level) for level in levels])
    return columns, cells


def _treatments(study: Study, treatments: Sequence[Treatment]) -> tuple[list[Column], list[list[Cell]]]:
    """For designs in `LEVELS_ONLY` a column per factor with its level; else one column with the treatment's changes."""
    names = Names(study)
    if study.designs in LEVELS_ONLY:
        levels: list[list[Cell]] = [
            [named(names, path, treatment.levels[path]) for treatment in treatments] for path in names.factors
        ]
        return [Column("level", name) for name in names.factors.values()], levels
    known = {treatment.label: treatment for treatment in treatments}
    changes = [_change(treatment, known[treatment.reference or treatment.label], names) for treatment in treatments]
    return [Column("level", "level" if study.designs == ("one_at_a_time",) else "treatment")], [changes]


def _change(treatment: Treatment, reference: Treatment, names: Names) -> Cell:
    """The name of a row: `scn`, `+ norm scn`, `w/o norm scn`, `all` or `kl 1, norm scn`.

    The names of the same treatment in other designs are in brackets.
    """
    before = {path: level for path, level in reference.levels.items() if level != treatment.levels[path]}
    pieces: Sentence = ("baseline",)
    match treatment.design:
        case "one_at_a_time":
            ((path, value),) = treatment.changed.items()
            level = named(names, path, value)
            if not treatment.aliases:
                return level
            pieces = (level,)
        case "ladder":
            pieces = ("+ ", *list_levels(names, {path: treatment.levels[path] for path in before}))
        case "leave_one_out" if treatment.label == "all":
            pieces = ("all",)
        case "leave_one_out":
            pieces = ("w/o ", *list_levels(names, before))
        case "grid" | "fraction":
            pieces = list_levels(names, treatment.changed)
    return Phrase(pieces, (", ".join(map(names.treatment, treatment.aliases)),) if treatment.aliases else ())


def named(names: Names, path: str, level: Any) -> Level:
    """A level with the name to show it under."""
    return Level(level, names.title(path, level))


def list_levels(names: Names, levels: Mapping[str, Any], *, full: bool = False) -> Sentence:
    """Factors with their levels: `kl 1, norm SCN`. `full`: a factor without a label is named by its path."""
    shown = {path: path if full and names.is_short(path) else names.factors[path] for path in levels}
    pieces = [piece for path, level in levels.items() for piece in (f", {shown[path]} ", named(names, path, level))]
    return (str(pieces[0])[2:], *pieces[1:])


def _primary_columns(metric: Metric, arms: Sequence[Arm], ranks: Sequence[int]) -> list[tuple[Column, list[Cell]]]:
    """Values, differences and verdicts."""
    effects = [arm.effects[metric.name] for arm in arms[1:]]
    differences: list[Cell] = [_difference(metric, effect) for effect in effects]
    verdicts: list[Cell] = [Word(effect.verdict) for effect in effects]
    delta = "Δ distance" if metric.direction == "target" else "Δ"
    return [
        (Column("value", title_of(metric), metric), values(metric, arms, ranks, starred=False)),
        (Column("difference", f"{delta} [95 % CI]", metric), [Word(""), *differences]),
        (Column("verdict", "verdict"), [Word(""), *verdicts]),
    ]


def _judged_columns(study: Study, arms: Sequence[Arm]) -> list[tuple[Column, list[Cell]]]:
    """The metric that each treatment is judged by, its difference and its verdict."""
    names: list[Cell] = []
    differences: list[Cell] = []
    for arm in arms[1:]:
        metric = study.metrics[arm.judged_by]
        names.append(Phrase((title_of(metric),), (unit(metric),) if unit(metric) else ()))
        differences.append(_difference(metric, arm.judged))
    verdicts: list[Cell] = [Word(arm.judged.verdict) for arm in arms[1:]]
    return [
        (Column("text", "judged by"), [Word(""), *names]),
        (Column("difference", "Δ [95 % CI]"), [Word(""), *differences]),
        (Column("verdict", "verdict"), [Word(""), *verdicts]),
    ]


def _difference(metric: Metric, effect: Effect) -> Difference:
    change = effect.change
    digits = enough_decimals(change.low, change.high, metric.decimals)
    return Difference(change.mean, change.low, change.high, digits, effect.clear)


def _other_column(metric: Metric, arms: Sequence[Arm], ranks: Sequence[int]) -> list[tuple[Column, list[Cell]]]:
    """Values, with a star where the difference is clear."""
    return [(Column("value", title_of(metric), metric), values(metric, arms, ranks, starred=True))]


def values(metric: Metric, arms: Sequence[Arm], ranks: Sequence[int], *, starred: bool) -> list[Cell]:
    """Mean and standard deviation of each treatment. `starred`: clear differences from the reference get a star."""
    effects = [arm.effects[metric.name] for arm in arms]
    return [
        Value(e.mean, e.sd, metric.decimals, r, starred and e.clear, e.n if 0 < e.n != arm.seeds.n else None)
        for arm, e, r in zip(arms, effects, ranks, strict=True)
    ]


def _groups(study: Study, arms: Sequence[Arm], rows: Sequence[tuple[Cell, ...]]) -> tuple[Group, ...]:
    """The baseline, then a group per design; for one-at-a-time a group per factor."""
    if study.designs in LEVELS_ONLY:
        return Group((rows[0],)), Group(tuple(rows[1:]))
    names = Names(study)
    groups = [Group((rows[0],))]
    for design in study.designs:
        of_design = [
            (arm.treatment, row) for arm, row in zip(arms, rows, strict=True) if arm.treatment.design == design
        ]
        if design != "one_at_a_time":
            groups.append(Group(tuple(row for _, row in of_design), design.replace("_", " ")))
            continue
        for factor in study.factors:
            of_factor = tuple(row for treatment, row in of_design if factor.path in treatment.changed)
            groups.append(Group(of_factor, names.factors[factor.path], named(names, factor.path, factor.levels[0])))
    return tuple(group for group in groups if group.rows)
