"""Fractions: which treatments of the grid a study runs.

Where a factor has more than two levels they are a D-optimal design, see `optimal`. Else they are a regular two-level
fractional factorial design, of which it is known which effects are estimated only together.

Box and Hunter, "The 2^(k-p) fractional factorial designs", Technometrics 3, 1961. Levels are 0 and 1, so that the runs
are the words of a linear code: a factor's column is a set of basic factors, whose sum modulo 2 it is. The run of all
zeros, which is the baseline, is in each such fraction. A *word* of the defining relation is a set of factors whose
columns add up to nothing; the shortest word's length is the resolution. Two effects are aliased, estimated only
together, where the factors of both, less those in common, are a word.

Of equal resolution the fraction of least aberration is taken: the fewest shortest words, then the fewest next (Fries
and Hunter, "Minimum aberration 2^(k-p) designs", Technometrics 22, 1980). It is searched for as Chen, Sun and Wu do
("A catalogue of two-level and three-level fractional factorial designs with small runs", Int. Stat. Review 61, 1993):
factor by factor, of designs that look alike one being kept. Sets of factors are bit masks here.
"""

import itertools
import math
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from operator import itemgetter

from ablate.errors import Problem, nearest
from ablate.study.constraints import Constraint
from ablate.study.document import Document
from ablate.study.factors import Factor
from ablate.study.optimal import Cell, Optimal, choose, parameters
from ablate.study.schema import FractionSize, StudyFile

ROMAN = ("0", "I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X", "XI", "XII")


Pattern = tuple[int, ...]
"""How many words there are of each length, from the shortest possible on."""


KINDS = 16
"""How many designs of one size the search keeps, the best first. It is exhaustive where there are fewer kinds."""


LARGEST = 15
"""Factors of a fraction at most: beyond, the search takes minutes and no study has them."""


@dataclass(frozen=True)
class Fraction:
    """`columns`: for each factor the set of basic factors whose sum modulo 2 it is; 1, 2, 4 … for those themselves."""

    columns: tuple[int, ...]

    @property
    def basic(self) -> int:
        """How many factors are basic; 2 to this power is the number of runs."""
        return max(self.columns).bit_length()

    @property
    def runs(self) -> list[tuple[int, ...]]:
        """The level, 0 or 1, of each factor in each run; the first run is all zeros, and the last basic factor is the
        quickest to change."""
        return [
            tuple((column & chosen).bit_count() % 2 for column in self.columns)
            for bits in itertools.product((0, 1), repeat=self.basic)
            for chosen in [sum(bit << i for i, bit in enumerate(bits))]
        ]

    @property
    def words(self) -> set[int]:
        """The defining relation: every set of factors whose columns add up to nothing, the empty one left out."""
        return set(_words(self.columns))

    @property
    def resolution(self) -> int:
        """The length of the shortest word; one more than there are factors in a full factorial, which has none."""
        return min((word.bit_count() for word in self.words), default=len(self.columns) + 1)

    def aliases(self) -> Iterator[list[tuple[int, ...]]]:
        """Main effects and interactions of two factors, those that are estimated together in one list."""
        found: dict[int, list[tuple[int, ...]]] = {}
        for size in (1, 2):
            for effect in itertools.combinations(range(len(self.columns)), size):
                found.setdefault(_sum(self.columns[i] for i in effect), []).append(effect)
        yield from found.values()


def by_runs(factors: int, runs: int) -> Fraction:
    """The fraction of so many runs, a power of two. Raises ValueError where these cannot tell the main effects apart,
    or are the full factorial."""
    basic = runs.bit_length() - 1
    if runs != 1 << basic:
        raise ValueError(f"runs: expected a power of two, found {runs}; did you mean {1 << basic} or {2 << basic}?")
    _check_size(factors)
    if basic >= factors:
        raise ValueError(f"{runs} runs are no fraction: {factors} factors have {1 << factors} treatments, all of which "
                         f"design 'grid' runs")  # fmt: skip
    if runs <= factors:
        least = 1 << factors.bit_length()
        less = f"the least is {least}" if least < 1 << factors else "no fraction can; use design 'grid'"
        raise ValueError(f"{runs} runs cannot tell the main effects of {factors} factors apart: {less}")
    best = _best(factors, basic)
    if best is None:
        raise AssertionError("every number of factors below that of the runs has a fraction of resolution III")
    return best


def by_resolution(factors: int, resolution: int) -> Fraction:
    """The smallest fraction of at least this resolution. Raises ValueError if only the full factorial has it."""
    _check_size(factors)
    for basic in range(factors.bit_length(), factors):
        if (found := _best(factors, basic)) and found.resolution >= resolution:
            return found
    raise ValueError(
        f"no fraction of {factors} factors has resolution {resolution}"
        + (f", {factors} at most, in {1 << (factors - 1)} runs" if factors >= 3 else "")
        + f"; all {1 << factors} treatments are design 'grid'"
    )


def _check_size(factors: int) -> None:
    if factors > LARGEST:
        raise ValueError(f"{factors} factors are too many to choose a fraction for: {LARGEST} at most")


@cache
def _best(factors: int, basic: int) -> Fraction | None:
    """The fraction of 2^basic runs of the highest resolution, and of those the one of least aberration."""
    kinds = [tuple(1 << i for i in range(basic))]
    for _ in range(factors - basic):
        found: dict[tuple[Pattern, tuple[Pattern, ...]], tuple[int, ...]] = {}
        for columns in kinds:
            for column in range(1, 1 << basic):
                if column not in columns:
                    wider = (*columns, column)
                    found.setdefault(_fingerprint(wider), wider)
        kinds = [found[kind] for kind in sorted(found, key=itemgetter(0))[:KINDS]]
    return Fraction(kinds[0]) if kinds else None


def _fingerprint(columns: tuple[int, ...]) -> tuple[Pattern, tuple[Pattern, ...]]:
    """Equal for designs that differ only in their factors' names: counts of words by length, in all and by factor."""
    words = _words(columns)

    def pattern(words: Iterable[int]) -> Pattern:
        lengths = Counter(word.bit_count() for word in words)
        return tuple([lengths[size] for size in range(3, len(columns) + 1)])

    each = [pattern(word for word in words if word >> i & 1) for i in range(len(columns))]
    return pattern(words), tuple(sorted(each))


def _words(columns: tuple[int, ...]) -> list[int]:
    """All words but the empty one. A column that is not basic gives one word; the others are sums of these."""
    index = {column: i for i, column in enumerate(columns) if column.bit_count() == 1}
    words = [0]
    for i, column in enumerate(columns):
        if column.bit_count() > 1:
            word = 1 << i | sum(1 << index[1 << bit] for bit in range(column.bit_length()) if column >> bit & 1)
            words += [word ^ known for known in words]
    return words[1:]


def _sum(columns: Iterable[int]) -> int:
    total = 0
    for column in columns:
        total ^= column
    return total


def read_fraction(
    document: Document,
    file: StudyFile,
    factors: tuple[Factor, ...],
    where: tuple[Constraint, ...],
    problems: list[Problem],
) -> Fraction | Optimal | None:
    """The fraction that a study runs, None if it runs none; adds what is wrong with it to `problems`."""
    size = file.fraction
    paths = [factor.path for factor in factors]
    if size is None:
        return None
    for factor in factors:
        if factor.conditional:
            message = f"a fraction needs every factor in every run; '{factor.path}' exists with some levels only"
            problems.append(document.problem(("factors", factor.path), message, at_key=True))
    for i, pair in enumerate(size.interactions):
        if message := _no_pair(paths, pair):
            problems.append(document.problem(("fraction", "interactions", i), f"fraction: {message}"))
    mixed = any(len(factor.levels) > 2 for factor in factors)
    if mixed and problems:
        return None
    try:
        if mixed:
            return _optimal(size, factors, where)
        fraction = by_runs(len(paths), size.runs) if size.runs else by_resolution(len(paths), size.resolution or 3)
    except ValueError as error:
        key = "runs" if size.runs else "resolution"
        problems.append(document.problem(("fraction", key), str(error)))
        return None
    for i, pair in enumerate(size.interactions):
        if not _no_pair(paths, pair) and (message := _aliased(fraction, paths, pair)):
            problems.append(document.problem(("fraction", "interactions", i), f"fraction: {message}"))
    return fraction


def _no_pair(paths: list[str], pair: tuple[str, str]) -> str:
    """Why two paths are no pair of factors; empty if they are."""
    if unknown := [path for path in pair if path not in paths]:
        return f"'{unknown[0]}' is no factor{nearest(unknown[0], paths)}"
    return f"an interaction is of two factors, found '{pair[0]}' twice" if pair[0] == pair[1] else ""


def _aliased(fraction: Fraction, paths: list[str], pair: tuple[str, str]) -> str:
    """Why a fraction cannot estimate the interaction of a pair of factors by itself; empty if it can."""
    effect = tuple(sorted(map(paths.index, pair)))
    (group,) = (group for group in fraction.aliases() if effect in group)
    others = ["*".join(paths[i] for i in other) for other in group if other != effect]
    if not others:
        return ""
    runs = 1 << fraction.basic
    return f"{runs} runs cannot tell {'*'.join(pair)} from {' and '.join(others)}; more runs or a higher resolution can"


def _optimal(size: FractionSize, factors: tuple[Factor, ...], where: tuple[Constraint, ...]) -> Optimal:
    """The D-optimal fraction of factors with any number of levels. Raises ValueError if there is none."""
    paths = [factor.path for factor in factors]
    counts = [len(factor.levels) for factor in factors]
    pairs = sorted({tuple(sorted(map(paths.index, pair))) for pair in size.interactions})
    least = parameters(counts, pairs)
    grid = math.prod(counts)
    instead = f"use 'runs' of at least {least}" if least < grid else "use design 'grid'"
    if size.runs is None:
        path, count = next((path, count) for path, count in zip(paths, counts, strict=True) if count > 2)
        raise ValueError(f"a resolution is of factors with two levels, and '{path}' has {count}; {instead}")
    if size.runs < least:
        raise ValueError(f"{size.runs} runs cannot tell the {least} parameters of the model (the mean, main effects "
                         f"and the interactions asked for): {instead}")  # fmt: skip

    def allows(cell: Cell) -> bool:
        levels = {factor.path: factor.levels[at] for factor, at in zip(factors, cell, strict=True)}
        return all(one.holds(levels) for one in where)

    fraction = choose(counts, size.runs, pairs, allows)
    if lost := fraction.lost():
        names = ", ".join("*".join(paths[i] for i in effect) for effect in lost)
        raise ValueError(f"found no {size.runs} treatments that 'where' allows and that tell the effect of {names}")
    return fraction
