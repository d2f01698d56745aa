"""D-optimal designs: the treatments that estimate main effects, and some interactions, with the least uncertainty.

Of all choices of so many treatments the one with the largest determinant of X'X is sought, X being the model's columns,
a row per treatment (V. V. Fedorov, "Theory of Optimal Experiments", 1972). Factors have any number of levels, and
treatments may be forbidden. From random starts one treatment after the other is exchanged as long as that helps: for
the best of all others (R. D. Cook and C. J. Nachtsheim, "A comparison of algorithms for constructing exact D-optimal
designs", Technometrics 22, 1980) or, where these are many, for the best that differs from it in one factor (R. K. Meyer
and C. J. Nachtsheim, "The coordinate-exchange algorithm for constructing exact optimal experimental designs",
Technometrics 37, 1995). Neither is certain to end at the optimum.

The columns are orthonormal over the full grid: in another coding, such as dummy variables, all determinants are these
times one constant, so that the optimum is the same.
"""

import itertools
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]


Cells = NDArray[np.int64]
"""Treatments `count factors`: the index of each factor's level; 0 is the baseline's."""


Cell = tuple[int, ...]


Effect = tuple[int, ...]
"""A factor, or two that interact, by the indices of the factors."""


EVERY = 500
"""Full grids of up to so many treatments are listed, and each run is compared with all of them."""


STARTS = 100
"""Random starts at most. Large designs have fewer: they come close to the best from anywhere."""


STARTED = 1000
"""Treatments of all starts together, at most."""


DRAWS = 1000
"""Random treatments drawn at most for each treatment of a start; the constraints must allow enough of them."""


TIE = 1e-6
"""Relative difference of determinants that counts: rounding, which differs between machines, must not choose."""


RIDGE = 1e-4
"""Added to X'X / runs, whose diagonal is about 1. Singular starts then have an inverse, right to much less than `TIE`:
where gains are of rounding alone, exchanges go round in circles."""


PASSES = 100
"""Passes over all treatments at most; about five are enough."""


@dataclass(frozen=True)
class Optimal:
    """A D-optimal fraction. `counts`: how many levels each factor has. `effects`: what it estimates besides the mean:
    every main effect, then interactions. `runs`: the treatments, the baseline first."""

    counts: tuple[int, ...]
    effects: tuple[Effect, ...]
    runs: tuple[Cell, ...]

    @cached_property
    def model(self) -> Numbers:
        """`runs parameters`"""
        return np.hstack(columns(np.array(self.runs), self.counts, self.effects))

    @cached_property
    def efficiency(self) -> float:
        """|X'X / runs| to the power 1 / parameters. The full grid and orthogonal designs have 1, none has more; 0 where
        an effect is lost."""
        runs, parameters = self.model.shape
        return 0.0 if self.lost() else math.exp(np.linalg.slogdet(self.model.T @ self.model / runs)[1] / parameters)

    def lost(self) -> list[Effect]:
        """Effects that the treatments cannot separate from each other or from the mean."""
        _, sizes, directions = np.linalg.svd(self.model.T @ self.model / len(self.runs), hermitian=True)
        return self._involved(directions[sizes < 1e-9].T)

    def aliases(self) -> dict[Effect, list[Effect]]:
        """Each interaction of two factors that is not in the model -> the effects whose estimates it biases.

        By the alias matrix (X'X)⁻¹X'Z of G. E. P. Box and K. B. Wilson (J. Royal Stat. Soc. B 13, 1951).
        """
        pairs = [pair for pair in itertools.combinations(range(len(self.counts)), 2) if pair not in self.effects]
        _, *others = columns(np.array(self.runs), self.counts, pairs)
        solve = np.linalg.pinv(self.model)
        return {pair: self._involved(solve @ other) for pair, other in zip(pairs, others, strict=True)}

    def _involved(self, coefficients: Numbers) -> list[Effect]:
        """Effects with a coefficient that is not 0, given a row for each parameter."""
        ends = np.cumsum([1, *(_degrees(self.counts, effect) for effect in self.effects)])
        _, *parts = np.split(coefficients, ends[:-1])
        return [effect for effect, part in zip(self.effects, parts, strict=True) if (abs(part) > 1e-6).any()]


def parameters(counts: Sequence[int], pairs: Sequence[Effect]) -> int:
    """How many parameters the mean, all main effects and the interactions of these pairs have."""
    return 1 + sum(_degrees(counts, effect) for effect in _effects(counts, pairs))


def _effects(counts: Sequence[int], pairs: Sequence[Effect]) -> tuple[Effect, ...]:
    return (*((i,) for i in range(len(counts))), *pairs)


def _degrees(counts: Sequence[int], effect: Effect) -> int:
    return math.prod(counts[i] - 1 for i in effect)


def columns(cells: Cells, counts: Sequence[int], effects: Sequence[Effect]) -> list[Numbers]:
    """The model's columns in these treatments, of the mean and of each effect: `cells degrees`, a list of matrices."""
    codings = [_helmert(count)[places] for count, places in zip(counts, cells.T, strict=True)]
    found = [np.ones((len(cells), 1))]
    for first, *others in effects:
        product = codings[first]
        for i in others:
            product = (product[:, :, None] * codings[i][:, None, :]).reshape(len(cells), -1)
        found.append(product)
    return found


@cache
def _helmert(count: int) -> Numbers:
    """Orthogonal columns of mean square 1 that span the differences between levels, `count (count - 1)`."""
    steps = np.diag(np.arange(1.0, count), -1)[:, :-1] - np.triu(np.ones((count, count - 1)))
    scaled: Numbers = steps / np.linalg.norm(steps, axis=0) * math.sqrt(count)
    return scaled


def choose(counts: Sequence[int], runs: int, pairs: Sequence[Effect], allows: Callable[[Cell], bool]) -> Optimal:
    """The best design found of so many different treatments, the baseline among them; the same in every process.

    `pairs`: the interactions to estimate beside all main effects. The design has `lost` effects where none was found
    that has not. Raises ValueError where there are no more than so many treatments, or too few are found.
    """
    search = _Search(tuple(counts), _effects(counts, pairs), allows)
    allowed = math.prod(counts) if search.every is None else len(search.every)
    if allowed <= runs:
        raise ValueError(
            f"{runs} runs are no fraction: there are {allowed} treatments, all of which design 'grid' runs"
        )
    best = search.improve(search.start(runs))
    for _ in range(1, max(3, min(STARTS, STARTED // runs))):
        if best.efficiency > 1 - TIE:
            break
        other = search.improve(search.start(runs))
        best = other if other.efficiency > best.efficiency * (1 + TIE) else best
    return best


class _Search:
    """Exchanges of treatments. `every`: all that are allowed; None where these are too many to list."""

    def __init__(self, counts: tuple[int, ...], effects: tuple[Effect, ...], allows: Callable[[Cell], bool]) -> None:
        self.counts, self.effects, self.allows = counts, effects, cache(allows)
        few = math.prod(counts) <= EVERY
        self.every = [cell for cell in itertools.product(*map(range, counts)) if allows(cell)] if few else None
        self.random = random.Random(0)

    def start(self, runs: int) -> list[Cell]:
        """The baseline and other random treatments."""
        found = {(0,) * len(self.counts): None}
        for _ in range(DRAWS * runs):
            cell = tuple([int(self.random.random() * count) for count in self.counts])
            if self.allows(cell):
                found[cell] = None
            if len(found) == runs:
                return list(found)
        raise ValueError(
            f"of {DRAWS * runs} treatments drawn from the grid's {math.prod(self.counts)} the constraints leave "
            f"{len(found)}, fewer than {runs} runs"
        )

    def improve(self, runs: list[Cell]) -> Optimal:
        """Exchange treatments, except the first, as long as the determinant grows."""
        model = self._model(runs)
        whiten = _whitening(model)
        for _ in range(PASSES):
            before = list(runs)
            for i in range(1, len(runs)):
                if not (others := self._others(runs, i)):
                    continue
                candidates = self._model(others)
                gains = _gains(model[i] @ whiten, candidates @ whiten)
                best = int(np.argmax(gains > gains.max() * (1 - TIE)))
                if gains[best] > 1 + TIE:
                    runs[i], model[i] = others[best], candidates[best]
                    whiten = _whitening(model)
            if runs == before:
                break
        return Optimal(self.counts, self.effects, tuple(sorted(runs)))

    def _others(self, runs: list[Cell], i: int) -> list[Cell]:
        """The treatments that one may be exchanged for."""
        taken = set(runs)
        cell = runs[i]
        if self.every is not None:
            return [other for other in self.every if other not in taken]
        steps = ((*cell[:at], level, *cell[at + 1 :]) for at, n in enumerate(self.counts) for level in range(n))
        return [other for other in steps if other not in taken and self.allows(other)]

    def _model(self, cells: list[Cell]) -> Numbers:
        return np.hstack(columns(np.array(cells), self.counts, self.effects))


def _whitening(model: Numbers) -> Numbers:
    """A root of the inverse of X'X, which loses half as many digits as the inverse itself."""
    runs, parameters = model.shape
    root = np.linalg.cholesky(model.T @ model + RIDGE * runs * np.eye(parameters))
    return np.asarray(np.linalg.inv(root).T, dtype=np.float64)


def _gains(row: Numbers, candidates: Numbers) -> Numbers:
    """The factor by which the determinant grows if a candidate replaces a row, both whitened (Fedorov 1972)."""
    gains: Numbers = (1 + (candidates**2).sum(axis=1)) * (1 - row @ row) + (candidates @ row) ** 2
    return gains
