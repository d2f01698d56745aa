"""Main effects and interactions of a factorial design: an analysis of variance with seeds as blocks.

The model is value = treatment + seed + error, with equal spread of the error in all treatments. A main effect compares
the levels of a factor in the mean over all combinations of the others, each with equal weight; an interaction says how
the effect of one factor differs between the levels of another. Both are contrasts of the treatments' means, adjusted
for the seeds that some of them lack, so that the tests are those of type III; if no trial is missing, all types agree.
In a D-optimal fraction, which is not orthogonal, means over its treatments would mix the effects. There they are those
of the fitted model (main effects and the interactions asked for), each adjusted for the others, in the mean over the
full grid, and the tests are of type III. The error is what treatments and seeds leave, whatever interactions there are
(D. C. Montgomery, "Design and Analysis of Experiments", chapters 4, 5, 8 and 10).
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ablate.analysis.statistics.chance import ALPHA
from ablate.analysis.statistics.effects import Arms, holm
from ablate.plan.treatments import Treatment
from ablate.study.fraction import Fraction
from ablate.study.optimal import Optimal, columns
from ablate.study.study import Study

Numbers = NDArray[np.float64]


Factors = tuple[int, ...]
"""One factor or two that interact, by their place among the study's factors."""


LevelIndices = tuple[int, ...]
"""A level of each, by its place among the factor's levels; 0 is the baseline's."""


@dataclass(frozen=True)
class Contrast:
    """The change by `levels` from the baseline's with its 95 % interval: of one factor the effect, of two what their
    changes together have beyond the sum of the two. Without an error there is no interval."""

    levels: LevelIndices
    estimate: float
    low: float = math.nan
    high: float = math.nan
    p: float = math.nan


@dataclass(frozen=True)
class Term:
    """The main effect of a factor or the interaction of two, and what a fraction cannot tell from it (`aliases`).

    `share` is that of the sum of squares about the mean, `f` has `df` and the error's degrees of freedom. `p_holm` is
    corrected for the number of terms, and NaN for all but the primary metric.
    """

    factors: Factors
    aliases: tuple[Factors, ...]
    df: int
    share: float
    f: float
    p: float
    contrasts: tuple[Contrast, ...]
    p_holm: float = math.nan


@dataclass(frozen=True)
class Decomposition:
    """All terms, and the shares of interactions beyond them, of seeds and of the error.

    `error_sd`: the error's standard deviation in one trial. Of its sum of squares, `worst` is which treatment has the
    largest part, and that part; `calm` is the part of the half of the treatments that have the least.
    """

    terms: tuple[Term, ...]
    higher_df: int
    higher_share: float
    higher_f: float
    higher_p: float
    seeds_share: float
    error_share: float
    error_df: int
    error_sd: float
    worst: tuple[int, float]
    calm: float


def is_factorial(study: Study) -> bool:
    """Whether the study's design tells main effects and interactions."""
    return len(study.factors) > 1 and ("grid" in study.designs or study.designs == ("fraction",))


def crossed(study: Study, treatments: Sequence[Treatment]) -> list[Treatment]:
    """The treatments that are analysed together: a fraction's, or all combinations of as many factors as are crossed.

    Where constraints leave no full grid, the other factors are at the baseline's levels. Empty if no two are crossed.
    """
    if study.fraction:
        return list(treatments)
    levels = {factor.path: len(factor.levels) for factor in study.factors}
    for size in range(len(levels), 1, -1):
        grids = [
            rows
            for kept in map(set, itertools.combinations(levels, size))
            if len(rows := [row for row in treatments if row.changed.keys() <= kept])
            == math.prod(levels[k] for k in kept)
        ]
        if grids:
            return max(grids, key=len)
    return []


def obstacle(study: Study, treatments: Sequence[Treatment], arms: Arms) -> str:
    """Why a metric of `crossed` treatments tells no main effects; empty if it does."""
    if study.conditional:
        return f"{' and '.join(study.conditional)}: there with some levels of other factors only"
    if not treatments:
        return "constraints leave no two factors crossed"
    empty = [row.label for row in treatments if not _finite(arms[row.label])]
    return f"no finite value yet of {', '.join(empty)}" if empty else ""


def decompose_study(study: Study, treatments: Sequence[Treatment], arms: Arms, *, primary: bool) -> Decomposition:
    """Decompose one metric of `crossed` treatments that has no `obstacle`. Holm's correction is for the primary one."""
    known = [{repr(level): i for i, level in enumerate(factor.levels)} for factor in study.factors]
    places = [
        tuple(at[repr(row.levels[factor.path])] for factor, at in zip(study.factors, known, strict=True))
        for row in treatments
    ]
    found = decompose(places, [arms[row.label] for row in treatments], study.fraction)
    if not primary or not found.error_df:
        return found
    adjusted = holm([term.p for term in found.terms])
    return replace(found, terms=tuple(replace(term, p_holm=p) for term, p in zip(found.terms, adjusted, strict=True)))


def as_json(study: Study, found: Decomposition) -> dict[str, Any]:
    """A decomposition with the names of factors and levels, as JSON values that may be NaN."""
    paths = [factor.path for factor in study.factors]

    def named(contrast: Contrast, factors: Factors) -> dict[str, Any]:
        levels = {paths[i]: study.factors[i].levels[at] for i, at in zip(factors, contrast.levels, strict=True)}
        return {**vars(contrast), "levels": levels}

    terms = [
        {
            **vars(term),
            "factors": [paths[i] for i in term.factors],
            "aliases": [[paths[i] for i in alias] for alias in term.aliases],
            "contrasts": [named(one, term.factors) for one in term.contrasts],
        }
        for term in found.terms
    ]
    return {**{name: value for name, value in vars(found).items() if name not in {"worst", "calm"}}, "terms": terms}


def decompose(
    places: Sequence[LevelIndices], values: Sequence[Mapping[int, float]], fraction: Fraction | Optimal | None = None
) -> Decomposition:
    """Decompose values (seed -> value) of treatments, given each one's level of every factor.

    The treatments are all combinations of levels, or the runs of `fraction`; each needs a finite value of some seed.
    Factors of which there is one level have no terms.
    """
    means = _Means([_finite(row) for row in values])
    levels = np.array(places)
    counts = [int(last) + 1 for last in levels.max(axis=0)]
    effects = [one for one in _effects(len(counts), fraction) if all(counts[i] > 1 for i in one[0])]
    model = columns(levels, counts, [factors for factors, *_ in effects])
    coefficients = means.fit(model) if isinstance(fraction, Optimal) else [block.T / len(levels) for block in model]
    terms = []
    for (factors, *aliases), weights in zip(effects, coefficients[1:], strict=True):
        df, squares = means.test(weights)
        f, p = means.f(squares, df)
        contrasts = tuple(means.contrast(at, change @ weights) for at, change in _changes(counts, factors))
        terms.append(Term(factors, tuple(aliases), df, means.share(squares), f, p, contrasts))
    higher_df = len(levels) - 1 - sum(term.df for term in terms)
    higher = means.beyond(np.hstack(model)) if higher_df else 0.0
    return Decomposition(
        tuple(terms), higher_df, means.share(higher), *means.f(higher, higher_df), means.share(means.seed_squares),
        means.share(means.error), means.error_df, means.sd, means.worst, means.calm,
    )  # fmt: skip


def _finite(values: Mapping[int, float]) -> dict[int, float]:
    return {seed: value for seed, value in values.items() if math.isfinite(value)}


def _effects(factors: int, fraction: Fraction | Optimal | None) -> list[list[Factors]]:
    """Main effects, then interactions of two, those that are estimated together in one list."""
    if isinstance(fraction, Fraction):
        return list(fraction.aliases())
    pairs = [effect for size in (1, 2) for effect in itertools.combinations(range(factors), size)]
    return [[effect] for effect in (fraction.effects if fraction else pairs)]


def _changes(counts: Sequence[int], factors: Factors) -> list[tuple[LevelIndices, Numbers]]:
    """Each combination of levels besides the baseline's -> weights of the effect's coefficients in the model."""
    found = []
    for at in itertools.product(*(range(1, counts[i]) for i in factors)):
        change = np.zeros(math.prod(counts[i] - 1 for i in factors))
        for taken in itertools.product((0, 1), repeat=len(at)):
            cell = np.zeros((1, len(counts)), dtype=np.int64)
            cell[0, list(factors)] = np.multiply(at, taken)
            change += (-1) ** (len(at) - sum(taken)) * columns(cell, counts, [factors])[1][0]
        found.append((at, change))
    return found


class _Means:
    """Least squares of value = treatment + seed + error. Seeds are eliminated, so that many treatments cost little."""

    def __init__(self, values: Sequence[Mapping[int, float]]) -> None:
        seeds = sorted({seed for row in values for seed in row})
        self.table = np.array([[row.get(seed, math.nan) for seed in seeds] for row in values])
        self.there = ~np.isnan(self.table)
        counts, blocks = self.there.sum(axis=1), self.there[:, 1:].astype(float)
        filled = np.where(self.there, self.table, 0.0)
        self.shift = (filled.sum(axis=1) / counts)[:, None]
        filled = np.where(self.there, self.table - self.shift, 0.0)
        self.weights = 1.0 / counts
        self.across = blocks * self.weights[:, None]
        information = np.diag(blocks.sum(axis=0)) - blocks.T @ self.across
        self.inverse = np.linalg.pinv(information, hermitian=True)
        offsets = self.inverse @ filled[:, 1:].sum(axis=0)
        self.means = self.shift[:, 0] - self.across @ offsets
        residuals = np.where(self.there, self.table - self.means[:, None] - np.array([0.0, *offsets]), 0.0)
        self.seed_squares = float(offsets @ information @ offsets)
        self.error_df = int(self.there.sum()) - len(values) - int(np.linalg.matrix_rank(information, hermitian=True))
        parts = (residuals**2).sum(axis=1)
        self.total = float(np.nansum((self.table - np.nanmean(self.table)) ** 2))
        self.rounding = (4 * np.finfo(float).eps * float(np.nanmax(np.abs(self.table)))) ** 2
        self.error = float(parts.sum()) if parts.sum() > self.rounding * self.there.sum() else 0.0
        self.sd = math.sqrt(self.error / self.error_df) if self.error_df else math.nan
        self.calm = float(np.sort(parts)[: len(parts) // 2].sum()) / self.error if self.error else 1.0
        self.worst = (int(parts.argmax()), float(parts.max()) / self.error if self.error else 0.0)

    def share(self, squares: float) -> float:
        return squares / self.total if self.total > self.rounding * self.there.sum() else 0.0

    def covariance(self, contrasts: Numbers) -> Numbers:
        """Of contrasts of the means (`q treatments`), in units of the error's variance."""
        seen = contrasts @ self.across
        covariance: Numbers = (contrasts * self.weights) @ contrasts.T + seen @ self.inverse @ seen.T
        return covariance

    def fit(self, model: Sequence[Numbers]) -> list[Numbers]:
        """What the means are weighted by, for each block of columns `treatments q`, to fit its coefficients `q`.

        Generalised least squares of the means: that of all values on these columns and seeds.
        """
        whole = np.hstack(model)
        whitened = np.linalg.solve(self.covariance(np.eye(len(whole))), whole)
        weights = np.linalg.solve(whole.T @ whitened, whitened.T)
        return np.split(weights, np.cumsum([block.shape[1] for block in model])[:-1])

    def test(self, contrasts: Numbers) -> tuple[int, float]:
        """Degrees of freedom and sum of squares of the hypothesis that all contrasts are nil."""
        estimates = contrasts @ self.means
        return len(contrasts), float(estimates @ np.linalg.solve(self.covariance(contrasts), estimates))

    def f(self, squares: float, df: int) -> tuple[float, float]:
        """F and p of a sum of squares against the error; NaN where there is neither."""
        from scipy.special import fdtrc

        if not df or not self.error_df:
            return math.nan, math.nan
        if not self.error:
            nothing = squares <= self.rounding * self.there.sum()
            return (math.nan, 1.0) if nothing else (math.inf, 0.0)
        f = squares / df / self.sd**2
        return f, float(fdtrc(df, self.error_df, f))

    def contrast(self, levels: LevelIndices, weights: Numbers) -> Contrast:
        from scipy.special import stdtr, stdtrit

        estimate = float(weights @ self.means)
        if not self.error_df:
            return Contrast(levels, estimate)
        error = self.sd * math.sqrt(float(self.covariance(weights[None])[0, 0]))
        if not error:
            return Contrast(levels, estimate, estimate, estimate, float(estimate**2 <= self.rounding))
        half = float(stdtrit(self.error_df, 1 - ALPHA / 2)) * error
        p = 2 * float(stdtr(self.error_df, -abs(estimate) / error))
        return Contrast(levels, estimate, estimate - half, estimate + half, p)

    def beyond(self, columns: Numbers) -> float:
        """The sum of squares of treatments that these columns (`treatments q`) and seeds do not explain."""
        blocks, values = self.there.astype(float), np.where(self.there, self.table - np.nanmean(self.table), 0.0)
        weighted = columns * blocks.sum(axis=1)[:, None]
        crossed = columns.T @ blocks[:, 1:]
        gram = np.block([[columns.T @ weighted, crossed], [crossed.T, np.diag(blocks[:, 1:].sum(axis=0))]])
        sums = np.concatenate([columns.T @ values.sum(axis=1), values[:, 1:].sum(axis=0)])
        solved = np.linalg.lstsq(gram, sums, rcond=None)[0]  # a row per column, not per trial
        seeds = np.concatenate([[0.0], solved[columns.shape[1] :]])
        rest = (values - (columns @ solved[: columns.shape[1]])[:, None] - seeds)[self.there]
        return max(0.0, float(rest @ rest) - self.error)
