"""Paired differences with Student's t intervals, of one comparison or of thousands at once."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ablate.analysis.statistics.chance import level, sequential_p
from ablate.study.study import SeedBounds

Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Change:
    """Mean of `n` paired differences, their sd (ddof 1), the 95 % interval of the mean and its two-sided p.

    Where seeds are added after analyses of the results, both are over all analyses.
    """

    n: int
    mean: float = math.nan
    sd: float = math.nan
    low: float = math.nan
    high: float = math.nan
    p: float = math.nan


def paired(values: ArrayLike, reference: ArrayLike, bounds: SeedBounds | None = None) -> Change:
    """The mean change from `reference` to `values`, paired, with Student's t interval.

    `bounds`: fewest and most pairs, where the results decide how many there are; the interval is wider then.

    One pair has no interval, and neither has a difference that is not finite. If all differences are equal up to
    rounding, the interval is that one point, and p is 1 if it is zero and else 0.
    """
    (change,) = paired_rows(np.asarray(values, float)[None], np.asarray(reference, float)[None], bounds)
    return change


def paired_rows(values: Numbers, reference: Numbers, bounds: SeedBounds | None = None) -> list[Change]:
    """`paired` for each row of `k s`; a pair that lacks a side, which is NaN, is left out."""
    from scipy.special import stdtr, stdtrit

    there = ~(np.isnan(values) | np.isnan(reference))
    n = there.sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        differences = np.where(there, values - reference, 0.0)
        mean = differences.sum(1) / n
        centred = np.where(there, differences - mean[:, None], 0.0)
        sd = np.sqrt((centred**2).sum(1) / (n - 1))
        sizes = np.where(there, np.maximum(np.abs(values), np.abs(reference)), 0.0)
        error = sd / np.sqrt(n)
        half = stdtrit(n - 1, 1 - level(bounds) / 2) * error
        p = sequential_p(2 * stdtr(n - 1, -np.abs(mean) / error), bounds)
    rounding = 4 * np.finfo(float).eps * sizes.max(1, initial=0.0)
    tested = (n > 1) & np.isfinite(differences).all(1)
    constant = tested & (sd <= rounding)
    mean = np.where(constant & (np.abs(mean) <= rounding), 0.0, mean)
    low, high = (np.where(constant, mean, mean + side * half) for side in (-1, 1))
    p = np.where(constant, mean == 0, p)
    columns = [np.where(tested, column, math.nan) for column in (np.where(constant, 0.0, sd), low, high, p)]
    return [Change(*row) for row in zip(n.tolist(), mean.tolist(), *(c.tolist() for c in columns), strict=True)]


def matrix(arms: Mapping[str, Mapping[int, float]], labels: Sequence[str]) -> Numbers:
    """The values of each label's seeds in a row, `labels seeds`; NaN where a seed is missing."""
    seeds = {seed: place for place, seed in enumerate(sorted({seed for arm in arms.values() for seed in arm}))}
    found = np.full((len(labels), len(seeds)), math.nan)
    for row, label in enumerate(labels):
        for seed, value in arms[label].items():
            found[row, seeds[seed]] = value
    return found
