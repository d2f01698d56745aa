"""Figures of metrics: effects with intervals, interactions of factors, trade-offs between two metrics."""

import itertools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ablate.analysis.figures.style import FAINT, INK, LEGEND_WRAP, LINES, MARKS, Panel, fold, legend, legend_columns
from ablate.analysis.results import StudyResults
from ablate.analysis.statistics.effects import Effect
from ablate.analysis.statistics.factorial import crossed
from ablate.analysis.statistics.ranks import front
from ablate.analysis.tables.build import default_metrics
from ablate.analysis.typeset.cells import unit
from ablate.plan.labels import short_names, show
from ablate.plan.treatments import Treatment
from ablate.slots.settings import Metric
from ablate.study.optimal import Optimal

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BETTER = {"up": "higher is better", "down": "lower is better", "none": ""}


ROW = 0.17
"""Height of a row of text, inches."""


LETTER = 0.055
"""Width of a letter of a level's name, inches."""


WRAP = 30
"""Characters of a treatment's name in a line beside axes."""


NAMED = 8
"""Treatments of a front that a legend names."""


def effects(results: StudyResults, metrics: tuple[str, ...]) -> list[Panel]:
    """Every treatment's change of a metric from its reference, with its 95 % interval; filled where it is clear."""
    (name,) = metrics or (results.study.primary,)
    metric = results.study.metrics[name]
    rows = [treatment for treatment in results.treatments.values() if not treatment.is_baseline]

    def draw(axes: "Axes") -> None:
        axes.axvline(0, color=INK, linewidth=0.8)
        for place, treatment in enumerate(rows):
            _interval(axes, place, results.effect(treatment.label, name), results.colors[treatment.label])
        axes.set_yticks(range(len(rows)), ["\n".join(fold(treatment.label, WRAP)) for treatment in rows])
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.grid(visible=False, axis="y")
        axes.locator_params(axis="x", nbins=5)  # names of treatments leave little room
        axes.set_xlabel(f"Δ {_axis(metric, short=True)}\n{_aim(metric)}")

    lines = sum(len(fold(treatment.label, WRAP)) for treatment in rows)
    return [Panel("", 0.7 + ROW * max(lines, 1), draw)]


def _interval(axes: "Axes", place: int, effect: Effect, color: str) -> None:
    change = effect.change
    if not math.isfinite(change.mean):
        said = "diverged" if effect.verdict == "diverged" else "no value"
        axes.text(0, place, f" {said}", va="center", fontsize=7, color=FAINT)
        return
    if math.isfinite(change.low):
        axes.plot([change.low, change.high], [place, place], color=color, linewidth=1.4, solid_capstyle="butt")
    filled = color if effect.clear else "white"
    axes.plot(change.mean, place, "o", color=color, markerfacecolor=filled, markersize=4.5)


def interaction(results: StudyResults, metrics: tuple[str, ...]) -> list[Panel]:
    """Means of a metric over the levels of one factor, a line per level of another, for each pair that is crossed.

    A mean is over seeds and over the levels of all other factors; parallel lines: no interaction. Raises ValueError for
    a study that crosses no two factors, or that runs a D-optimal fraction, where other factors would be in such means.
    """
    (name,) = metrics or (results.study.primary,)
    if isinstance(results.study.fraction, Optimal):
        raise ValueError(
            f"study '{results.study.name}' runs a D-optimal fraction, in which means over other factors' levels mix "
            "their effects; the table has the interactions that were asked for, each adjusted"
        )
    names = short_names(results.study.factors)
    every = {trial.treatment.label: trial.treatment for trial in results.trials}
    treatments = {treatment.label: treatment for treatment in crossed(results.study, list(every.values()))}
    sound = results.frame[(results.frame["status"] == "done") & results.frame["treatment"].isin(list(treatments))]
    pairs = [pair for pair in itertools.combinations(names, 2) if _crossed(pair, list(treatments.values()))]
    if not pairs:
        designs = " + ".join(results.study.designs)
        raise ValueError(
            f"no two factors of study '{results.study.name}' are crossed by its design ({designs}), so it tells "
            "nothing of interactions; a 'grid' or a 'fraction' does"
        )

    def panel(pair: tuple[str, str]) -> Panel:
        # The factor with more levels runs along the axis.
        across, lines = sorted(pair, key=lambda path: -len(_levels(path, list(treatments.values()))))
        places, rows = (_levels(path, list(treatments.values())) for path in (across, lines))
        cells = {
            (a, b): _mean(
                sound[name][[_has(treatments[t], {across: a, lines: b}) for t in sound["treatment"]]].to_numpy()
            )
            for a in places
            for b in rows
        }

        def draw(axes: "Axes") -> None:
            for i, row in enumerate(rows):
                means = [cells[place, row] for place in places]
                style, mark = LINES[i % len(LINES)], MARKS[i % len(MARKS)]
                axes.plot(range(len(places)), means, linestyle=style, marker=mark, label=f"{names[lines]} {row}")
            axes.set_xticks(range(len(places)), places, rotation=turn, ha="right" if turn else "center")
            axes.set(xlabel=names[across], ylabel=_axis(results.study.metrics[name], short=True))
            axes.legend(loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0.2, ncols=columns, columnspacing=1.2)
            axes.set_title(axes.get_title(loc="left"), pad=72 * in_legend + 6)

        longest = max(map(len, places))
        turn = 30 if longest * len(places) > 40 else 0
        columns = legend_columns([f"{names[lines]} {row}" for row in rows])
        in_legend = ROW * math.ceil(len(rows) / columns)
        in_names = LETTER * longest * math.sin(math.radians(turn))
        return Panel(f"{names[across]} × {names[lines]}", 1.9 + in_legend + in_names, draw)

    return [panel(pair) for pair in pairs]


def _levels(path: str, treatments: Sequence[Treatment]) -> list[str]:
    return list(dict.fromkeys(show(treatment.levels[path]) for treatment in treatments))


def _has(treatment: Treatment, levels: dict[str, str]) -> bool:
    return all(show(treatment.levels[path]) == level for path, level in levels.items())


def _crossed(pair: tuple[str, str], treatments: Sequence[Treatment]) -> bool:
    """Whether every level of one meets every level of the other, and each has two or more."""
    met = {tuple(show(treatment.levels[path]) for path in pair) for treatment in treatments}
    sides = [{levels[i] for levels in met} for i in (0, 1)]
    return len(met) == len(sides[0]) * len(sides[1]) and min(map(len, sides)) > 1


def _mean(values: NDArray[np.float64]) -> float:
    return float(np.nanmean(values)) if np.isfinite(values).any() else math.nan


def pareto(results: StudyResults, metrics: tuple[str, ...]) -> list[Panel]:
    """Two metrics against each other, a point per treatment, and the front: those that none beats in both.

    By default the objectives of a search, or the primary metric and the first of another probe.
    """
    study = results.study
    x, y = (study.metrics[name] for name in metrics or _two(results))
    arms = results.table.arms
    points = {arm.treatment.label: (arm.effects[x.name].mean, arm.effects[y.name].mean) for arm in arms}
    points = {label: point for label, point in points.items() if all(map(math.isfinite, point))}
    best = sorted(front(points, (x, y)), key=lambda label: points[label])

    def draw(axes: "Axes") -> None:
        rest = [point for label, point in points.items() if label not in best]
        if rest:
            axes.plot(*zip(*rest, strict=True), ".", color=FAINT, label="others")
        if best:
            axes.plot(*zip(*(points[label] for label in best), strict=True), color=INK, linewidth=0.8)
        for i, label in enumerate(best):
            named = "\n".join(fold(label, LEGEND_WRAP)) if i < NAMED else None
            axes.plot(*points[label], MARKS[i % len(MARKS)], color=results.colors[label], markersize=5, label=named)
        if "baseline" in points and "baseline" not in best:
            axes.plot(*points["baseline"], "x", color=INK, markersize=5, label="baseline")
        axes.set(xlabel=_axis(x), ylabel=_axis(y))
        legend(axes, columns=1)

    in_legend = sum(len(fold(label, LEGEND_WRAP)) for label in best[:NAMED]) + 2
    return [Panel("", 2.3 + ROW * in_legend, draw)]


def _two(results: StudyResults) -> list[str]:
    """The metrics of `pareto` where none are asked for. Raises ValueError if the study has not two that have a best."""
    study = results.study
    names = [name for name in default_metrics(study) if study.metrics[name].direction != "none"]
    names += [name for name, metric in study.metrics.items() if metric.direction != "none" and name not in names]
    if len(names) < 2:
        raise ValueError(f"a front needs two metrics that have a best, and study '{study.name}' reports {names}")
    return names[:2]


def _axis(metric: Metric, *, short: bool = False) -> str:
    text = f"{metric.name} ({unit(metric)})" if unit(metric) else metric.name
    return f"{text}, {_aim(metric)}" if _aim(metric) and not short else text


def _aim(metric: Metric) -> str:
    return f"best at {metric.target:g}" if metric.direction == "target" else BETTER[metric.direction]
