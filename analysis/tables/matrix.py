"""Rows and columns of a table of one metric over the levels of two factors."""

from collections.abc import Sequence

from ablate.analysis.tables.rows import Arm, values
from ablate.analysis.typeset.cells import Cell, Column, Group, Level, Word
from ablate.plan.labels import format_level, short_names
from ablate.slots.settings import Metric
from ablate.study.study import Study


def arrange_matrix(
    study: Study, arms: Sequence[Arm], metric: Metric, ranks: Sequence[int]
) -> tuple[tuple[Column, ...], tuple[Group, ...]]:
    """The columns and rows: a row per level of the first factor, a column per level of the second.

    Raises ValueError if the study is not a grid of two factors.
    """
    if study.designs != ("grid",) or len(study.factors) != 2:
        what = f"{' + '.join(study.designs)} of {len(study.factors)} factor{'s' * (len(study.factors) != 1)}"
        raise ValueError(f"layout 'matrix' is for a grid of two factors; {study.name} is a {what}")
    down, across = study.factors
    names = short_names(study.factors)
    columns = [Column("level", names[down.path])]
    columns += [Column("value", f"{names[across.path]}/{format_level(level)}", metric) for level in across.levels]
    cells: dict[str, Cell] = {}
    for arm, value in zip(arms, values(metric, arms, ranks, starred=True), strict=True):
        key = repr([arm.treatment.levels[factor.path] for factor in study.factors])
        cells[key] = Word(arm.trouble or arm.seeds.trouble) if arm.trouble or not arm.effects[metric.name].n else value
    rows = tuple(
        (Level(first), *(cells.get(repr([first, second]), Word("left out")) for second in across.levels))
        for first in down.levels
    )
    return tuple(columns), (Group(rows),)
