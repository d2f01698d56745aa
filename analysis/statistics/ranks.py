"""Which cells of a column are marked: the best and the second best mean, or all that are not told from the best."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from ablate.analysis.statistics.chance import ALPHA
from ablate.analysis.statistics.effects import difference, holm
from ablate.slots.settings import Metric
from ablate.study.study import SeedBounds


def rank(metric: Metric, means: Sequence[float]) -> list[int]:
    """1 for the best mean, 2 for the second best, else 0, judged by what is printed: equal numerals share a rank.

    Nothing is ranked where a metric has no direction or where all means print the same. NaN has no rank.
    """
    if metric.direction == "none":
        return [0] * len(means)
    lost = losses(metric, [round(mean, metric.decimals) if math.isfinite(mean) else mean for mean in means])
    order = sorted({value for value in lost if not math.isnan(value)})
    ranks = {value: place for place, value in enumerate(order[:2], 1)} if len(order) > 1 else {}
    return [ranks.get(value, 0) for value in lost]


def indistinct(
    metric: Metric, arms: Sequence[Mapping[int, float]], bounds: SeedBounds | None = None, *, corrected: bool
) -> list[int]:
    """1 for the treatment (seed -> value) with the best mean and for those that a paired t test does not tell from it
    at 5 %, else 0. `bounds`: as in `effects.analyse`. `corrected`: after Holm's correction. Nothing is marked where a
    metric has no direction, or where all would be; a treatment without values, or with one that is not finite, is not.
    """
    lost = [dict(zip(arm, losses(metric, list(arm.values())), strict=True)) for arm in arms]
    means = [sum(arm.values()) / len(arm) if arm else math.nan for arm in lost]
    sound = [i for i, mean in enumerate(means) if math.isfinite(mean)]
    if metric.direction == "none" or not sound:
        return [0] * len(arms)
    best = min(sound, key=means.__getitem__)
    others = [i for i in sound if i != best]
    tests = {i: difference(lost[i], lost[best], bounds).p for i in others}
    tested = [i for i in others if not math.isnan(tests[i])]
    if corrected:
        tests |= dict(zip(tested, holm([tests[i] for i in tested]), strict=True))
    alike = {best, *(i for i in others if not tests[i] < ALPHA)}
    return [int(i in alike and len(alike) < len(sound)) for i in range(len(arms))]


def front(points: Mapping[str, Sequence[float]], metrics: Sequence[Metric]) -> list[str]:
    """The Pareto front: labels of the points that no other is at least as good as in all metrics and better in one."""
    columns = zip(*points.values(), strict=True)
    array = np.array([losses(metric, column) for metric, column in zip(metrics, columns, strict=True)]).T
    return [
        label
        for label, lost in zip(points, array, strict=True)
        if not ((array <= lost).all(axis=1) & (array < lost).any(axis=1)).any()
    ]


def losses(metric: Metric, values: Sequence[float]) -> list[float]:
    """Lower is better: by direction, or the distance to the target."""
    if metric.direction == "target":
        return [round(abs(value - metric.target), 9) for value in values]
    return [-value if metric.direction == "up" else value for value in values]
