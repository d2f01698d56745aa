"""Paired differences with Student's t intervals, for one comparison or for thousands at once."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ablate.analysis.statistics.chance import ALPHA, sequential_p, significance_level
from ablate.analysis.statistics.moderation import Moderation
from ablate.study.study import SeedBounds

Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Change:
    """Mean of `n` paired differences, their sd (ddof 1), the 95 % interval of the mean and its two-sided p.

    `low90` and `high90` bound the 90 % interval, by which two one-sided tests at 5 % are decided (`verdicts`). Where
    seeds are added in the light of results, intervals and p account for all analyses.
    """

    n: int
    mean: float = math.nan
    sd: float = math.nan
    low: float = math.nan
    high: float = math.nan
    p: float = math.nan
    low90: float = math.nan
    high90: float = math.nan

    @property
    def constant(self) -> bool:
        """Whether all differences are equal up to rounding, so that the interval has no width."""
        return self.sd == 0


def paired(
    values: ArrayLike, reference: ArrayLike, bounds: SeedBounds | None = None, moderation: Moderation | None = None
) -> Change:
    """The mean of the paired differences `values - reference`, with Student's t interval.

    `bounds`: fewest and most pairs, if the results decide how many there are; the intervals are then wider.
    `moderation`: what other rows say about the variance, which is used from five pairs on. There is no interval for a
    single pair, nor where a difference is not finite. If all differences are equal up to rounding, the interval is that
    one point, and p is 1 if the point is zero, else NaN: such differences say nothing about chance.
    """
    row = np.asarray(values, float)[None]
    (change,) = paired_rows(row, np.asarray(reference, float)[None], bounds, moderation)
    return change


def paired_rows(
    values: Numbers, reference: Numbers, bounds: SeedBounds | None = None, moderation: Moderation | None = None
) -> list[Change]:
    """`paired` for each row; both arrays are `comparisons seeds`. A pair in which a value is NaN is left out.

    Raises ValueError for both `bounds` and `moderation`: the levels of sequential analyses are those of Student's t.
    """
    from scipy.special import stdtr, stdtrit

    if bounds and moderation:
        raise ValueError("variances are not moderated where results decide how many seeds there are")

    # The t test of each row.
    present = ~(np.isnan(values) | np.isnan(reference))
    n = present.sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        differences = np.where(present, values - reference, 0.0)
        mean = differences.sum(1) / n
        centred = np.where(present, differences - mean[:, None], 0.0)
        sd = np.sqrt((centred**2).sum(1) / (n - 1))
        sizes = np.where(present, np.maximum(np.abs(values), np.abs(reference)), 0.0)
        variance, df = moderation.squeeze(sd**2, n - 1) if moderation else (sd**2, n - 1)
        error = np.sqrt(variance / n)
        half, half90 = (stdtrit(df, 1 - significance_level(bounds, level) / 2) * error for level in (ALPHA, 2 * ALPHA))
        p = sequential_p(2 * stdtr(df, -np.abs(mean) / error), bounds)

    # Rows whose differences are all equal up to rounding, and rows that have no interval.
    rounding = 4 * np.finfo(float).eps * sizes.max(1, initial=0.0)
    tested = (n > 1) & np.isfinite(differences).all(1)
    constant = tested & (sd <= rounding)
    mean = np.where(constant & (np.abs(mean) <= rounding), 0.0, mean)
    bounds_of = [np.where(constant, mean, mean + side) for side in (-half, half, -half90, half90)]
    p = np.where(constant, np.where(mean == 0, 1.0, math.nan), p)
    columns = [np.where(constant, 0.0, sd), *bounds_of[:2], p, *bounds_of[2:]]
    columns = [np.where(tested, column, math.nan) for column in columns]
    return [Change(*row) for row in zip(n.tolist(), mean.tolist(), *(c.tolist() for c in columns), strict=True)]


def matrix(arms: Mapping[str, Mapping[int, float]], labels: Sequence[str]) -> Numbers:
    """The values of these treatments as an array `labels seeds`; NaN where a seed is missing."""
    columns = {seed: i for i, seed in enumerate(sorted({seed for arm in arms.values() for seed in arm}))}
    values = np.full((len(labels), len(columns)), math.nan)
    for row, label in enumerate(labels):
        for seed, value in arms[label].items():
            values[row, columns[seed]] = value
    return values
