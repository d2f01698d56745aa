"""The verdict on a change, and on sides that have trials without a result."""

import math
from collections.abc import Mapping

from ablate.analysis.statistics.chance import ALPHA
from ablate.analysis.statistics.paired import Change
from ablate.slots.settings import Metric

CLEAR = ("better", "worse", "higher", "lower")
"""Verdicts that there is a difference."""

NO_EFFECT = "no effect"
"""How the verdict that there is no effect worth knowing begins; the smallest effect of interest follows."""

TROUBLES = {"diverged": "diverges", "failed": "fails"}
"""Status of a trial that is over without a result -> the verdict on its treatment."""


def trouble(statuses: Mapping[str, int]) -> str:
    """`diverges 2/5` or `fails 1/5` if trials of a treatment have ended without a result; else empty.

    `statuses`: number of trials by status. The trials that are left are a selection by their results, so nothing is
    concluded from them.
    """
    total = sum(statuses.values())
    return next((f"{word} {statuses[name]}/{total}" for name, word in TROUBLES.items() if statuses.get(name)), "")


def is_trouble(verdict: str) -> bool:
    """Whether a verdict says that trials have ended without a result."""
    return any(word in verdict.split() for word in TROUBLES.values())


def trouble_of(treatment: Mapping[str, int], reference: Mapping[str, int]) -> str:
    """The `trouble` of a treatment or, if it has none, that of its reference: `reference diverges 1/5`."""
    return trouble(treatment) or (f"reference {word}" if (word := trouble(reference)) else "")


def verdict(metric: Metric, change: Change, p_holm: float | None = None, trouble: str = "") -> str:
    """The verdict on a change of a metric, the first that applies; docs/statistics.md lists them.

    `p_holm` is given for planned comparisons only: a difference must then also be significant after the correction.
    `trouble`: what takes the place of a verdict, if trials of either side have ended without a result.
    """
    if trouble:
        return trouble
    if change.n < 2:
        return "too few seeds"
    if not math.isfinite(change.mean):
        return "not finite"
    if change.constant and change.mean == 0:
        return "identical"
    if change.constant and not metric.exact:
        return "no spread"
    excludes_zero = not change.low <= 0 <= change.high
    if excludes_zero and (p_holm is None or p_holm < ALPHA or change.constant):
        if metric.direction == "none":
            return "higher" if change.mean > 0 else "lower"
        return "better" if (change.mean > 0) == (metric.direction == "up") else "worse"
    if is_negligible(metric, change):
        return no_effect(metric, metric.interest)
    return "unclear" if excludes_zero else "within noise"


def is_negligible(metric: Metric, change: Change) -> bool:
    """Whether the change is smaller than the metric's smallest effect of interest, by two one-sided tests at 5 %.

    They are both significant if the 90 % interval lies within the margin (D. J. Schuirmann, "A comparison of the two
    one-sided tests procedure and the power approach for assessing the equivalence of average bioavailability", Journal
    of Pharmacokinetics and Biopharmaceutics 15, 1987). False without a margin, and for an interval without width unless
    the metric is exact.
    """
    if metric.interest is None or (change.constant and not metric.exact):
        return False
    return -metric.interest < change.low90 and change.high90 < metric.interest


def no_effect(metric: Metric, margin: float | None) -> str:
    """The verdict that there is no effect as large as a margin: `no effect ≥ 0.5 dB`. It must not be None."""
    return f"{NO_EFFECT} ≥ {with_unit(metric, margin)}"


def with_unit(metric: Metric, margin: float | None) -> str:
    """A margin with the metric's unit: `0.5 dB`. It must not be None."""
    unit = "" if metric.unit == "1" else f" {metric.unit}"
    return f"{margin:g}{unit}"
