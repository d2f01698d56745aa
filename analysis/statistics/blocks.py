"""Treatments' means adjusted for seeds, and their tests: an additive model of treatments and seeds (blocks)."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ablate.analysis.statistics.chance import ALPHA

Numbers = NDArray[np.float64]

NOISIER = 0.2
"""Level of the test by which a contrast has the error of its own treatments; about 3 % do where variances are equal."""


class BlockedMeans:
    """Least squares of value = treatment + seed + error.

    The seeds' effects are solved for first, so the cost grows little with the number of treatments. The first seed is
    the reference of the others.
    """

    def __init__(self, values: Sequence[Mapping[int, float]]) -> None:
        # The values, `treatments seeds`, and which of them there are.
        seeds = sorted({seed for row in values for seed in row})
        self.table = np.array([[row.get(seed, math.nan) for seed in seeds] for row in values])
        self.present = ~np.isnan(self.table)
        counts = self.present.sum(axis=1)
        blocks = self.present[:, 1:].astype(float)

        # Plain means per treatment, and the deviations from them.
        filled = np.where(self.present, self.table, 0.0)
        plain_means = filled.sum(axis=1) / counts
        filled = np.where(self.present, self.table - plain_means[:, None], 0.0)

        # The effects of the seeds, and the means adjusted for them.
        self.weights = 1.0 / counts
        self.seed_shares = blocks * self.weights[:, None]
        information = np.diag(blocks.sum(axis=0)) - blocks.T @ self.seed_shares
        self.inverse = np.linalg.pinv(information, hermitian=True)
        offsets = self.inverse @ filled[:, 1:].sum(axis=0)
        self.means = plain_means - self.seed_shares @ offsets

        # Sums of squares; what is below rounding counts as zero.
        residuals = np.where(self.present, self.table - self.means[:, None] - np.array([0.0, *offsets]), 0.0)
        parts = (residuals**2).sum(axis=1)
        self.seed_squares = float(offsets @ information @ offsets)
        self.error_df = int(self.present.sum()) - len(values) - int(np.linalg.matrix_rank(information, hermitian=True))
        self.total = float(np.nansum((self.table - np.nanmean(self.table)) ** 2))
        self.rounding = (4 * np.finfo(float).eps * float(np.nanmax(np.abs(self.table)))) ** 2
        self.error = float(parts.sum()) if parts.sum() > self.rounding * self.present.sum() else 0.0
        self.sd = math.sqrt(self.error / self.error_df) if self.error_df else math.nan

        # The variance of each treatment's own errors, by as many degrees of freedom; the pooled one for a single trial.
        self.own_df = np.where(counts > 1, counts - 1, self.error_df).astype(float)
        shrunk = (len(values) - 1) / len(values)  # what the seeds' effects take from a treatment's residuals
        pooled = self.error / self.error_df if self.error_df else math.nan
        self.own = np.where(counts > 1, parts / np.maximum(counts - 1, 1) / shrunk, pooled) if self.error else 0 * parts

        # How unevenly the error is spread over the treatments.
        self.quiet_half_share = float(np.sort(parts)[: len(parts) // 2].sum()) / self.error if self.error else 1.0
        self.noisiest = (int(parts.argmax()), float(parts.max()) / self.error if self.error else 0.0)

    def share(self, squares: float) -> float:
        """A sum of squares as a share of the total; 0 if the total is rounding."""
        return squares / self.total if self.total > self.rounding * self.present.sum() else 0.0

    def covariance(self, contrasts: Numbers) -> Numbers:
        """Covariance `q q` of contrasts of the means (`q treatments`), in units of the error's variance."""
        by_seed = contrasts @ self.seed_shares
        covariance: Numbers = (contrasts * self.weights) @ contrasts.T + by_seed @ self.inverse @ by_seed.T
        return covariance

    def fit(self, model: Sequence[Numbers]) -> list[Numbers]:
        """For each block of columns `treatments q`, the weights `q treatments` that map the means to its coefficients.

        Generalised least squares of the means, which equals least squares of all values on these columns and the seeds.
        """
        whole = np.hstack(model)
        whitened = np.linalg.solve(self.covariance(np.eye(len(whole))), whole)
        weights = np.linalg.solve(whole.T @ whitened, whitened.T)
        return np.split(weights, np.cumsum([block.shape[1] for block in model])[:-1])

    def test(self, contrasts: Numbers) -> tuple[int, float]:
        """Degrees of freedom and sum of squares of the hypothesis that all contrasts (`q treatments`) are zero."""
        estimates = contrasts @ self.means
        return len(contrasts), float(estimates @ np.linalg.solve(self.covariance(contrasts), estimates))

    def f(self, squares: float, df: int) -> tuple[float, float]:
        """F and p of a sum of squares against the error; NaN if either has no degrees of freedom.

        Without any error, F is infinite and p NaN: it says nothing about chance.
        """
        from scipy.special import fdtrc

        if not df or not self.error_df:
            return math.nan, math.nan
        if not self.error:
            nothing = squares <= self.rounding * self.present.sum()
            return (math.nan, 1.0) if nothing else (math.inf, math.nan)
        f = squares / df / self.sd**2
        return f, float(fdtrc(df, self.error_df, f))

    def interval(self, weights: Numbers) -> tuple[float, float, float, float]:
        """The contrast of the means with these weights, the bounds of its 95 % interval, and p.

        All but the estimate are NaN if the error has no degrees of freedom. The error is pooled over all treatments,
        unless those that the contrast compares are noisier than the others (F test at 20 %): then it is theirs, with
        Satterthwaite's degrees of freedom ("An approximate distribution of estimates of variance components",
        Biometrics Bulletin 2, 1946), where that makes the interval wider.
        """
        from scipy.special import fdtrc, stdtr, stdtrit

        estimate = float(weights @ self.means)
        if not self.error_df:
            return estimate, math.nan, math.nan, math.nan
        error = self.sd * math.sqrt(float(self.covariance(weights[None])[0, 0]))
        if not error:
            return estimate, estimate, estimate, 1.0 if estimate**2 <= self.rounding else math.nan
        tests = [(error, float(self.error_df))]
        shares = weights**2 * self.own * self.weights
        own = float(shares.sum())
        if own > error**2:
            df = own**2 / float((shares**2 / self.own_df).sum())
            if fdtrc(df, self.error_df, own / error**2) < NOISIER:
                tests.append((math.sqrt(own), df))
        half, p = max(
            (float(stdtrit(df, 1 - ALPHA / 2)) * error, 2 * float(stdtr(df, -abs(estimate) / error)))
            for error, df in tests
        )
        return estimate, estimate - half, estimate + half, p

    def unexplained(self, columns: Numbers) -> float:
        """The sum of squares between treatments that these columns (`treatments q`) and the seeds do not explain."""
        blocks = self.present.astype(float)
        values = np.where(self.present, self.table - np.nanmean(self.table), 0.0)

        # The normal equations of columns and seeds, one row per column instead of one per trial.
        weighted = columns * blocks.sum(axis=1)[:, None]
        mixed = columns.T @ blocks[:, 1:]
        gram = np.block([[columns.T @ weighted, mixed], [mixed.T, np.diag(blocks[:, 1:].sum(axis=0))]])
        sums = np.concatenate([columns.T @ values.sum(axis=1), values[:, 1:].sum(axis=0)])
        solved = np.linalg.lstsq(gram, sums, rcond=None)[0]

        # The residuals' sum of squares beyond the error's.
        seeds = np.concatenate([[0.0], solved[columns.shape[1] :]])
        residuals = (values - (columns @ solved[: columns.shape[1]])[:, None] - seeds)[self.present]
        return max(0.0, float(residuals @ residuals) - self.error)
