"""Figures of metrics: effects with intervals, interactions of factors, trade-offs between two metrics."""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ablate.analysis.figures.style import FAINT, INK, LEGEND_WRAP, LINES, MARKERS, Panel, fold, legend, legend_columns
from ablate.analysis.statistics.effects import Effect
from ablate.analysis.statistics.factorial import crossed
from ablate.analysis.statistics.ranks import front
from ablate.analysis.statistics.verdicts import is_trouble
from ablate.analysis.study_results import StudyResults
from ablate.analysis.tables.build import default_metrics
from ablate.analysis.typeset.cells import compared, unit
from ablate.plan.labels import format_level
from ablate.plan.treatments import Treatment
from ablate.slots.settings import Metric
from ablate.study.optimal import Optimal
from ablate.study.titles import title_of

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

BETTER = {"up": "higher is better", "down": "lower is better", "none": ""}

ROW = 0.17
"""Height of a line of text, inches."""

LETTER = 0.055
"""Width of a letter of a level's name, inches."""

WRAP = 30
"""Most characters in a line of a treatment's name beside the axes."""

MAX_NAMED = 8
"""Most treatments of a front that a legend names."""


def effects(results: StudyResults, metrics: tuple[str, ...]) -> list[Panel]:
    """Every treatment's change of a metric from its reference, with its 95 % interval; clear changes are filled.

    Raises ValueError before any trial is finished.
    """
    _check_finished(results)
    (name,) = metrics or (results.study.primary,)
    metric = results.study.metrics[name]
    rows = [treatment for treatment in results.treatments.values() if not treatment.is_baseline]
    names = [fold(results.names.treatment(treatment.label), WRAP) for treatment in rows]

    def draw(axes: "Axes") -> None:
        axes.axvline(0, color=INK, linewidth=0.8)
        for y, treatment in enumerate(rows):
            _interval(axes, y, results.effect(treatment.label, name), results.colors[treatment.label])
        axes.set_yticks(range(len(rows)), ["\n".join(lines) for lines in names])
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.grid(visible=False, axis="y")
        axes.locator_params(axis="x", nbins=5)  # names of treatments leave little room
        axes.set_xlabel(_change_label(metric))

    lines = sum(map(len, names))
    return [Panel("", 0.7 + ROW * max(lines, 1), draw)]


def _interval(axes: "Axes", y: int, effect: Effect, color: str) -> None:
    """One row: the mean change as a dot on its interval, and a word if there is no value or no verdict."""
    change = effect.change
    trouble = is_trouble(effect.verdict)
    if trouble or not math.isfinite(change.mean):
        at = change.mean if math.isfinite(change.mean) else 0
        axes.text(at, y, f"  {effect.verdict if trouble else 'no value'}", va="center", fontsize=7, color=FAINT)
    if not math.isfinite(change.mean):
        return
    if math.isfinite(change.low):
        axes.plot([change.low, change.high], [y, y], color=color, linewidth=1.4, solid_capstyle="butt")
    face = color if effect.clear else "white"
    axes.plot(change.mean, y, "o", color=color, markerfacecolor=face, markersize=4.5)


def interaction(results: StudyResults, metrics: tuple[str, ...]) -> list[Panel]:
    """Means of a metric over the levels of one factor, a line per level of another, for each pair of crossed factors.

    A mean is over seeds and over the levels of all other factors; parallel lines mean no interaction. Raises ValueError
    if no two factors are crossed, and for a D-optimal fraction, where such means would mix in effects of other factors.
    """
    (name,) = metrics or (results.study.primary,)

    # The treatments that are averaged, and the pairs of factors.
    if isinstance(results.study.fraction, Optimal):
        raise ValueError(
            f"study '{results.study.name}' runs a D-optimal fraction, in which means over other factors' levels mix "
            "their effects; the table has the requested interactions, each adjusted for the others"
        )
    names = results.names.factors
    all_treatments = {trial.treatment.label: trial.treatment for trial in results.trials}
    treatments = {row.label: row for row in crossed(results.study, list(all_treatments.values()))}
    every = list(treatments.values())
    done = results.frame[(results.frame["status"] == "done") & results.frame["treatment"].isin(list(treatments))]
    pairs = [pair for pair in itertools.combinations(names, 2) if _crossed(pair, every)]
    if not pairs:
        designs = " + ".join(results.study.designs)
        raise ValueError(
            f"no two factors of study '{results.study.name}' are crossed by its design ({designs}), so it cannot show "
            "interactions; a 'grid' or a 'fraction' can"
        )
    _check_finished(results)
    return [_interaction(results, name, treatments, done, pair) for pair in pairs]


def _interaction(
    results: StudyResults, name: str, treatments: Mapping[str, Treatment], done: "pd.DataFrame", pair: tuple[str, str]
) -> Panel:
    """Means of a metric over the levels of two factors. `done`: the finished trials of `treatments`, by label."""
    names = results.names.factors
    every = list(treatments.values())

    # The factor with more levels is on the x axis, the other makes the lines.
    across, lines = sorted(pair, key=lambda path: -len(_levels(path, every)))
    columns, rows = (_levels(path, every) for path in (across, lines))
    cells = {
        (a, b): _mean(done[name][[_has(treatments[t], {across: a, lines: b}) for t in done["treatment"]]].to_numpy())
        for a in columns
        for b in rows
    }

    # Room for the legend above the axes and for the names of levels below; long names are turned.
    shown = {
        path: {format_level(one.levels[path]): results.names.level(path, one.levels[path]) for one in every}
        for path in (across, lines)
    }
    ticks = [shown[across][column] for column in columns]
    colors = {row: _color(results, treatments, lines, row) for row in rows}
    entries = {row: f"{names[lines]} {shown[lines][row]}" for row in rows}
    longest = max(map(len, ticks))
    angle = 30 if longest * len(columns) > 40 else 0
    in_legend = legend_columns(list(entries.values()))
    legend_height = ROW * math.ceil(len(rows) / in_legend)
    names_height = LETTER * longest * math.sin(math.radians(angle))

    def draw(axes: "Axes") -> None:
        for i, row in enumerate(rows):
            means = [cells[column, row] for column in columns]
            style = LINES[i % len(LINES)]
            marker = MARKERS[i % len(MARKERS)]
            axes.plot(
                range(len(columns)), means, linestyle=style, marker=marker, color=colors[row], label=entries[row]
            )  # fmt: skip
        axes.set_xticks(range(len(columns)), ticks, rotation=angle, ha="right" if angle else "center")
        axes.set(xlabel=names[across], ylabel=_axis(results.study.metrics[name], short=True))
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0.2, ncols=in_legend, columnspacing=1.2)
        axes.set_title(axes.get_title(loc="left"), pad=72 * legend_height + 6)

    return Panel(f"{names[across]} × {names[lines]}", 1.9 + legend_height + names_height, draw)


def _color(results: StudyResults, treatments: Mapping[str, Treatment], path: str, level: str) -> str | None:
    """The colour of the treatment in which only this level differs from the baseline, if there is one."""
    alone = (
        label
        for label, row in treatments.items()
        if row.changed.keys() <= {path} and format_level(row.levels[path]) == level
    )
    return results.colors.get(next(alone, ""))


def _levels(path: str, treatments: Sequence[Treatment]) -> list[str]:
    """The levels of a factor among treatments, as text."""
    return list(dict.fromkeys(format_level(treatment.levels[path]) for treatment in treatments))


def _has(treatment: Treatment, levels: dict[str, str]) -> bool:
    """Whether a treatment has these levels."""
    return all(format_level(treatment.levels[path]) == level for path, level in levels.items())


def _crossed(pair: tuple[str, str], treatments: Sequence[Treatment]) -> bool:
    """Whether every level of one factor occurs with every level of the other, and each has two or more."""
    combinations = {tuple(format_level(treatment.levels[path]) for path in pair) for treatment in treatments}
    sides = [{levels[i] for levels in combinations} for i in (0, 1)]
    return len(combinations) == len(sides[0]) * len(sides[1]) and min(map(len, sides)) > 1


def _mean(values: NDArray[np.float64]) -> float:
    """The mean without NaN; NaN if no value is finite."""
    return float(np.nanmean(values)) if np.isfinite(values).any() else math.nan


def pareto(results: StudyResults, metrics: tuple[str, ...]) -> list[Panel]:
    """Two metrics against each other, a point per treatment, and the Pareto front.

    By default these are the objectives of a search, or the primary metric and the first metric of another probe.
    Raises ValueError if no treatment has values of both.
    """
    _check_finished(results)
    study = results.study
    x, y = (study.metrics[name] for name in metrics or _default_pair(results))
    arms = results.table.arms
    points = {arm.treatment.label: (arm.effects[x.name].mean, arm.effects[y.name].mean) for arm in arms}
    points = {label: point for label, point in points.items() if all(map(math.isfinite, point))}
    if not points:
        raise ValueError(f"no treatment of study '{study.name}' has finite values of both {x.name} and {y.name}")
    best = sorted(front(points, (x, y)), key=lambda label: points[label])

    def draw(axes: "Axes") -> None:
        rest = [point for label, point in points.items() if label not in best]
        if rest:
            axes.plot(*zip(*rest, strict=True), ".", color=FAINT, label="others")
        if best:
            axes.plot(*zip(*(points[label] for label in best), strict=True), color=INK, linewidth=0.8)
        for i, label in enumerate(best):
            name = "\n".join(fold(results.names.treatment(label), LEGEND_WRAP)) if i < MAX_NAMED else None
            axes.plot(*points[label], MARKERS[i % len(MARKERS)], color=results.colors[label], markersize=5, label=name)
        if "baseline" in points and "baseline" not in best:
            axes.plot(*points["baseline"], "x", color=INK, markersize=5, label="baseline")
        axes.set(xlabel=_axis(x), ylabel=_axis(y))
        legend(axes, columns=1)

    in_legend = sum(len(fold(results.names.treatment(label), LEGEND_WRAP)) for label in best[:MAX_NAMED]) + 2
    return [Panel("", 2.3 + ROW * in_legend, draw)]


def _check_finished(results: StudyResults) -> None:
    """Raise ValueError before any trial is finished."""
    if not results.has_ended.any():
        raise ValueError(f"no trial of study '{results.study.name}' is finished")


def _default_pair(results: StudyResults) -> list[str]:
    """The default metrics of `pareto`. Raises ValueError if the study has fewer than two metrics with a direction."""
    study = results.study
    names = [name for name in default_metrics(study) if study.metrics[name].direction != "none"]
    names += [name for name, metric in study.metrics.items() if metric.direction != "none" and name not in names]
    if len(names) < 2:
        listed = ", ".join(names) or "none"
        raise ValueError(f"a front needs two metrics with a direction; study '{study.name}' reports {listed}")
    return names[:2]


def _axis(metric: Metric, *, short: bool = False) -> str:
    """The label of an axis: name and unit and, unless `short`, the direction that is better."""
    text = f"{title_of(metric)} ({unit(metric)})" if unit(metric) else title_of(metric)
    return f"{text}, {_aim(metric)}" if _aim(metric) and not short else text


def _change_label(metric: Metric) -> str:
    """The label of an axis of changes, with the direction that is better; of a distance, that is always lower."""
    if metric.direction != "target":
        return f"Δ {_axis(metric, short=True)}\n{_aim(metric)}"
    measure = f" ({unit(metric)})" if unit(metric) else ""
    return f"Δ {compared(metric)}{measure}\nlower is better"


def _aim(metric: Metric) -> str:
    """The direction that is better, in words."""
    return f"best at {metric.target:g}" if metric.direction == "target" else BETTER[metric.direction]
