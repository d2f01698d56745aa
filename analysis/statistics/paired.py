"""Paired differences with Student's t intervals, for one comparison or for thousands at once."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ablate.analysis.statistics.chance import sequential_p, significance_level
from ablate.study.study import SeedBounds

Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Change:
    """Mean of `n` paired differences, their sd (ddof 1), the 95 % interval of the mean and its two-sided p.

    Where seeds are added in the light of results, the interval and p account for all analyses.
    """

    n: int
    mean: float = math.nan
    sd: float = math.nan
    low: float = math.nan
    high: float = math.nan
    p: float = math.nan


def paired(values: ArrayLike, reference: ArrayLike, bounds: SeedBounds | None = None) -> Change:
    """The mean of the paired differences `values - reference`, with Student's t interval.

    `bounds`: fewest and most pairs, if the results decide how many there are; the interval is then wider. There is no
    interval for a single pair, nor where a difference is not finite. If all differences are equal up to rounding, the
    interval is that one point, and p is 1 if the point is zero, else 0.
    """
    (change,) = paired_rows(np.asarray(values, float)[None], np.asarray(reference, float)[None], bounds)
    return change


def paired_rows(values: Numbers, reference: Numbers, bounds: SeedBounds | None = None) -> list[Change]:
    """`paired` for each row; both arrays are `comparisons seeds`. A pair in which a value is NaN is left out."""
    from scipy.special import stdtr, stdtrit

    # The t test of each row.
    present = ~(np.isnan(values) | np.isnan(reference))
    n = present.sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        differences = np.where(present, values - reference, 0.0)
        mean = differences.sum(1) / n
        centred = np.where(present, differences - mean[:, None], 0.0)
        sd = np.sqrt((centred**2).sum(1) / (n - 1))
        sizes = np.where(present, np.maximum(np.abs(values), np.abs(reference)), 0.0)
        error = sd / np.sqrt(n)
        half = stdtrit(n - 1, 1 - significance_level(bounds) / 2) * error
        p = sequential_p(2 * stdtr(n - 1, -np.abs(mean) / error), bounds)

    # Rows whose differences are all equal up to rounding, and rows that have no interval.
    rounding = 4 * np.finfo(float).eps * sizes.max(1, initial=0.0)
    tested = (n > 1) & np.isfinite(differences).all(1)
    constant = tested & (sd <= rounding)
    mean = np.where(constant & (np.abs(mean) <= rounding), 0.0, mean)
    low, high = (np.where(constant, mean, mean + side * half) for side in (-1, 1))
    p = np.where(constant, mean == 0, p)
    columns = [np.where(tested, column, math.nan) for column in (np.where(constant, 0.0, sd), low, high, p)]
    return [Change(*row) for row in zip(n.tolist(), mean.tolist(), *(c.tolist() for c in columns), strict=True)]


def matrix(arms: Mapping[str, Mapping[int, float]], labels: Sequence[str]) -> Numbers:
    """The values of these treatments as an array `labels seeds`; NaN where a seed is missing."""
    columns = {seed: i for i, seed in enumerate(sorted({seed for arm in arms.values() for seed in arm}))}
    values = np.full((len(labels), len(columns)), math.nan)
    for row, label in enumerate(labels):
        for seed, value in arms[label].items():
            values[row, columns[seed]] = value
    return values
