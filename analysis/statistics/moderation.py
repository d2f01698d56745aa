"""Moderated variances: what the other rows of a study say about the variance of a row.

The variances of the rows are taken as draws from a scaled inverse chi-squared distribution with `df` degrees of freedom
around `variance`; both are estimated from the mean and the variance of log s^2 (G. K. Smyth, "Linear models and
empirical Bayes methods for assessing differential expression in microarray experiments", Statistical Applications in
Genetics and Molecular Biology 3(1), article 3, 2004, section 6.2). A row is then tested with the posterior variance
(d0 s0^2 + d s^2) / (d0 + d) and d0 + d degrees of freedom (section 4), with two changes, because treatments of a study
differ more in their spread than genes do. No variance is lowered below the row's own. And a row keeps Student's t if
its variance is too large to come from the others' distribution (F test at 5 %). The figures behind both, and behind
the five seeds from which this is used, are in docs/statistics.md.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Numbers = NDArray[np.float64]

FEWEST_PAIRS = 5
"""Pairs from which a row's variance is moderated; with fewer, one unstable treatment gives too many false verdicts."""

FEWEST_ROWS = 3
"""Rows whose variances are needed to estimate how variances are distributed."""

OUTLIER = 0.05
"""Level of the test by which a row keeps its own variance and degrees of freedom."""

ENDLESS = 1e8
"""Degrees of freedom that stand for infinitely many."""


@dataclass(frozen=True)
class Moderation:
    """The distribution of the variances of `rows` rows: `variance` (s0^2) with `df` degrees of freedom (d0).

    `df` is infinite if the variances differ no more than chance makes them differ. `pooled_df`: the sum of the rows'
    degrees of freedom, which no test exceeds.
    """

    df: float
    variance: float
    rows: int
    pooled_df: float

    def squeeze(self, variances: ArrayLike, df: ArrayLike) -> tuple[Numbers, Numbers]:
        """The variances to test rows with, and their degrees of freedom, from the rows' own.

        Rows with fewer than `FEWEST_PAIRS` pairs, without any spread or with too large a variance keep their own.
        """
        from scipy.special import fdtrc

        own, own_df = np.broadcast_arrays(np.asarray(variances, float), np.asarray(df, float))
        prior = min(self.df, ENDLESS)
        with np.errstate(invalid="ignore", divide="ignore"):
            posterior = (prior * self.variance + own_df * own) / (prior + own_df)
            surprising = fdtrc(np.maximum(own_df, 1), prior, own / self.variance) < OUTLIER
        kept = surprising | (own_df < FEWEST_PAIRS - 1) | ~(own > 0)
        total = np.minimum(prior + own_df, self.pooled_df)
        return np.where(kept, own, np.maximum(posterior, own)), np.where(kept, own_df, total)


def fit_moderation(variances: ArrayLike, df: ArrayLike) -> Moderation | None:
    """Estimate the distribution of variances with these degrees of freedom, from the rows with enough pairs.

    None if fewer than `FEWEST_ROWS` rows have `FEWEST_PAIRS` pairs and a finite variance above 0.
    """
    from scipy.optimize import brentq
    from scipy.special import digamma, polygamma

    own, own_df = np.broadcast_arrays(np.asarray(variances, float), np.asarray(df, float))
    usable = np.isfinite(own) & (own > 0) & (own_df >= FEWEST_PAIRS - 1)
    own = own[usable]
    own_df = own_df[usable]
    if len(own) < FEWEST_ROWS:
        return None

    # Mean and variance of log s^2, less what the rows' own degrees of freedom contribute to them.
    logs = np.log(own) - digamma(own_df / 2) + np.log(own_df / 2)
    excess = float(logs.var(ddof=1) - polygamma(1, own_df / 2).mean())
    pooled_df = float(own_df.sum())
    if excess <= float(polygamma(1, ENDLESS / 2)):
        return Moderation(math.inf, float((own * own_df).sum() / pooled_df), len(own), pooled_df)
    half = float(brentq(lambda x: float(polygamma(1, x)) - excess, 1e-9, ENDLESS))
    variance = math.exp(float(logs.mean()) + float(digamma(half)) - math.log(half))
    return Moderation(2 * half, variance, len(own), pooled_df)
