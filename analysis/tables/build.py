"""Build the ablation table of a study from its trials."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from ablate.analysis import papers
from ablate.analysis.records.frame import frame_of
from ablate.analysis.statistics.dunnett import unpair
from ablate.analysis.statistics.effects import Analysis, Arms, Change, analyse, by_seed, difference
from ablate.analysis.statistics.factorial import crossed, decompose_study, is_factorial, obstacle
from ablate.analysis.statistics.judgements import judge
from ablate.analysis.statistics.ranks import front, indistinct, rank
from ablate.analysis.statistics.stability import stability
from ablate.analysis.tables.claims import arrange_claims
from ablate.analysis.tables.factorial import arrange_factorial
from ablate.analysis.tables.matrix import arrange_matrix
from ablate.analysis.tables.notes import describe_stability, how_to_read
from ablate.analysis.tables.options import TableOptions, check_metrics
from ablate.analysis.tables.rows import Arm, arrange
from ablate.analysis.tables.searched import NO_CLAIMS, SearchResult, ranked, summarise_search, withhold
from ablate.analysis.tables.table import Table
from ablate.analysis.typeset.cells import Layout, Sentence
from ablate.plan.plan import Plan
from ablate.plan.treatments import Treatment
from ablate.plan.trials import Trial
from ablate.slots import registry
from ablate.slots.settings import Metric
from ablate.store.folders import Store
from ablate.study.study import Study

if TYPE_CHECKING:
    import pandas as pd

DEFAULT_OPTIONS = TableOptions()


RERUN = "to run these trials again with the present code: ablate sweep --rerun stale"


def build_table(
    plan: Plan,
    metrics: Sequence[str] | None = None,
    paper: str | None = None,
    *,
    raw: bool = False,
    unpaired: bool = False,
    options: TableOptions = DEFAULT_OPTIONS,
    frame: "pd.DataFrame | None" = None,
) -> Table:
    """Compare each treatment of a study with its reference, from the trials that have finished so far.

    `metrics` are the columns, in order. By default the table shows the primary metric and the first metric of each
    probe, and `csv` and `json` hold all metrics. Claims are judged of `paper`, or else of the paper that the study
    names, if any. `raw`: metrics of the weights as the optimiser left them. `unpaired`: comparisons by Dunnett's test,
    as if no seed were shared. `frame`: the records of the plan (`frame_of`), if they have been read already. Raises
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
    analysis = analyse(frame, study.metrics, study.primary, references, study.seed_bounds)
    mixed, outdated = _code_warnings(frame)
    if mixed or outdated:
        analysis = replace(analysis, warnings=(mixed or outdated, *analysis.warnings))

    # Studies and options that call for other comparisons.
    if unpaired:
        if study.search or study.seed_bounds or set(references.values()) - {"baseline"}:
            raise ValueError(
                "unpaired comparisons need a study that compares every treatment with the baseline and whose seeds do "
                "not depend on results"
            )
        arms_of = {name: by_seed(frame, name) for name in study.metrics}
        analysis = unpair(analysis, study.metrics, arms_of, study.primary)
    search_result = summarise_search(plan, study.search) if study.search else None
    if study.search:
        analysis = withhold(analysis)
        treatments = {label: treatments[label] for label in ranked(study.search, analysis.effects, list(treatments))}

    # The main table.
    counts = {label: Counter(statuses) for label, statuses in frame.groupby("treatment")["status"]}
    arms = tuple(Arm(treatments[label], counts[label], analysis.effects[label]) for label in treatments)
    layout = _lay_out(study, arms, analysis, frame, metrics, search_result, options, raw=raw, unpaired=unpaired)
    names = tuple(metrics or study.metrics)
    table = Table(study, arms, analysis, names, layout, search_result=search_result, mixed=mixed)

    # Main effects, ranking and claims.
    if is_factorial(study):
        table = _with_factors(table, {name: by_seed(frame, name) for name in metrics or [study.primary]}, options)
    if not study.search:
        table = _with_asides(table, plan.trials, plan.store, by_seed(frame, study.primary), metrics or ())
    if source is None:
        return table
    if study.search:
        return replace(table, layout=replace(table.layout, notes=(*table.layout.notes, (NO_CLAIMS,))))
    claims = judge(source.claims, study, list(treatments.values()), frame)
    return replace(table, claims=claims, claims_layout=arrange_claims(study, source, claims), paper=source.name)


def _code_warnings(frame: "pd.DataFrame") -> tuple[str, str]:
    """Two warnings, empty if they do not apply: trials were made by different code; the code has changed since."""
    fingerprints_of: dict[str, set[str]] = {}
    for components in frame["code"]:
        for name, fingerprint in components.items():
            fingerprints_of.setdefault(name, set()).add(fingerprint)
    mixed = sorted(name for name, fingerprints in fingerprints_of.items() if len(fingerprints) > 1)
    first = {name: next(iter(fingerprints)) for name, fingerprints in fingerprints_of.items()}
    outdated = sorted(registry.changed(first))
    return (
        f"the trials were made by different versions of the code of {', '.join(mixed)}; {RERUN}" if mixed else "",
        f"the code of {', '.join(sorted(outdated))} has changed since the trials were made; {RERUN}"
        if outdated
        else "",
    )


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
    total = _total(study, [arm.treatment for arm in arms], by_seed(frame, study.primary))
    best = options.bold == "best"
    notes = how_to_read(
        study, arms, shown, analysis, total, search_result, raw=raw, unpaired=unpaired, indistinct=not best
    )
    return Layout(
        options.label or study.name, study.name, " ".join(study.question.split()), columns, groups, notes,
        analysis.warnings, options.caption, best,
    )  # fmt: skip


def _ranks(
    study: Study, metric: Metric, arms: Sequence[Arm], frame: "pd.DataFrame", options: TableOptions
) -> list[int]:
    """The rank of each treatment's mean, see `ranks`; treatments with diverged trials are not ranked."""
    ranked = ["diverged" not in arm.status for arm in arms]
    if options.bold == "best":
        means = [arm.effects[metric.name].mean if good else math.nan for arm, good in zip(arms, ranked, strict=True)]
        return rank(metric, means)
    values = by_seed(frame, metric.name)
    kept = [values[arm.treatment.label] if good else {} for arm, good in zip(arms, ranked, strict=True)]
    return indistinct(metric, kept, study.seed_bounds, corrected=metric.name == study.primary)


def _with_asides(table: Table, trials: Sequence[Trial], store: Store, arms: Arms, requested: Sequence[str]) -> Table:
    """The table with notes on the stability of its ranking and on the Pareto front of the requested metrics."""
    asides: list[Sentence] = []
    metric = table.study.metrics[table.study.primary]
    ranking = stability(metric, arms, trials, store)
    if ranking:
        asides.append(describe_stability(metric, ranking))

    goals = [table.study.metrics[name] for name in requested if table.study.metrics[name].direction != "none"]
    means = {arm.treatment.label: [arm.effects[goal.name].mean for goal in goals] for arm in table.arms}
    points = {label: point for label, point in means.items() if all(map(math.isfinite, point))}
    best = front(points, goals) if len(goals) > 1 and points else []
    if best:
        names = ", ".join(goal.name for goal in goals)
        asides.append((f"Pareto front of the means in {names}: {', '.join(best)}.",))
    layout = replace(table.layout, asides=tuple(asides))
    return replace(table, layout=layout, stability=ranking, front=tuple(best))


def _with_factors(table: Table, arms: Mapping[str, Arms], options: TableOptions) -> Table:
    """The table of a factorial study with the main effects and interactions on these metrics."""
    study = table.study
    treatments = crossed(study, [arm.treatment for arm in table.arms])
    obstacles = {name: reason for name, values in arms.items() if (reason := obstacle(study, treatments, values))}
    decompositions = {
        name: decompose_study(study, treatments, values, primary=name == study.primary)
        for name, values in arms.items()
        if name not in obstacles
    }
    layouts = tuple(
        arrange_factorial(
            study,
            treatments,
            options.metric(study.metrics[name]),
            decomposition,
            label=options.label or study.name,
            primary=name == study.primary,
        )
        for name, decomposition in decompositions.items()
    )

    # Metrics with the same obstacle share a note.
    names_of: dict[str, list[str]] = {}
    for name, reason in obstacles.items():
        names_of.setdefault(reason, []).append(name)
    missing = tuple((f"No main effects in {', '.join(names)}: {reason}.",) for reason, names in names_of.items())
    layout = replace(table.layout, notes=(*table.layout.notes, *missing))
    return replace(table, layout=layout, factorial=decompositions, factorial_layouts=layouts)


def default_metrics(study: Study) -> list[str]:
    """The metrics that fit on a page: those of a search, the primary metric, and the first metric of each probe."""
    searched = study.search.metrics if study.search else []
    first = [registry.level("probe", probe.level).metrics[0].name for probe in study.probes]
    return list(dict.fromkeys([*searched, study.primary, *first]))


def _total(study: Study, treatments: Iterable[Treatment], arms: Arms) -> Change | None:
    """The change of the primary metric from the baseline to the last rung of a ladder; None if there is no ladder."""
    last = [row.label for row in treatments if row.design == "ladder" and len(row.changed) == len(study.factors)]
    return difference(arms[last[0]], arms["baseline"], study.seed_bounds) if last and len(study.factors) > 1 else None
