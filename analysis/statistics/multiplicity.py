"""Many claims at once: false discovery rates, and how many verdicts chance alone would give.

q-values control the share of false verdicts among those with a q below a bound. Benjamini and Hochberg ("Controlling
the false discovery rate", JRSS B 57, 1995) assume tests that are independent or positively dependent. Claims that share
a treatment are neither; for two-sided t tests the rate has nevertheless been found to hold under any correlation
(A. Reiner-Benaim, "FDR control by the BH procedure for two-sided correlated tests", Biometrical Journal 49, 2007), and
`test_claims_chance.py` simulates it for claims that share arms. Benjamini and Yekutieli ("The control of the false
discovery rate in multiple testing under dependency", Annals of Statistics 29, 2001) need no assumption.
"""

import math
from collections.abc import Sequence
from functools import cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ablate.analysis.statistics.chance import ALPHA

Numbers = NDArray[np.float64]

SIMULATED_TRENDS = 200_000
"""Trends without any effect that are simulated to learn how often one of them is decided."""


def benjamini_hochberg(p: Sequence[float]) -> list[float]:
    """q-values, in the order given; NaN where p is NaN, which counts as no test."""
    return _q(p, "bh")


def benjamini_yekutieli(p: Sequence[float]) -> list[float]:
    """q-values that hold under any dependence of the tests; as `benjamini_hochberg`."""
    return _q(p, "by")


def _q(p: Sequence[float], method: Literal["bh", "by"]) -> list[float]:
    from scipy.stats import false_discovery_control

    values = np.asarray(p, float)
    tested = ~np.isnan(values)
    q = np.full(len(values), math.nan)
    if tested.any():
        q[tested] = false_discovery_control(values[tested], method=method)
    return q.tolist()


@cache
def chance_of_trend(pairs: int, levels: int) -> float:
    """How often a claim about a trend is `reproduced` or `opposite` if no level has an effect.

    The ends must differ by the paired t test at 5 % and, for `reproduced`, each mean must lie on the claimed side of
    the previous one, or a step must go the other way by its own test. Every level has independent normal errors.
    """
    from scipy.special import stdtrit

    if levels < 3:
        return ALPHA
    rng = np.random.default_rng(0)
    critical = float(stdtrit(pairs - 1, 1 - ALPHA / 2))
    decided = 0
    batch = 20_000  # bounds memory
    for _ in range(SIMULATED_TRENDS // batch):
        values = rng.standard_normal((batch, levels, pairs))
        t = _t(values[:, -1] - values[:, 0])
        steps = _t(np.diff(values, axis=1))
        reproduced = (t > critical) & ((steps > 0).all(axis=1) | (steps < -critical).any(axis=1))
        decided += int((reproduced | (t < -critical)).sum())
    return decided / SIMULATED_TRENDS


def _t(differences: Numbers) -> Numbers:
    """Student's t of the mean over the last axis."""
    error: Numbers = differences.std(-1, ddof=1) / math.sqrt(differences.shape[-1])
    t: Numbers = differences.mean(-1) / error
    return t
