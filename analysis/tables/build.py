"""Build the ablation table of a study from its trials."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from ablate.analysis import papers
from ablate.analysis.records.frame import frame_of
from ablate.analysis.statistics.dunnett import unpair
from ablate.analysis.statistics.effects import (
    Analysis,
    Arms,
    Change,
    all_by_seed,
    analyse,
    by_seed,
    comparable,
    count_statuses,
    difference,
    find_troubles,
)
from ablate.analysis.statistics.factorial import correct, crossed, decompose_study, is_factorial, obstacle, untested
from ablate.analysis.statistics.judgements import judge
from ablate.analysis.statistics.moderation import Moderation
from ablate.analysis.statistics.ranks import front, indistinct, rank
from ablate.analysis.statistics.stability import stability
from ablate.analysis.tables import likeness
from ablate.analysis.tables.claims import arrange_claims
from ablate.analysis.tables.factorial import arrange_factorial
from ablate.analysis.tables.leads import Comparison, compare_rows, compare_terms, lead_metrics, measure_open
from ablate.analysis.tables.matrix import arrange_matrix
from ablate.analysis.tables.notes import describe_stability, how_to_read, name_metrics
from ablate.analysis.tables.options import TableOptions, check_metrics
from ablate.analysis.tables.rows import Arm, arrange
from ablate.analysis.tables.searched import NO_CLAIMS, SearchResult, ranked, summarise_search, withhold
from ablate.analysis.tables.table import Table
from ablate.analysis.typeset.cells import Layout, Sentence
from ablate.plan.labels import Names
from ablate.plan.plan import Plan
from ablate.plan.planned import judged_by
from ablate.plan.treatments import Treatment
from ablate.plan.trials import Trial
from ablate.slots import registry
from ablate.slots.settings import Metric
from ablate.store.folders import Store
from ablate.study.study import Study
from ablate.study.titles import title_of

if TYPE_CHECKING:
    import pandas as pd

DEFAULT_OPTIONS = TableOptions()


def build_table(
    plan: Plan,
    metrics: Sequence[str] | None = None,
    paper: str | None = None,
    *,
    raw: bool = False,
    unpaired: bool = False,
    moderated: bool | None = None,
    options: TableOptions = DEFAULT_OPTIONS,
    frame: "pd.DataFrame | None" = None,
) -> Table:
    """Compare each treatment of a study with its reference, from the trials that have finished so far.

    `metrics` are the columns, in order. By default the table shows the primary metric and the first metric of each
    probe, and `csv` and `json` hold all metrics. Claims are judged of `paper`, or else of the paper that the study
    names, if any. `raw`: metrics of the weights as the optimiser left them. `unpaired`: comparisons by Dunnett's test,
    as if no seed were shared. `moderated`: moderated variances, or Student's t; by default moderated where there are
    enough seeds and rows. `frame`: the records of the plan (`frame_of`), if they have been read already. Raises
    ValueError for a metric that no probe reports, an unknown paper, and options that do not fit the study.
    """
    study = plan.study
    source = papers.load(name) if (name := paper or study.paper) else None
    check_metrics(metrics or (), study.metrics)

    # Effects of all treatments.
    if frame is None:
        frame = frame_of(plan, raw=raw)
    treatments = {row.label: row for row in plan.treatments}
    references = {label: row.reference for label, row in treatments.items() if row.reference}
    judged = judged_by(study, plan.treatments)
    analysis = analyse(frame, study.metrics, judged, references, study.seed_bounds, moderated=moderated)
    mixed, outdated = likeness.warnings(frame, plan)
    unlike = likeness.unlike(plan.treatments, Names(study))
    analysis = replace(analysis, warnings=(*filter(None, [mixed or outdated, unlike]), *analysis.warnings))

    # Studies and options that call for other comparisons.
    if unpaired:
        _check_unpaired(study, references, moderated=moderated)
        arms_of = all_by_seed(frame, study.metrics)
        analysis = unpair(analysis, study.metrics, arms_of, find_troubles(frame, references))
    search_result = summarise_search(plan, study.search) if study.search else None
    if study.search:
        analysis = withhold(analysis)
        treatments = {label: treatments[label] for label in ranked(study.search, analysis.effects, list(treatments))}

    # The main table.
    counts = count_statuses(frame)
    arms = tuple(
        Arm(treatments[label], counts[label], analysis.effects[label], judged.get(label, study.primary))
        for label in treatments
    )
    layout = _lay_out(study, arms, analysis, frame, metrics, search_result, options, raw=raw, unpaired=unpaired)
    names = tuple(metrics or study.metrics)
    table = Table(study, arms, analysis, names, layout, search_result=search_result, mixed=mixed)

    # Main effects, comparisons, ranking and claims.
    terms: list[Comparison] = []
    if is_factorial(study):
        table, terms = _with_factors(table, frame, metrics or (), options)
    if study.search:
        notes = (*table.layout.notes, *(((NO_CLAIMS,),) if source else ()))
        return replace(table, layout=replace(table.layout, notes=notes))
    comparisons = terms or compare_rows(study, arms)
    values = all_by_seed(frame, [one.metric.name for one in comparisons])
    noises = {} if unpaired else measure_open(comparisons, values, analysis, references)
    table = replace(table, comparisons=tuple(comparisons), open_noises=noises)
    table = _with_asides(table, plan.trials, plan.store, by_seed(frame, study.primary), metrics or ())
    return _with_claims(table, source, list(treatments.values()), frame) if source else table


def _with_claims(table: Table, source: papers.Paper, treatments: list[Treatment], frame: "pd.DataFrame") -> Table:
    """The table with a paper's claims judged."""
    claims = judge(source.claims, table.study, treatments, frame)
    return replace(table, claims=claims, claims_layout=arrange_claims(table.study, source, claims), paper=source.name)


def _check_unpaired(study: Study, references: Mapping[str, str], *, moderated: bool | None) -> None:
    """Raise ValueError if Dunnett's test does not fit the study."""
    if study.search or study.seed_bounds or set(references.values()) - {"baseline"}:
        raise ValueError(
            "unpaired comparisons need a study that compares every treatment with the baseline and whose seeds do "
            "not depend on results"
        )
    if study.primary_of:
        raise ValueError(
            "unpaired comparisons hold for all treatments of one metric at once, and 'primary' of the study names "
            f"several: {', '.join(sorted({*study.primary_of.values(), study.primary}))}"
        )
    if moderated:
        raise ValueError("moderated t: variances are pooled in unpaired comparisons, so there are none to moderate")


def _lay_out(
    study: Study,
    arms: Sequence[Arm],
    analysis: Analysis,
    frame: "pd.DataFrame",
    names: Sequence[str] | None,
    search_result: SearchResult | None,
    options: TableOptions,
    *,
    raw: bool,
    unpaired: bool,
) -> Layout:
    """The main table, arranged by the options. Raises ValueError for options that do not fit the study."""
    # The metrics that are shown.
    matrix = options.layout == "matrix"
    shown = [options.metric(study.metrics[name]) for name in names or default_metrics(study)]
    if matrix:
        shown = shown if names else [options.metric(study.metrics[study.primary])]
        if len(shown) > 1:
            raise ValueError(f"layout 'matrix' shows one metric, not {len(shown)}")
    if search_result and options.bold == "indistinct":
        raise ValueError("bold 'indistinct' is a test, and the treatments of a search are not tested; use 'best'")
    if unpaired and options.bold == "indistinct":
        raise ValueError("bold 'indistinct' is a paired test, so it does not go with unpaired comparisons; use 'best'")

    # Columns and rows.
    ranks = {metric.name: _ranks(study, metric, arms, frame, options) for metric in shown}
    if matrix:
        columns, groups = arrange_matrix(study, arms, shown[0], ranks[shown[0].name])
    else:
        components = options.layout == "components"
        columns, groups = arrange(study, arms, shown, ranks, search_result, components=components)

    # Notes.
    values = comparable(study.metrics[study.primary], by_seed(frame, study.primary))
    total = _total(study, arms, values, analysis.moderation.get(study.primary))
    best = options.bold == "best"
    notes = how_to_read(
        study, arms, shown, analysis, total, search_result, raw=raw, unpaired=unpaired, indistinct=not best
    )
    return Layout(
        options.label or study.name, study.name, " ".join(study.question.split()), columns, groups, notes,
        analysis.warnings, options.caption, best, asides=tuple(name_metrics(columns)),
    )  # fmt: skip


def _ranks(
    study: Study, metric: Metric, arms: Sequence[Arm], frame: "pd.DataFrame", options: TableOptions
) -> list[int]:
    """The rank of each treatment's mean, see `ranks`; treatments with diverged or failed trials are not ranked."""
    ranked = [not arm.trouble for arm in arms]
    if options.bold == "best":
        means = [arm.effects[metric.name].mean if good else math.nan for arm, good in zip(arms, ranked, strict=True)]
        return rank(metric, means)
    values = by_seed(frame, metric.name)
    kept = [values[arm.treatment.label] if good else {} for arm, good in zip(arms, ranked, strict=True)]
    corrected = metric.name == study.primary and not study.primary_of
    return indistinct(metric, kept, study.seed_bounds, corrected=corrected)


def _with_asides(table: Table, trials: Sequence[Trial], store: Store, arms: Arms, requested: Sequence[str]) -> Table:
    """The table with notes on the stability of its ranking and on the Pareto front of the requested metrics."""
    shown = Names(table.study)
    asides: list[Sentence] = list(table.layout.asides)
    metric = table.study.metrics[table.study.primary]
    ranking = stability(metric, arms, trials, store)
    if ranking:
        asides.append(describe_stability(metric, ranking, shown))

    goals = [table.study.metrics[name] for name in requested if table.study.metrics[name].direction != "none"]
    ranked = [arm for arm in table.arms if not arm.trouble]
    means = {arm.treatment.label: [arm.effects[goal.name].mean for goal in goals] for arm in ranked}
    points = {label: point for label, point in means.items() if all(map(math.isfinite, point))}
    best = front(points, goals) if len(goals) > 1 and points else []
    if best:
        names = ", ".join(map(title_of, goals))
        asides.append((f"Pareto front of the means in {names}: {', '.join(map(shown.treatment, best))}.",))
    layout = replace(table.layout, asides=tuple(asides))
    return replace(table, layout=layout, stability=ranking, front=tuple(best))


def _with_factors(
    table: Table, frame: "pd.DataFrame", requested: Sequence[str], options: TableOptions
) -> tuple[Table, list[Comparison]]:
    """The table of a factorial study with main effects and interactions, and those on the lead metrics.

    They are shown of the requested metrics or, if there are none, of those that treatments are judged by.
    """
    # All planned tests are corrected together, whichever are shown.
    study = table.study
    treatments = crossed(study, [arm.treatment for arm in table.arms])
    planned = list(dict.fromkeys([study.primary, *study.primary_of.values()]))
    shown = list(requested) or planned
    arms = {
        name: comparable(study.metrics[name], values)
        for name, values in all_by_seed(frame, dict.fromkeys([*planned, *shown, *lead_metrics(study)])).items()
    }
    obstacles = {name: reason for name, values in arms.items() if (reason := obstacle(study, treatments, values))}
    results = {name: decompose_study(study, treatments, arms[name]) for name in arms if name not in obstacles}
    status_of = {arm.treatment.label: arm.trouble for arm in table.arms}
    troubles = [
        f"{Names(study).treatment(row.label)} {status_of[row.label]}" for row in treatments if status_of[row.label]
    ]
    if troubles:
        results = {name: untested(result) for name, result in results.items()}
    results = correct(study, results)
    decompositions = {name: results[name] for name in shown if name in results}
    layouts = tuple(
        arrange_factorial(
            study,
            treatments,
            options.metric(study.metrics[name]),
            decomposition,
            label=options.label or study.name,
            planned=sum(not math.isnan(term.p_holm) for result in results.values() for term in result.terms),
            troubles=troubles,
        )
        for name, decomposition in decompositions.items()
    )
    obstacles = {name: obstacles[name] for name in shown if name in obstacles}

    # Metrics with the same obstacle share a note.
    names_of: dict[str, list[str]] = {}
    for name, reason in obstacles.items():
        names_of.setdefault(reason, []).append(name)
    missing = tuple(
        (f"No main effects in {', '.join(title_of(study.metrics[name]) for name in names)}: {reason}.",)
        for reason, names in names_of.items()
    )
    layout = replace(table.layout, notes=(*table.layout.notes, *missing))
    table = replace(table, layout=layout, factorial=decompositions, factorial_layouts=layouts)
    return table, compare_terms(study, results)


def default_metrics(study: Study) -> list[str]:
    """The metrics that fit on a page: those of a search, the primary ones, and the first metric of each probe.

    Where each factor has a primary metric of its own, these fill the page alone.
    """
    searched = study.search.metrics if study.search else []
    probes = [] if study.primary_of else study.probes
    first = [registry.level("probe", probe.level).metrics[0].name for probe in probes]
    return list(dict.fromkeys([*searched, study.primary, *study.primary_of.values(), *first]))


def _total(study: Study, arms: Sequence[Arm], values: Arms, moderation: Moderation | None) -> Change | None:
    """The change of the primary metric from the baseline to the last rung of a ladder; None if there is no ladder.

    Of survivors of diverged or failed trials, it is the mean change alone.
    """
    factors = len(study.factors)
    last = [arm for arm in arms if arm.treatment.design == "ladder" and len(arm.treatment.changed) == factors]
    if not last or factors < 2:
        return None
    change = difference(values[last[0].treatment.label], values["baseline"], study.seed_bounds, moderation)
    return Change(change.n, change.mean) if last[0].trouble or arms[0].trouble else change
