"""Rows, columns and notes of the table of a factorial design's main effects and interactions."""

import math
from collections.abc import Sequence

from ablate.analysis.statistics.chance import ALPHA
from ablate.analysis.statistics.factorial import Decomposition, Factors, Term
from ablate.analysis.tables.rows import list_levels, named
from ablate.analysis.typeset.cells import (
    Cell,
    Column,
    Difference,
    Group,
    Layout,
    Phrase,
    Sentence,
    Symbol,
    Word,
    amount,
    compared,
    numeral,
    unit,
)
from ablate.plan.labels import Names
from ablate.plan.treatments import Treatment
from ablate.slots.settings import Metric
from ablate.study.optimal import Optimal
from ablate.study.study import Study
from ablate.study.titles import title_of

MAX_ERROR_SHARE = 0.5
"""A treatment with a larger share of the error than this is named in a warning."""

MIN_QUIET_SHARE = 0.03
"""A warning is given if the quieter half of the treatments has a smaller share of the error than this.

With equal variances and three seeds the expected share is 15 %.
"""


def arrange_factorial(
    study: Study,
    treatments: Sequence[Treatment],
    metric: Metric,
    decomposition: Decomposition,
    *,
    label: str,
    planned: int,
    troubles: Sequence[str],
) -> Layout:
    """The table of one metric: a row per level of each factor and per interaction of two, then all other shares.

    `planned`: the tests that Holm's correction is for. `troubles`: treatments with diverged or failed trials.
    """
    tested = decomposition.error_df > 0
    columns = [
        Column("level", "change"),
        Column("difference", f"Δ {compared(metric)} {f'({unit(metric)}) ' if unit(metric) else ''}[95 % CI]", metric),
        Column("text", "share"),
    ]
    corrected = any(not math.isnan(term.p_holm) for term in decomposition.terms)
    if tested:
        columns += [Column("text", "F (df)"), Column("text", "p (Holm)" if corrected else "p")]
    rows = _Rows(study, metric, tested, corrected)
    main_effects = [rows.of_factor(term) for term in decomposition.terms if len(term.factors) == 1]
    groups = [*main_effects, rows.of_pairs(decomposition.terms), rows.besides(decomposition)]
    return Layout(
        f"{label}-effects-{metric.name.replace('/', '-')}", study.name,
        f"Main effects and interactions in {title_of(metric)}", tuple(columns),
        tuple(group for group in groups if group.rows),
        _how_to_read(study, treatments, metric, decomposition, planned, troubles),
        _uneven(Names(study), treatments, decomposition),
    )  # fmt: skip


class _Rows:
    """The rows of one metric's table."""

    def __init__(self, study: Study, metric: Metric, tested: bool, corrected: bool) -> None:
        self.study = study
        self.metric = metric
        self.tested = tested
        self.corrected = corrected
        self.shown = Names(study)
        self.names = list(self.shown.factors.values())

    def of_factor(self, term: Term) -> Group:
        """A row per level other than the baseline's; if there are several, a row with their joint test comes first."""
        (index,) = term.factors
        factor = self.study.factors[index]
        first = named(self.shown, factor.path, factor.levels[0])
        levels = [
            (first, " → ", named(self.shown, factor.path, factor.levels[one.levels[0]])) for one in term.contrasts
        ]
        aliases = self._aliases(term)
        changes = self._changes(term)
        test = self._test(term)
        if len(levels) == 1:
            rows = [(Phrase(levels[0], aliases), changes[0], *test)]
        else:
            rows = [(Phrase(("any",), aliases), Word(""), *test)]
            blank = [Word("")] * len(test)
            rows += [(Phrase(level), change, *blank) for level, change in zip(levels, changes, strict=True)]
        return Group(tuple(rows), self.names[index])

    def of_pairs(self, terms: Sequence[Term]) -> Group:
        """A row per interaction, with its size if that is a single number."""
        rows = []
        for term in terms:
            if len(term.factors) == 2:
                change = self._changes(term)[0] if len(term.contrasts) == 1 else Word("")
                rows.append((Phrase((self._name(term.factors),), self._aliases(term)), change, *self._test(term)))
        return Group(tuple(rows), "interactions")

    def besides(self, decomposition: Decomposition) -> Group:
        """The shares of all higher interactions, of the seeds and of the error."""
        rows: list[tuple[Cell, ...]] = []
        blank = [Word("")] * (2 if self.tested else 0)
        if decomposition.higher_df:
            optimal = isinstance(self.study.fraction, Optimal)
            name = "interactions left out" if optimal else "higher interactions"
            share = Word(f"{decomposition.higher_share:.1%}")
            test: Sequence[Cell] = ()
            if self.tested:
                test = self._f(decomposition.higher_f, decomposition.higher_df, decomposition.higher_p)
            rows.append((Word(name), Word(""), share, *test))
        if len(self.study.seeds) > 1:
            rows.append((Word("seeds"), Word(""), Word(f"{decomposition.seeds_share:.1%}"), *blank))
        if self.tested:
            df = Word(f"({decomposition.error_df})")
            rows.append((Word("error"), Word(""), Word(f"{decomposition.error_share:.1%}"), df, Word("")))
        return Group(tuple(rows), "other")

    def _changes(self, term: Term) -> list[Cell]:
        """The contrasts, with a star where the term and the contrast are both significant."""
        p = term.p if math.isnan(term.p_holm) else term.p_holm
        return [
            Difference(one.estimate, one.low, one.high, self.metric.decimals, one.p < ALPHA and p < ALPHA)
            for one in term.contrasts
        ]

    def _test(self, term: Term) -> list[Cell]:
        """Share, F with its degrees of freedom, and p; where others are corrected, one that is not is marked."""
        if not self.tested:
            return [Word(f"{term.share:.1%}")]
        alone = self.corrected and math.isnan(term.p_holm)
        f, p = self._f(term.f, term.df, term.p if math.isnan(term.p_holm) else term.p_holm)
        remark = " (not planned)" if alone and not math.isnan(term.p) else ""
        return [Word(f"{term.share:.1%}"), f, Word(f"{p.text}{remark}")]

    def _f(self, f: float, df: int, p: float) -> tuple[Word, Word]:
        """F with its degrees of freedom, and p: `31.2 (6)`, `<0.001`."""
        return Word(f"{numeral(f, 1)} ({df})"), Word("<0.001" if p < 0.001 else numeral(p, 3))

    def _name(self, factors: Factors) -> str:
        return " × ".join(self.names[i] for i in factors)

    def _aliases(self, term: Term) -> Sentence:
        return (f"or {', '.join(map(self._name, term.aliases))}",) if term.aliases else ()


def _how_to_read(
    study: Study,
    treatments: Sequence[Treatment],
    metric: Metric,
    decomposition: Decomposition,
    planned: int,
    troubles: Sequence[str],
) -> tuple[Sentence, ...]:
    """The notes under the table."""
    optimal = isinstance(study.fraction, Optimal)
    measure = f" in {unit(metric)}" if unit(metric) else ""
    delta: Sentence = (
        f"Study {study.name}, {compared(metric)}{measure}. Δ is the effect of the change of level, averaged over all "
        "levels of the other factors; for an interaction, it is the effect of both changes together minus the sum of "
        "their separate effects.",
    )  # fmt: skip
    model = [_least_squares(study, decomposition)] if optimal else _aliased(decomposition) + _fixed(study, treatments)
    share: Sentence = (
        ("Share: the part of the total sum of squares (about the mean) that a term explains beyond all other terms.",)
        if optimal
        else ("Share: the part of the total sum of squares (about the mean).",)
    )
    if not decomposition.error_df:
        return (delta, *model, share, ("One seed: no estimate of the error, no intervals.",))
    if troubles:
        survivors = f"Nothing is tested, because the trials that are left are a selection: {', '.join(troubles)}."
        return (delta, *model, share, (survivors,))
    several = f", the main effect of each factor in its metric: {_metrics(study)}" if study.primary_of else ""
    corrected = any(not math.isnan(term.p_holm) for term in decomposition.terms)
    holm = f" is corrected for {planned} tests by Holm’s method{several}" if corrected else " is not corrected"
    sd = amount(metric, decomposition.error_sd)
    test: Sentence = (
        "Analysis of variance with seeds as blocks; the error is the residual of treatments and seeds, pooled over all "
        f"treatments, with a standard deviation of {sd} in one trial; a change between noisier treatments has "
        "their own. ", Symbol("p"), f"{holm}. A star marks an "
        "interval that excludes 0 in a term with ", Symbol("p"), " < 0.05.",
    )  # fmt: skip
    return (delta, *model, share, test)


def _metrics(study: Study) -> str:
    """The metric of each factor that has one, and that of all other tests."""
    names = Names(study).factors
    own = [f"{names[path]} in {title_of(study.metrics[metric])}" for path, metric in study.primary_of.items()]
    return ", ".join([*own, f"all others in {study.primary_title}"])


def _aliased(decomposition: Decomposition) -> list[Sentence]:
    """What “or” means in the rows of a fraction, if any term has aliases."""
    if not any(term.aliases for term in decomposition.terms):
        return []
    return [("“or” lists the effects that the fraction cannot distinguish from the row’s.",)]


def _fixed(study: Study, treatments: Sequence[Treatment]) -> list[Sentence]:
    """Which factors are not varied, if constraints leave holes in the grid."""
    varied = {path for row in treatments for path in row.changed}
    names = Names(study)
    fixed = {factor.path: factor.levels[0] for factor in study.factors if factor.path not in varied}
    if not fixed:
        return []
    return [
        ("Only treatments with ", *list_levels(names, fixed), ", the largest full grid that the constraints leave.")
    ]


def _least_squares(study: Study, decomposition: Decomposition) -> Sentence:
    """The model that the effects of a D-optimal fraction are estimated by."""
    names = list(Names(study).factors.values())
    pairs = [" × ".join(names[i] for i in term.factors) for term in decomposition.terms if term.factors[1:]]
    model = f"main effects and {', '.join(pairs)}" if pairs else "main effects"
    tested = decomposition.higher_df and decomposition.error_df
    test = "the row “interactions left out” tests this" if tested else "nothing here tests this"
    return (f"Effects are estimated by least squares: {model}, each adjusted for the others. Other interactions are "
            f"assumed to be zero; {test}.",)  # fmt: skip


def _uneven(names: Names, treatments: Sequence[Treatment], decomposition: Decomposition) -> tuple[str, ...]:
    """A warning if the error is far from equal in all treatments."""
    index, share = decomposition.noisiest
    pooled = "the intervals and tests here, which pool the error, mainly reflect"
    if share > MAX_ERROR_SHARE and len(treatments) > 3:
        label = names.treatment(treatments[index].label)
        return (f"{share:.0%} of the error comes from the treatment '{label}': {pooled} that treatment",)
    quiet = decomposition.quiet_half_share
    if quiet < MIN_QUIET_SHARE and len(treatments) > 5 and decomposition.error_df > len(treatments):
        return (f"half of the treatments contribute {quiet:.1%} of the error: {pooled} the other half",)
    return ()
