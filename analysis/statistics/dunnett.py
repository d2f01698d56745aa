"""Dunnett's test: every treatment against the baseline, as if no seed were shared.

One error variance, that of the seeds within treatments, is pooled over all treatments, and the p-values and intervals
hold for all comparisons of a metric simultaneously (C. W. Dunnett, "A multiple comparison procedure for comparing
several treatments with a control", 1955). Where seeds are shared, the paired test needs fewer of them.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache

import numpy as np
from numpy.typing import NDArray

from ablate.analysis.statistics.chance import ALPHA
from ablate.analysis.statistics.effects import Analysis, Arms, Change, comparable
from ablate.analysis.statistics.verdicts import is_negligible, verdict
from ablate.slots.settings import Metric

NODES = 60
"""Gauss-Legendre nodes of the integrals over the common mean and over the logarithm of the error's sd."""

TAIL = 1e-12
"""Probability that the integral over the error's sd leaves out on either side."""


def unpair(
    analysis: Analysis, metrics: Mapping[str, Metric], arms: Mapping[str, Arms], troubles: Mapping[str, str]
) -> Analysis:
    """The analysis with every comparison made by Dunnett's test instead of seed by seed. `arms`: values by metric.

    `troubles`: as in `effects.list_effects`. All treatments must be judged by one metric.
    """
    effects = {label: dict(row) for label, row in analysis.effects.items()}
    for name, metric in metrics.items():
        for label, change in dunnett(comparable(metric, arms[name])).items():
            effect = effects[label][name]
            if troubles[label] or effect.verdict == "pruned":
                effects[label][name] = replace(effect, change=Change(change.n, change.mean))
                continue
            p = change.p if name == analysis.judged_by[label] else math.nan
            word = verdict(metric, change)
            effects[label][name] = replace(
                effect, change=change, p_holm=p, verdict=word, negligible=is_negligible(metric, change)
            )
    return replace(analysis, effects=effects, noises={}, moderation={})


def dunnett(arms: Arms) -> dict[str, Change]:
    """The change of each treatment from the first one, with a 95 % interval and p that hold for all at once.

    `n` is the number of the treatment's seeds, `sd` the standard deviation of the error. Treatments with fewer than two
    values, or with a value that is not finite, are not compared.
    """
    control = next(iter(arms.values()))
    others = list(arms.items())[1:]
    changes = {label: _mean_change(arm, control) for label, arm in others}
    usable = {label: np.array([*arm.values()]) for label, arm in others if _usable(arm)}
    if not usable or not _usable(control):
        return changes

    # The pooled error; without any, each interval is a point.
    base = np.array([*control.values()])
    groups = [base, *usable.values()]
    freedom = sum(map(len, groups)) - len(groups)
    variance = sum(float(((group - group.mean()) ** 2).sum()) for group in groups) / freedom
    largest = max(float(np.abs(group).max()) for group in groups)
    if math.sqrt(variance) <= 4 * np.finfo(float).eps * largest:
        return {label: _constant(change) if label in usable else change for label, change in changes.items()}

    # The simultaneous test and interval of each treatment.
    loads = tuple(math.sqrt(len(group) / (len(group) + len(base))) for group in usable.values())
    critical, critical90 = (_critical(loads, freedom, level) for level in (ALPHA, 2 * ALPHA))
    for label, group in usable.items():
        error = math.sqrt(variance * (1 / len(group) + 1 / len(base)))
        mean = changes[label].mean
        p = 1 - _within(abs(mean) / error, loads, freedom)
        half = critical * error
        half90 = critical90 * error
        changes[label] = Change(
            len(group), mean, math.sqrt(variance), mean - half, mean + half, max(0.0, p), mean - half90, mean + half90
        )
    return changes


def _constant(change: Change) -> Change:
    """The change where no treatment has any spread."""
    p = math.nan if change.mean else 1.0
    return Change(change.n, change.mean, 0.0, change.mean, change.mean, p, change.mean, change.mean)


def _usable(arm: Mapping[int, float]) -> bool:
    """Whether there are at least two values, all of them finite."""
    return len(arm) > 1 and all(map(math.isfinite, arm.values()))


def _mean_change(arm: Mapping[int, float], control: Mapping[int, float]) -> Change:
    """The difference of the two means, without a test; `n` is the smaller number of seeds."""
    n = min(len(arm), len(control))
    if not n:
        return Change(0)
    mean, control_mean = (sum(values.values()) / len(values) for values in (arm, control))
    return Change(n, mean - control_mean)


def _within(t: float, loads: Sequence[float], freedom: int) -> float:
    """Probability, if no treatment has an effect, that the absolute t statistics of all treatments are below `t`.

    Each statistic is (load * z + sqrt(1 - load^2) * x) / s. All share the normal variable z and the error's sd s; the
    normal variable x is the treatment's own.
    """
    from scipy.special import ndtr

    z, z_weights, sds, sd_weights = _grid(freedom)
    probability = np.ones((len(sds), len(z)))
    for load in loads:
        own = math.sqrt(1 - load * load)
        upper, lower = ((load * z + sign * t * sds[:, None]) / own for sign in (1, -1))
        probability *= ndtr(upper) - ndtr(lower)
    return float(sd_weights @ probability @ z_weights)


@cache
def _grid(freedom: int) -> tuple[NDArray[np.float64], ...]:
    """Nodes and weights of two quadratures: of a standard normal variable, and of an sd with `freedom` degrees."""
    from scipy.special import gammainccinv, gammaincinv, gammaln

    nodes, weights = np.polynomial.legendre.leggauss(NODES)

    # The standard normal variable, from -8.5 to 8.5.
    z = 8.5 * nodes
    normal = 8.5 * weights * np.exp(-z * z / 2) / math.sqrt(2 * math.pi)

    # The logarithm of the sd: freedom * sd^2 has a chi-squared distribution.
    half = freedom / 2
    low, high = (0.5 * math.log(float(square) / half) for square in (gammaincinv(half, TAIL), gammainccinv(half, TAIL)))
    logs = low + (nodes + 1) / 2 * (high - low)
    density = math.log(2) + half * math.log(half) - float(gammaln(half)) + freedom * logs - half * np.exp(2 * logs)
    return z, normal, np.exp(logs), weights / 2 * (high - low) * np.exp(density)


@cache
def _critical(loads: tuple[float, ...], freedom: int, level: float) -> float:
    """The value that all absolute t statistics stay below in a share 1 - `level` of studies without any effect."""
    from scipy.optimize import brentq

    return float(brentq(lambda t: _within(t, loads, freedom) - (1 - level), 0.0, 1000.0, xtol=1e-10))
