"""Rows and columns of a table of one metric over the levels of two factors."""

from collections.abc import Sequence

from ablate.analysis.tables.rows import Arm, named, values
from ablate.analysis.typeset.cells import Cell, Column, Group, Word
from ablate.plan.labels import Names
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
    names = Names(study)
    columns = [Column("level", names.factors[down.path])]
    columns += [
        Column("value", f"{names.factors[across.path]}/{names.level(across.path, level)}", metric)
        for level in across.levels
    ]
    cells: dict[str, Cell] = {}
    for arm, value in zip(arms, values(metric, arms, ranks, starred=True), strict=True):
        key = repr([arm.treatment.levels[factor.path] for factor in study.factors])
        cells[key] = Word(arm.trouble or arm.seeds.trouble) if arm.trouble or not arm.effects[metric.name].n else value
    rows = tuple(
        (
            named(names, down.path, first),
            *(cells.get(repr([first, second]), Word("left out")) for second in across.levels),
        )
        for first in down.levels
    )
    return tuple(columns), (Group(rows),)
