"""What chance alone does: sequential analyses, bootstrap intervals, the best of many."""

import math
from collections.abc import Mapping
from functools import cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ablate.study.study import SeedBounds

ALPHA = 0.05
"""Level of all tests; intervals cover 1 - ALPHA."""

SIMULATED_STUDIES = 200_000
"""Studies without any effect that are simulated to learn how often at least one of several analyses finds one."""

MIN_PICTURES = 20
"""Fewest pictures for a bootstrap interval."""

RESAMPLES = 2000
"""Draws of the bootstrap."""

References = Mapping[str, str]
"""Treatment -> the treatment that it is compared with. Treatments not named here are compared with the baseline."""


@cache
def smallest_p(bounds: SeedBounds) -> NDArray[np.float64]:
    """The smallest p-value over all analyses of each simulated study without effect, sorted.

    `bounds`: fewest and most pairs. Each study is analysed by Student's paired t test at every number of pairs between
    them. The differences are normal; their scale cancels, so one set of draws serves every standard deviation.
    """
    from scipy.special import stdtr

    fewest, most = bounds
    draws = np.random.default_rng(0).standard_normal((SIMULATED_STUDIES, most))
    n = np.arange(1, most + 1)
    means = draws.cumsum(axis=1) / n
    squares = (draws**2).cumsum(axis=1)

    # Only the numbers of pairs at which an analysis is made.
    means = means[:, fewest - 1 :]
    squares = squares[:, fewest - 1 :]
    n = n[fewest - 1 :]
    errors = np.sqrt((squares / n - means**2) / (n - 1))
    return np.sort(2 * stdtr(n - 1, -np.abs(means) / errors).min(axis=1))


def significance_level(bounds: SeedBounds | None, level: float = ALPHA) -> float:
    """The level of each analysis at which all analyses together err in a share `level` of studies, by default 5 %.

    It is the same for every analysis, as proposed by Pocock ("Group sequential methods in the design and analysis of
    clinical trials", Biometrika 64, 1977). Such intervals are valid whenever one stops, for whatever reason (Jennison
    and Turnbull, "Interim analyses: the repeated confidence interval approach", JRSS B 51, 1989).
    """
    if bounds is None:
        return level
    return float(smallest_p(bounds)[max(0, int(level * SIMULATED_STUDIES) - 1)])


def sequential_p(p: NDArray[np.float64], bounds: SeedBounds | None) -> NDArray[np.float64]:
    """p-values corrected for several analyses: how often chance alone gives a p this small in at least one of them."""
    if bounds is None:
        return p
    corrected = (np.searchsorted(smallest_p(bounds), p, side="right") + 1) / (SIMULATED_STUDIES + 1)
    return np.where(np.isnan(p), p, corrected)


def bootstrap_interval(values: ArrayLike) -> tuple[float, float]:
    """95 % interval of the mean over many pictures, by the percentile bootstrap with a fixed random seed.

    NaN for fewer than 20 values, where it would be too narrow, and where a value is not finite. It does not include the
    variation between training seeds.
    """
    array = np.asarray(values, float)
    if len(array) < MIN_PICTURES or not np.isfinite(array).all():
        return math.nan, math.nan
    rng = np.random.default_rng(0)
    at_once = max(1, 4_000_000 // len(array))  # resamples per batch, to bound memory
    sizes = [min(at_once, RESAMPLES - start) for start in range(0, RESAMPLES, at_once)]
    means = [array[rng.integers(0, len(array), (size, len(array)))].mean(axis=1) for size in sizes]
    low, high = np.quantile(np.concatenate(means), [ALPHA / 2, 1 - ALPHA / 2])
    return float(low), float(high)


def expected_best(k: int) -> float:
    """Expected maximum of `k` independent standard normal variables, by integration over its density."""
    from scipy.integrate import quad
    from scipy.special import ndtr

    def integrand(x: float) -> float:
        return x * k * math.exp(-x * x / 2) / math.sqrt(2 * math.pi) * float(ndtr(x)) ** (k - 1)

    return float(quad(integrand, -12, 12, epsabs=1e-12, limit=200)[0])


def expected_best_change(references: References) -> float:
    """Expected maximum of x[treatment] - x[reference], where every x is an independent standard normal variable.

    With one reference for all treatments this is the expected maximum of the treatments alone. Otherwise changes that
    share a treatment are correlated (by -1/2 on a ladder), and the mean over 100 000 draws with a fixed random seed is
    taken; its standard error is about 0.003.
    """
    if len(set(references.values())) == 1:
        return expected_best(len(references))
    column = {label: i for i, label in enumerate(dict.fromkeys([*references, *references.values()]))}
    draws = np.random.default_rng(0).standard_normal((100_000, len(column)))
    treated = draws[:, [column[label] for label in references]]
    reference = draws[:, [column[label] for label in references.values()]]
    return float((treated - reference).max(axis=1).mean())
