"""Main effects and interactions of a factorial design: an analysis of variance with seeds as blocks.

The model is value = treatment + seed + error; the variance of the error is the same in all treatments. A main effect
compares the levels of a factor, averaged over all combinations of the other factors with equal weight; an interaction
says how the effect of one factor differs between the levels of another. Both are contrasts of the treatments' means,
adjusted for missing trials, so the tests are of type III; if no trial is missing, all types agree.

A D-optimal fraction is not orthogonal, so means over its treatments would mix the effects. Its effects are those of the
fitted model (main effects and the requested interactions), each adjusted for the others and averaged over the full
grid; the tests are of type III. The error is the residual of the model of treatments and seeds, whatever interactions
there are (D. C. Montgomery, "Design and Analysis of Experiments", chapters 4, 5, 8 and 10).
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ablate.analysis.statistics.blocks import BlockedMeans, Numbers
from ablate.analysis.statistics.effects import Arms, holm_planned
from ablate.plan.treatments import Treatment
from ablate.study.fraction import Fraction
from ablate.study.optimal import Optimal, columns
from ablate.study.study import Study

Factors = tuple[int, ...]
"""One factor, or two that interact, by index among the study's factors."""

LevelIndices = tuple[int, ...]
"""One level of each factor, by index among the factor's levels; 0 is the baseline's level."""


@dataclass(frozen=True)
class Contrast:
    """The change from the baseline's levels to `levels`, with its 95 % interval.

    For one factor it is the effect; for two it is the joint change minus the sum of the two separate changes. NaN
    without an estimate of the error.
    """

    levels: LevelIndices
    estimate: float
    low: float = math.nan
    high: float = math.nan
    p: float = math.nan


@dataclass(frozen=True)
class Term:
    """The main effect of a factor or the interaction of two.

    `aliases`: the effects that a fraction cannot distinguish from it. `share`: its part of the sum of squares about the
    mean. `f` has `df` and the error's degrees of freedom. `p_holm`: p corrected for the number of planned tests; NaN if
    this is none of them.
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
    """All terms, and the shares of all higher interactions together, of the seeds and of the error.

    `error_sd`: standard deviation of the error in one trial. `noisiest`: index of the treatment with the largest share
    of the error's sum of squares, and that share. `quiet_half_share`: share of the half of the treatments with the
    smallest sums of squares.
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
    noisiest: tuple[int, float]
    quiet_half_share: float


def is_factorial(study: Study) -> bool:
    """Whether main effects and interactions can be estimated from the study's design."""
    return len(study.factors) > 1 and ("grid" in study.designs or study.designs == ("fraction",))


def crossed(study: Study, treatments: Sequence[Treatment]) -> list[Treatment]:
    """The treatments that are analysed together: all of a fraction, or the largest full grid.

    If constraints leave no full grid of all factors, the factors that are not in the largest one are at the baseline's
    levels. Empty if no two factors are crossed.
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
    """Why main effects on a metric cannot be estimated from `crossed` treatments; empty if they can."""
    if study.conditional:
        names = " and ".join(study.conditional)
        return f"{names} exist{'s' * (len(study.conditional) == 1)} only with some levels of other factors"
    if not treatments:
        return "constraints leave no two factors crossed"
    empty = [row.label for row in treatments if not _finite(arms[row.label])]
    return f"no finite value yet of {', '.join(empty)}" if empty else ""


def decompose_study(study: Study, treatments: Sequence[Treatment], arms: Arms) -> Decomposition:
    """Decompose one metric of `crossed` treatments that has no `obstacle`. `arms`: the values that are compared."""
    index_of = [{repr(level): i for i, level in enumerate(factor.levels)} for factor in study.factors]
    cells = [
        tuple(indices[repr(row.levels[factor.path])] for factor, indices in zip(study.factors, index_of, strict=True))
        for row in treatments
    ]
    return decompose(cells, [arms[row.label] for row in treatments], study.fraction)


def correct(study: Study, decompositions: Mapping[str, Decomposition]) -> dict[str, Decomposition]:
    """The decompositions (metric -> decomposition) with Holm's correction over all planned tests together.

    Planned are the main effect of each factor on its metric, and interactions on the primary metric.
    """
    planned = {
        (name, i): term.p
        for name, result in decompositions.items()
        for i, term in enumerate(result.terms)
        if result.error_df and name == _planned_metric(study, term)
    }
    adjusted = holm_planned(planned)
    return {
        name: replace(
            result,
            terms=tuple(replace(term, p_holm=adjusted.get((name, i), math.nan)) for i, term in enumerate(result.terms)),
        )
        for name, result in decompositions.items()
    }


def _planned_metric(study: Study, term: Term) -> str:
    """The metric on which a term is tested as planned."""
    path = study.factors[term.factors[0]].path
    return study.primary_of.get(path, study.primary) if len(term.factors) == 1 else study.primary


def untested(decomposition: Decomposition) -> Decomposition:
    """The decomposition without p-values, for treatments some of whose trials ended without a result."""
    terms = [
        replace(term, p=math.nan, contrasts=tuple(replace(one, p=math.nan) for one in term.contrasts))
        for term in decomposition.terms
    ]
    return replace(decomposition, terms=tuple(terms), higher_p=math.nan)


def as_json(study: Study, decomposition: Decomposition) -> dict[str, Any]:
    """A decomposition with the names of factors and levels, as JSON values; numbers may be NaN."""
    paths = [factor.path for factor in study.factors]

    def named(contrast: Contrast, factors: Factors) -> dict[str, Any]:
        levels = {paths[i]: study.factors[i].levels[index] for i, index in zip(factors, contrast.levels, strict=True)}
        return {**vars(contrast), "levels": levels}

    terms = [
        {
            **vars(term),
            "factors": [paths[i] for i in term.factors],
            "aliases": [[paths[i] for i in alias] for alias in term.aliases],
            "contrasts": [named(one, term.factors) for one in term.contrasts],
        }
        for term in decomposition.terms
    ]
    return {
        **{name: value for name, value in vars(decomposition).items() if name not in {"noisiest", "quiet_half_share"}},
        "terms": terms,
    }


def decompose(
    cells: Sequence[LevelIndices], values: Sequence[Mapping[int, float]], fraction: Fraction | Optimal | None = None
) -> Decomposition:
    """Decompose the values (seed -> value) of treatments. `cells`: each treatment's level of every factor.

    The treatments are all combinations of levels, or the runs of `fraction`; each needs a finite value for at least one
    seed. Factors with a single level have no terms.
    """
    # The model: blocks of columns, and the weights of the treatments' means in its coefficients.
    means = BlockedMeans([_finite(row) for row in values])
    levels = np.array(cells)
    counts = [int(last) + 1 for last in levels.max(axis=0)]
    effects = [one for one in _effects(len(counts), fraction) if all(counts[i] > 1 for i in one[0])]
    model = columns(levels, counts, [factors for factors, *_ in effects])
    coefficients = means.fit(model) if isinstance(fraction, Optimal) else [block.T / len(levels) for block in model]

    # Test and contrasts of each term.
    terms = []
    for (factors, *aliases), weights in zip(effects, coefficients[1:], strict=True):
        df, squares = means.test(weights)
        f, p = means.f(squares, df)
        contrasts = tuple(
            Contrast(cell, *means.interval(change @ weights)) for cell, change in _changes(counts, factors)
        )
        terms.append(Term(factors, tuple(aliases), df, means.share(squares), f, p, contrasts))

    # All higher interactions together.
    higher_df = len(levels) - 1 - sum(term.df for term in terms)
    higher = means.unexplained(np.hstack(model)) if higher_df else 0.0
    return Decomposition(
        tuple(terms), higher_df, means.share(higher), *means.f(higher, higher_df), means.share(means.seed_squares),
        means.share(means.error), means.error_df, means.sd, means.noisiest, means.quiet_half_share,
    )  # fmt: skip


def _finite(values: Mapping[int, float]) -> dict[int, float]:
    return {seed: value for seed, value in values.items() if math.isfinite(value)}


def _effects(factors: int, fraction: Fraction | Optimal | None) -> list[list[Factors]]:
    """Main effects, then interactions of two. Effects that a fraction cannot distinguish are in one list."""
    if isinstance(fraction, Fraction):
        return list(fraction.aliases())
    pairs = [effect for size in (1, 2) for effect in itertools.combinations(range(factors), size)]
    return [[effect] for effect in (fraction.effects if fraction else pairs)]


def _changes(counts: Sequence[int], factors: Factors) -> list[tuple[LevelIndices, Numbers]]:
    """The contrasts of an effect: a combination of levels other than the baseline's, and the weights of coefficients.

    The contrast of an interaction is (both changed) - (first changed) - (second changed) + (none changed).
    """
    changes = []
    for levels in itertools.product(*(range(1, counts[i]) for i in factors)):
        change = np.zeros(math.prod(counts[i] - 1 for i in factors))
        for taken in itertools.product((0, 1), repeat=len(levels)):
            cell = np.zeros((1, len(counts)), dtype=np.int64)
            cell[0, list(factors)] = np.multiply(levels, taken)
            change += (-1) ** (len(levels) - sum(taken)) * columns(cell, counts, [factors])[1][0]
        changes.append((levels, change))
    return changes
