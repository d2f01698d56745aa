"""What chance alone does: the difference that few seeds can find, and how good the best of many seems."""

import math
from collections.abc import Mapping
from functools import cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ablate.study.study import SeedBounds

ALPHA = 0.05


TRIALS_OF_CHANCE = 200_000
"""Studies without any effect that are drawn to learn how often one of several analyses finds one."""


POWER = 0.80


FEW_PICTURES = 20


RESAMPLES = 2000


References = Mapping[str, str]
"""Treatment -> the one that it is compared with; those that are not named are compared with the baseline."""


@cache
def smallest_p(bounds: SeedBounds) -> NDArray[np.float64]:
    """Of studies without effect the smallest p-value of all analyses, in order.

    `bounds`: fewest and most pairs; Student's paired t test is done with each number of pairs from one to the other, on
    normal differences. Their scale cancels, so that one set of draws serves all.
    """
    from scipy.special import stdtr

    fewest, most = bounds
    draws = np.random.default_rng(0).standard_normal((TRIALS_OF_CHANCE, most))
    n = np.arange(1, most + 1)
    means, squares = draws.cumsum(axis=1) / n, (draws**2).cumsum(axis=1)
    seen, n = slice(fewest - 1, most), n[fewest - 1 :]
    errors = np.sqrt((squares[:, seen] / n - means[:, seen] ** 2) / (n - 1))
    return np.sort(2 * stdtr(n - 1, -np.abs(means[:, seen]) / errors).min(axis=1))


def level(bounds: SeedBounds | None) -> float:
    """The level of each analysis's interval, so that all of them hold the truth in 95 % of studies.

    The same each time, as Pocock has it ("Group sequential methods in the design and analysis of clinical trials",
    Biometrika 64, 1977). Such intervals hold whenever one stops, for whatever reason (Jennison and Turnbull, "Interim
    analyses: the repeated confidence interval approach", JRSS B 51, 1989).
    """
    return ALPHA if bounds is None else float(smallest_p(bounds)[int(ALPHA * TRIALS_OF_CHANCE) - 1])


def sequential_p(p: NDArray[np.float64], bounds: SeedBounds | None) -> NDArray[np.float64]:
    """How often chance alone gives p-values as small as these in one of the analyses or another."""
    if bounds is None:
        return p
    found = (np.searchsorted(smallest_p(bounds), p, side="right") + 1) / (TRIALS_OF_CHANCE + 1)
    return np.where(np.isnan(p), p, found)


def detectable(sd: float, pairs: int) -> float:
    """The smallest true difference that a paired two-sided t test at 5 % finds with 80 % power.

    `sd` is that of the differences. From the noncentral t distribution; the wrong tail, below 1e-4, is left out.
    """
    from scipy.special import nctdtrinc, stdtrit

    critical = stdtrit(pairs - 1, 1 - ALPHA / 2)
    return float(nctdtrinc(pairs - 1, 1 - POWER, critical)) * sd / math.sqrt(pairs)


def bootstrap_interval(values: ArrayLike) -> tuple[float, float]:
    """95 % interval of the mean over many pictures, by the percentile bootstrap from fixed draws.

    NaN of fewer than 20, for which it would be too narrow, and where a value is not finite. It says nothing of another
    seed.
    """
    array = np.asarray(values, float)
    if len(array) < FEW_PICTURES or not np.isfinite(array).all():
        return math.nan, math.nan
    rng = np.random.default_rng(0)
    at_once = max(1, 4_000_000 // len(array))
    sizes = [min(at_once, RESAMPLES - start) for start in range(0, RESAMPLES, at_once)]
    means = [array[rng.integers(0, len(array), (size, len(array)))].mean(axis=1) for size in sizes]
    low, high = np.quantile(np.concatenate(means), [ALPHA / 2, 1 - ALPHA / 2])
    return float(low), float(high)


def expected_best(k: int) -> float:
    """Expected maximum of `k` independent standard normal numbers, by integration over its density."""
    from scipy.integrate import quad
    from scipy.special import ndtr

    def integrand(x: float) -> float:
        return x * k * math.exp(-x * x / 2) / math.sqrt(2 * math.pi) * float(ndtr(x)) ** (k - 1)

    return float(quad(integrand, -12, 12, epsabs=1e-12, limit=200)[0])


def expected_best_change(references: References) -> float:
    """Expected maximum of x[treatment] - x[reference], where every x is an independent standard normal number.

    With one reference for all it is the maximum of the treatments alone. Else changes that share a treatment are
    correlated, on a ladder by -1/2, and the mean of 100 000 fixed draws is taken: its standard error is about 0.003.
    """
    if len(set(references.values())) == 1:
        return expected_best(len(references))
    place = {label: i for i, label in enumerate(dict.fromkeys([*references, *references.values()]))}
    draws = np.random.default_rng(0).standard_normal((100_000, len(place)))
    ours, theirs = ([place[label] for label in labels] for labels in (references, references.values()))
    return float((draws[:, ours] - draws[:, theirs]).max(axis=1).mean())
