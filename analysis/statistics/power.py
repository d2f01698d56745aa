"""What a study can find: the difference detected with 80 % power by the test that judges, and the seeds that need."""

import math

import numpy as np

from ablate.analysis.statistics.chance import ALPHA, significance_level
from ablate.analysis.statistics.moderation import FEWEST_PAIRS, Moderation, Numbers
from ablate.study.study import SeedBounds

POWER = 0.80

MOST_SEEDS = 1000
"""Most seeds that `seeds_needed` considers."""

GRID = 100
"""Quantiles of a row's own variance over which power is averaged."""

KNOWN = np.ones(1)
"""The `estimates` of a standard deviation that is known."""


def detectable(
    sd: float,
    pairs: int,
    comparisons: int = 1,
    moderation: Moderation | None = None,
    bounds: SeedBounds | None = None,
    estimates: Numbers = KNOWN,
) -> float:
    """The smallest true difference that a paired two-sided test finds with 80 % power among `comparisons` tests.

    `sd`: standard deviation of the differences. Where it is an estimate, `estimates` are what such an estimate may be
    as multiples of the truth, all equally likely. The difference counts as found if p < 0.05 after Holm's correction;
    as the other treatments are taken to have no effect, that is p < 0.05 / `comparisons` (Holm's first step). Power is
    averaged over `estimates` and over the distribution of the row's own variance. The probability of rejecting in the
    wrong direction, below 1e-4, is neglected.
    """
    from scipy.optimize import brentq
    from scipy.special import chdtri, ndtr, stdtrit

    level = significance_level(bounds, ALPHA / comparisons)
    df = pairs - 1
    true_sd = sd / estimates[:, None]
    own = true_sd**2 * chdtri(df, (np.arange(GRID) + 0.5) / GRID) / df
    tested = moderation.squeeze(own, df) if moderation and pairs >= FEWEST_PAIRS else (own, df)
    critical = stdtrit(tested[1], 1 - level / 2) * np.sqrt(tested[0] / pairs)
    error = true_sd / math.sqrt(pairs)
    upper = float(critical.max() + 10 * error.max())
    return float(brentq(lambda effect: float(ndtr((effect - critical) / error).mean()) - POWER, 0.0, upper, rtol=1e-4))


def seeds_needed(
    sd: float,
    difference: float,
    comparisons: int = 1,
    moderation: Moderation | None = None,
    estimates: Numbers = KNOWN,
) -> int | None:
    """The fewest paired seeds with which a true `difference` is `detectable`; None if it takes over `MOST_SEEDS`."""

    def found(pairs: int) -> bool:
        return detectable(sd, pairs, comparisons, moderation, estimates=estimates) <= difference

    enough, too_few = 2, 1
    while not found(enough):
        if enough >= MOST_SEEDS:
            return None
        too_few, enough = enough, min(2 * enough, MOST_SEEDS)
    while enough - too_few > 1:
        middle = (enough + too_few) // 2
        too_few, enough = (too_few, middle) if found(middle) else (middle, enough)
    return enough
