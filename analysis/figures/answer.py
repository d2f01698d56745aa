"""The figure of a study's answer: the largest effect of each factor on each lead metric, on one scale."""

import itertools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ablate.analysis.figures.style import FAINT, INK, Panel, fold
from ablate.analysis.study_results import StudyResults
from ablate.analysis.tables.leads import Comparison, by_factor, by_metric, by_size, largest
from ablate.study.titles import title_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WRAP = 34
"""Most characters in a line beside the axes."""

ROW = 0.17
"""Height of a line of text, inches."""

LIMIT = 300.0
"""Largest multiple that is drawn; longer intervals go on past the axes."""


def answer(results: StudyResults, metrics: tuple[str, ...]) -> list[Panel]:
    """A panel per factor; each change with its 95 % interval, in multiples of its smallest effect of interest.

    The axis is linear up to one such effect and logarithmic beyond it. Right of 0 is better or, for a metric without a
    direction, higher. Raises ValueError for a search, and before a difference can be drawn.
    """
    drawn = [one for one in results.table.comparisons if math.isfinite(one.size)]
    if not drawn:
        raise ValueError(f"study '{results.study.name}' has no differences that have a smallest effect of interest")
    rows = {
        factor: by_size([largest(group) for group in by_metric(rows).values()])
        for factor, rows in by_factor(drawn).items()
    }
    reach = _reach([one for group in rows.values() for one in group])
    order = sorted(rows.items(), key=lambda item: -max(one.size for one in item[1]))
    last = len(order) - 1
    return [_panel(results, factor, group, reach, labelled=i == last) for i, (factor, group) in enumerate(order)]


def _panel(results: StudyResults, factor: str, rows: Sequence[Comparison], reach: float, *, labelled: bool) -> Panel:
    """The rows of a factor. `reach`: the largest multiple on the axis. `labelled`: whether the axis has a label."""
    names = [fold(f"{title_of(one.metric)}, {one.name}", WRAP) for one in rows]
    ends = list(itertools.accumulate(map(len, names)))
    places = [end - len(lines) / 2 for end, lines in zip(ends, names, strict=True)]

    def draw(axes: "Axes") -> None:
        axes.axvspan(-1, 1, color=FAINT, alpha=0.18, linewidth=0)
        axes.axvline(0, color=INK, linewidth=0.8)
        for y, one in zip(places, rows, strict=True):
            _interval(axes, y, one, results.colors.get(one.label, INK))
        axes.set_xscale("symlog", linthresh=1, linscale=0.8)
        axes.set_xlim(-reach, reach)
        ticks = [tick for tick in ((1, 10, 100) if reach > 10 else (1, 3, 10)) if tick <= reach]
        axes.set_xticks([*(-tick for tick in ticks[::-1]), 0, *ticks])
        axes.set_xticklabels([f"{tick:g}".replace("-", "−") for tick in axes.get_xticks()])
        axes.minorticks_off()
        axes.set_yticks(places, ["\n".join(lines) for lines in names])
        axes.set_ylim(ends[-1] + 0.1, -0.1)
        axes.grid(visible=False, axis="y")
        if labelled:
            axes.set_xlabel("multiples of the\nsmallest effect of interest\n← worse     better →")

    return Panel(factor, (0.8 if labelled else 0.45) + ROW * ends[-1], draw)


def _interval(axes: "Axes", y: float, one: Comparison, color: str) -> None:
    """The change as a dot on its interval; filled if it is clear."""
    unit = one.metric.interest or math.nan
    sign = -1 if one.metric.direction in {"down", "target"} else 1
    change = one.change
    if math.isfinite(change.low):
        axes.plot([sign * change.low / unit, sign * change.high / unit], [y, y], color=color, linewidth=1.4)
    face = color if one.clear else "white"
    axes.plot(sign * change.mean / unit, y, "o", color=color, markerfacecolor=face, markersize=4.5)


def _reach(rows: Sequence[Comparison]) -> float:
    """Half the width of the axis: room for all changes and, as far as `LIMIT`, for their intervals."""
    ends = [
        abs(end) / (one.metric.interest or math.nan)
        for one in rows
        for end in (one.change.mean, one.change.low, one.change.high)
        if math.isfinite(end)
    ]
    largest_change = max(one.size for one in rows)
    return 1.15 * max(3.0, largest_change, min(LIMIT, max(ends)))
