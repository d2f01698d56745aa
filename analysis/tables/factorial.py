"""What stands where in the table of a factorial design's main effects and interactions."""

import math
from collections.abc import Sequence

from ablate.analysis.statistics.chance import ALPHA
from ablate.analysis.statistics.factorial import Decomposition, Factors, Term
from ablate.analysis.typeset.cells import (
    Cell,
    Column,
    Difference,
    Group,
    Layout,
    Level,
    Phrase,
    Sentence,
    Symbol,
    Word,
    numeral,
    unit,
)
from ablate.plan.labels import short_names
from ablate.plan.treatments import Treatment
from ablate.slots.settings import Metric
from ablate.study.optimal import Optimal
from ablate.study.study import Study

UNEVEN = 0.5
"""A treatment with a larger part of the error than this is named."""


CALM = 0.03
"""What half of the treatments have of the error at least, if all have the same: at three seeds 15 % are expected."""


def arrange_factorial(
    study: Study, treatments: Sequence[Treatment], metric: Metric, found: Decomposition, *, label: str, primary: bool
) -> Layout:
    """A row for each level of each factor and each interaction of two, then what there is besides."""
    tested = found.error_df > 0
    columns = [
        Column("level", "change"),
        Column("difference", f"Δ {metric.name} {f'({unit(metric)}) ' if unit(metric) else ''}[95 % CI]", metric),
        Column("text", "share"),
    ]
    if tested:
        columns += [Column("text", "F (df)"), Column("text", "p (Holm)" if primary else "p")]
    rows = _Rows(study, metric, tested)
    alone = [rows.of_factor(term) for term in found.terms if len(term.factors) == 1]
    groups = [*alone, rows.of_pairs(found.terms), rows.besides(found)]
    return Layout(
        f"{label}-effects-{metric.name.replace('/', '-')}", study.name,
        f"Main effects and interactions in {metric.name}", tuple(columns),
        tuple(group for group in groups if group.rows), _how_to_read(study, treatments, metric, found, primary),
        _uneven(treatments, found),
    )  # fmt: skip


class _Rows:
    """The rows of one metric's table."""

    def __init__(self, study: Study, metric: Metric, tested: bool) -> None:
        self.study, self.metric, self.tested = study, metric, tested
        self.names = list(short_names(study.factors).values())

    def of_factor(self, term: Term) -> Group:
        """A row per level; of several levels the test of them all comes first."""
        (at,) = term.factors
        baseline = Level(self.study.factors[at].levels[0])
        levels = [(baseline, " → ", Level(self.study.factors[at].levels[one.levels[0]])) for one in term.contrasts]
        aliases, changes, test = self._aliases(term), self._changes(term), self._test(term)
        if len(levels) == 1:
            rows = [(Phrase(levels[0], aliases), changes[0], *test)]
        else:
            rows = [(Phrase(("any",), aliases), Word(""), *test)]
            blank = [Word("")] * len(test)
            rows += [(Phrase(level), change, *blank) for level, change in zip(levels, changes, strict=True)]
        return Group(tuple(rows), self.names[at])

    def of_pairs(self, terms: Sequence[Term]) -> Group:
        """A row per interaction; its size where that is one number."""
        rows = []
        for term in terms:
            if len(term.factors) == 2:
                change = self._changes(term)[0] if len(term.contrasts) == 1 else Word("")
                rows.append((Phrase((self._name(term.factors),), self._aliases(term)), change, *self._test(term)))
        return Group(tuple(rows), "interactions")

    def besides(self, found: Decomposition) -> Group:
        """The shares of all else."""
        rows: list[tuple[Cell, ...]] = []
        blank = [Word("")] * (2 if self.tested else 0)
        if found.higher_df:
            test = self._f(found.higher_f, found.higher_df, found.higher_p) if self.tested else []
            left_out = "interactions left out" if isinstance(self.study.fraction, Optimal) else "more factors together"
            rows.append((Word(left_out), Word(""), Word(f"{found.higher_share:.1%}"), *test))
        if len(self.study.seeds) > 1:
            rows.append((Word("seeds"), Word(""), Word(f"{found.seeds_share:.1%}"), *blank))
        if self.tested:
            df = Word(f"({found.error_df})")
            rows.append((Word("error"), Word(""), Word(f"{found.error_share:.1%}"), df, Word("")))
        return Group(tuple(rows), "besides")

    def _changes(self, term: Term) -> list[Cell]:
        p = term.p if math.isnan(term.p_holm) else term.p_holm
        return [
            Difference(one.estimate, one.low, one.high, self.metric.decimals, one.p < ALPHA and p < ALPHA)
            for one in term.contrasts
        ]

    def _test(self, term: Term) -> list[Cell]:
        p = term.p if math.isnan(term.p_holm) else term.p_holm
        return [Word(f"{term.share:.1%}"), *(self._f(term.f, term.df, p) if self.tested else [])]

    def _f(self, f: float, df: int, p: float) -> list[Cell]:
        """`31.2 (6)`, `<0.001`"""
        return [Word(f"{numeral(f, 1)} ({df})"), Word("<0.001" if p < 0.001 else f"{p:.3f}")]

    def _name(self, factors: Factors) -> str:
        return " × ".join(self.names[i] for i in factors)

    def _aliases(self, term: Term) -> Sentence:
        return (f"or {', '.join(map(self._name, term.aliases))}",) if term.aliases else ()


def _how_to_read(
    study: Study, treatments: Sequence[Treatment], metric: Metric, found: Decomposition, primary: bool
) -> tuple[Sentence, ...]:
    measure = f" in {unit(metric)}" if unit(metric) else ""
    what: Sentence = (
        f"Study {study.name}, {metric.name}{measure}. Δ is the change of level, in the mean over all levels of the "
        "other factors; of an interaction, what two changes together have beyond the sum of both.",
    )  # fmt: skip
    alias: Sentence = ("After “or” stands what the fraction cannot tell from it.",)
    aliased = [alias] if any(term.aliases for term in found.terms) else []
    aliased += _held(study, treatments)
    share: Sentence = ("Share is that of the sum of squares about the mean.",)
    if isinstance(study.fraction, Optimal):
        aliased = [_adjusted(study, found)]
        share = ("Share is what a term adds to the others, of the sum of squares about the mean.",)
    if not found.error_df:
        return (what, *aliased, share, ("One seed: no error, no intervals.",))
    holm = f" after Holm’s correction for {len(found.terms)} tests" if primary else ", not corrected"
    sd = f"{numeral(found.error_sd, metric.decimals)} {unit(metric)}".rstrip()
    how: Sentence = (
        "Analysis of variance with the seeds as blocks; the error is what treatments and seeds leave, "
        f"{sd} in one trial, pooled over all treatments. ", Symbol("p"), f"{holm}. A star marks an interval that "
        "excludes 0 where also ", Symbol("p"), " < 0.05.",
    )  # fmt: skip
    return (what, *aliased, share, how)


def _held(study: Study, treatments: Sequence[Treatment]) -> list[Sentence]:
    """Which factors are not varied here, in a grid that constraints have holes in."""
    varied = {path for row in treatments for path in row.changed}
    names = short_names(study.factors)
    held = [(names[factor.path], factor.levels[0]) for factor in study.factors if factor.path not in varied]
    if not held:
        return []
    pieces = [piece for name, level in held for piece in (f"{name} ", Level(level), ", ")][:-1]
    return [("Of the treatments with ", *pieces, ": the largest full grid that constraints leave.")]


def _adjusted(study: Study, found: Decomposition) -> Sentence:
    """What the effects of a D-optimal fraction rest on."""
    names = list(short_names(study.factors).values())
    pairs = [" × ".join(names[i] for i in term.factors) for term in found.terms if term.factors[1:]]
    model = f"main effects and {', '.join(pairs)}" if pairs else "main effects"
    tested = found.higher_df and found.error_df
    test = "the row “interactions left out” tests that" if tested else "nothing here tests that"
    return (f"Effects are of least squares: {model}, each adjusted for the others, as if other interactions were nil; "
            f"{test}.",)  # fmt: skip


def _uneven(treatments: Sequence[Treatment], found: Decomposition) -> tuple[str, ...]:
    """What to know where the error is not the same in all treatments."""
    (place, part), pooled = found.worst, "intervals and tests here, which pool it, speak of"
    if part > UNEVEN and len(treatments) > 3:
        return (f"{part:.0%} of the error comes from the treatment '{treatments[place].label}': {pooled} that one",)
    if found.calm < CALM and len(treatments) > 5 and found.error_df > len(treatments):
        return (f"half of the treatments make {found.calm:.1%} of the error: {pooled} the other half",)
    return ()
