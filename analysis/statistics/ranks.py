"""Which cells of a column are marked: the best and second-best mean, or all that do not differ clearly from the best.

Also the Pareto front of several metrics.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from ablate.analysis.statistics.chance import ALPHA
from ablate.analysis.statistics.effects import difference, holm
from ablate.slots.settings import Metric
from ablate.study.study import SeedBounds


def rank(metric: Metric, means: Sequence[float]) -> list[int]:
    """1 for the best mean, 2 for the second best, else 0. Means are compared as printed: equal numerals share a rank.

    Nothing is ranked if the metric has no direction or if all means print the same. NaN has no rank.
    """
    if metric.direction == "none":
        return [0] * len(means)
    printed = losses(metric, [round(mean, metric.decimals) if math.isfinite(mean) else mean for mean in means])
    order = sorted({value for value in printed if not math.isnan(value)})
    ranks = {value: rank for rank, value in enumerate(order[:2], 1)} if len(order) > 1 else {}
    return [ranks.get(value, 0) for value in printed]


def indistinct(
    metric: Metric, arms: Sequence[Mapping[int, float]], bounds: SeedBounds | None = None, *, corrected: bool
) -> list[int]:
    """1 for the treatment (seed -> value) with the best mean and for each that does not differ from it, else 0.

    A treatment differs if p < 0.05 in a paired t test. `bounds`: as in `effects.analyse`. `corrected`: p after Holm's
    correction. Nothing is marked if the metric has no direction or if all treatments would be marked. A treatment
    without values, or with a value that is not finite, is never marked.
    """
    # The best mean; smaller losses are better.
    by_seed = [dict(zip(arm, losses(metric, list(arm.values())), strict=True)) for arm in arms]
    means = [sum(arm.values()) / len(arm) if arm else math.nan for arm in by_seed]
    finite = [i for i, mean in enumerate(means) if math.isfinite(mean)]
    if metric.direction == "none" or not finite:
        return [0] * len(arms)
    best = min(finite, key=means.__getitem__)

    # The test of each other treatment against it.
    others = [i for i in finite if i != best]
    changes = {i: difference(by_seed[i], by_seed[best], bounds) for i in others}
    certain = {i for i, change in changes.items() if metric.exact and change.constant and change.mean}
    p = {i: 0.0 if i in certain else change.p for i, change in changes.items()}
    tested = [i for i in others if not math.isnan(p[i])]
    if corrected:
        p |= dict(zip(tested, holm([p[i] for i in tested]), strict=True))
    marked = {best, *(i for i in others if not p[i] < ALPHA)}
    return [int(i in marked and len(marked) < len(finite)) for i in range(len(arms))]


def front(points: Mapping[str, Sequence[float]], metrics: Sequence[Metric]) -> list[str]:
    """The Pareto front: labels of the points that no other point dominates.

    A point dominates another if it is at least as good in all metrics and better in at least one.
    """
    columns = zip(*points.values(), strict=True)
    array = np.array([losses(metric, column) for metric, column in zip(metrics, columns, strict=True)]).T
    return [
        label
        for label, point in zip(points, array, strict=True)
        if not ((array <= point).all(axis=1) & (array < point).any(axis=1)).any()
    ]


def losses(metric: Metric, values: Sequence[float]) -> list[float]:
    """The values turned so that lower is better: negated if higher is better, or the distance to the target."""
    if metric.direction == "target":
        return [round(abs(value - metric.target), 9) for value in values]
    return [-value if metric.direction == "up" else value for value in values]
