"""What a study can find: the difference detected with 80 % power by the test that judges, and the seeds that need."""

import math

import numpy as np

from ablate.analysis.statistics.chance import ALPHA, significance_level
from ablate.analysis.statistics.moderation import FEWEST_PAIRS, Moderation
from ablate.study.study import SeedBounds

POWER = 0.80

MOST_SEEDS = 1000
"""Most seeds that `seeds_needed` considers."""

GRID = 100
"""Quantiles of a variance over which power is averaged where the variance is moderated."""


def detectable(
    sd: float,
    pairs: int,
    comparisons: int = 1,
    moderation: Moderation | None = None,
    bounds: SeedBounds | None = None,
) -> float:
    """The smallest true difference that a paired two-sided test finds with 80 % power among `comparisons` tests.

    `sd`: standard deviation of the differences. The difference counts as found if p < 0.05 after Holm's correction; as
    the other treatments are taken to have no effect, that is p < 0.05 / `comparisons` (Holm's first step). Student's t
    has the noncentral t distribution; for a moderated variance, the power is averaged over the distribution of the
    row's own variance. The probability of rejecting in the wrong direction, below 1e-4, is neglected.
    """
    from scipy.optimize import brentq
    from scipy.special import chdtri, nctdtrinc, ndtr, stdtrit

    level = significance_level(bounds, ALPHA / comparisons)
    df = pairs - 1
    error = sd / math.sqrt(pairs)
    if moderation is None or pairs < FEWEST_PAIRS:
        return float(nctdtrinc(df, 1 - POWER, stdtrit(df, 1 - level / 2))) * error
    own = sd**2 * chdtri(df, (np.arange(GRID) + 0.5) / GRID) / df
    variance, squeezed_df = moderation.squeeze(own, df)
    critical = stdtrit(squeezed_df, 1 - level / 2) * np.sqrt(variance / pairs)
    upper = float(critical.max()) + 10 * error
    return float(brentq(lambda effect: float(ndtr((effect - critical) / error).mean()) - POWER, 0.0, upper, rtol=1e-4))


def seeds_needed(
    sd: float, difference: float, comparisons: int = 1, moderation: Moderation | None = None
) -> int | None:
    """The fewest paired seeds with which a true `difference` is `detectable`; None if it takes over `MOST_SEEDS`."""
    enough, too_few = 2, 1
    while detectable(sd, enough, comparisons, moderation) > difference:
        if enough >= MOST_SEEDS:
            return None
        too_few, enough = enough, min(2 * enough, MOST_SEEDS)
    while enough - too_few > 1:
        middle = (enough + too_few) // 2
        found = detectable(sd, middle, comparisons, moderation) <= difference
        too_few, enough = (too_few, middle) if found else (middle, enough)
    return enough
