"""The ablation table of a study: from its trials to what stands where."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from ablate.analysis import papers
from ablate.analysis.records.frame import frame_of
from ablate.analysis.statistics.claims import judge
from ablate.analysis.statistics.dunnett import unpair
from ablate.analysis.statistics.effects import Analysis, Arms, Change, analyse, by_seed, difference
from ablate.analysis.statistics.factorial import crossed, decompose_study, is_factorial, obstacle
from ablate.analysis.statistics.ranks import front, indistinct, rank
from ablate.analysis.statistics.stability import stability
from ablate.analysis.tables.claims import arrange_claims
from ablate.analysis.tables.factorial import arrange_factorial
from ablate.analysis.tables.matrix import arrange_matrix
from ablate.analysis.tables.notes import describe, how_to_read
from ablate.analysis.tables.options import TableOptions, check_metrics
from ablate.analysis.tables.rows import Arm, arrange
from ablate.analysis.tables.searched import SearchResult, find, ranked, withhold
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
    """Compare each treatment of a study with its reference, as far as the trials have come.

    `metrics` are the columns, in order. Without it a reader sees the primary metric and the first of each probe, and
    `csv` and `json` hold all. The claims are those of `paper`, or of the study's own paper if it names one.
    `raw`: of the weights as the optimiser left them. `unpaired`: by Dunnett's test, as if no seed were shared.
    `frame`: the records of the plan (`frame_of`), where they have been read already. Raises ValueError for a metric
    that no probe reports, an unknown paper, and what this study cannot have.
    """
    study = plan.study
    source = papers.load(name) if (name := paper or study.paper) else None
    check_metrics(metrics or (), study.metrics)
    if frame is None:
        frame = frame_of(plan, raw=raw)
    treatments = {row.label: row for row in plan.treatments}
    references = {label: row.reference for label, row in treatments.items() if row.reference}
    analysis = analyse(frame, study.metrics, study.primary, references, study.seed_bounds)
    mixed, old = _code(frame)
    if mixed or old:
        analysis = replace(analysis, warnings=(mixed or old, *analysis.warnings))
    if unpaired:
        if study.search or study.seed_bounds or set(references.values()) - {"baseline"}:
            raise ValueError(
                "unpaired comparisons are with the baseline, of seeds that no result has chosen; this study has others"
            )
        arms_of = {name: by_seed(frame, name) for name in study.metrics}
        analysis = unpair(analysis, study.metrics, arms_of, study.primary)
    found = find(plan, study.search) if study.search else None
    if study.search:
        analysis = withhold(analysis)
        treatments = {label: treatments[label] for label in ranked(study.search, analysis.effects, list(treatments))}
    counts = {label: Counter(statuses) for label, statuses in frame.groupby("treatment")["status"]}
    arms = tuple(Arm(treatments[label], counts[label], analysis.effects[label]) for label in treatments)
    layout = _lay_out(study, arms, analysis, frame, metrics, found, options, raw=raw, unpaired=unpaired)
    table = Table(study, arms, analysis, tuple(metrics or study.metrics), layout, found=found, mixed=mixed)
    if is_factorial(study):
        table = _with_factors(table, {name: by_seed(frame, name) for name in metrics or [study.primary]}, options)
    if not study.search:
        table = _with_asides(table, plan.trials, plan.store, by_seed(frame, study.primary), metrics or ())
    if source is None:
        return table
    claims = tuple(judge(source.claims, study, list(treatments.values()), frame))
    return replace(table, claims=claims, claims_layout=arrange_claims(study, source, claims))


def _code(frame: "pd.DataFrame") -> tuple[str, str]:
    """What to say of trials that different code made, and of those that code made that has changed since."""
    known: dict[str, set[str]] = {}
    for components in frame["code"]:
        for name, fingerprint in components.items():
            known.setdefault(name, set()).add(fingerprint)
    mixed = sorted(name for name, fingerprints in known.items() if len(fingerprints) > 1)
    old = registry.changed({name: next(iter(fingerprints)) for name, fingerprints in known.items()})
    return (
        f"the trials were made by different code of {', '.join(mixed)}; {RERUN}" if mixed else "",
        f"the code of {', '.join(sorted(old))} has changed since the trials were made; {RERUN}" if old else "",
    )


def _lay_out(
    study: Study,
    arms: Sequence[Arm],
    analysis: Analysis,
    frame: "pd.DataFrame",
    names: Sequence[str] | None,
    found: SearchResult | None,
    look: TableOptions,
    *,
    raw: bool,
    unpaired: bool,
) -> Layout:
    """The main table as it is to look."""
    matrix = look.layout == "matrix"
    shown = [look.metric(study.metrics[name]) for name in names or default_metrics(study)]
    if matrix:
        shown = shown if names else [look.metric(study.metrics[study.primary])]
        if len(shown) > 1:
            raise ValueError(f"layout 'matrix' shows one metric, not {len(shown)}")
    if found and look.bold == "indistinct":
        raise ValueError("bold 'indistinct' is a test, and what a search has chosen is not tested; use 'best'")
    if unpaired and look.bold == "indistinct":
        raise ValueError("bold 'indistinct' pairs the seeds, so it does not go with an unpaired comparison")
    ranks = {metric.name: _ranks(study, metric, arms, frame, look) for metric in shown}
    if matrix:
        columns, groups = arrange_matrix(study, arms, shown[0], ranks[shown[0].name])
    else:
        columns, groups = arrange(study, arms, shown, ranks, found, components=look.layout == "components")
    total = _total(study, [arm.treatment for arm in arms], by_seed(frame, study.primary))
    ranked = look.bold == "best"
    notes = how_to_read(study, arms, shown, analysis, total, found, raw=raw, unpaired=unpaired, indistinct=not ranked)
    return Layout(
        look.label or study.name, study.name, " ".join(study.question.split()), columns, groups, notes,
        analysis.warnings, look.caption, ranked,
    )  # fmt: skip


def _ranks(study: Study, metric: Metric, arms: Sequence[Arm], frame: "pd.DataFrame", look: TableOptions) -> list[int]:
    """Which means of a metric are marked; those of treatments with diverged trials are not."""
    sound = ["diverged" not in arm.status for arm in arms]
    if look.bold == "best":
        means = [arm.effects[metric.name].mean if good else math.nan for arm, good in zip(arms, sound, strict=True)]
        return rank(metric, means)
    values = by_seed(frame, metric.name)
    kept = [values[arm.treatment.label] if good else {} for arm, good in zip(arms, sound, strict=True)]
    return indistinct(metric, kept, study.seed_bounds, corrected=metric.name == study.primary)


def _with_asides(table: Table, trials: Sequence[Trial], store: Store, arms: Arms, asked: Sequence[str]) -> Table:
    """The table with what there is to say of its ranking, and of the Pareto front of the metrics asked for."""
    metric, said = table.study.metrics[table.study.primary], list[Sentence]()
    steady = stability(metric, arms, trials, store)
    if steady:
        said.append(describe(metric, steady))
    aims = [table.study.metrics[name] for name in asked if table.study.metrics[name].direction != "none"]
    means = {arm.treatment.label: [arm.effects[aim.name].mean for aim in aims] for arm in table.arms}
    points = {label: point for label, point in means.items() if all(map(math.isfinite, point))}
    best = front(points, aims) if len(aims) > 1 and points else []
    if best:
        names = ", ".join(aim.name for aim in aims)
        said.append((f"Pareto front of the means in {names}: {', '.join(best)}.",))
    layout = replace(table.layout, asides=tuple(said))
    return replace(table, layout=layout, stability=steady, front=tuple(best))


def _with_factors(table: Table, arms: Mapping[str, Arms], look: TableOptions) -> Table:
    """The table of a factorial study with the main effects and interactions in these metrics."""
    study = table.study
    treatments = crossed(study, [arm.treatment for arm in table.arms])
    hindered = {name: why for name, values in arms.items() if (why := obstacle(study, treatments, values))}
    found = {
        name: decompose_study(study, treatments, values, primary=name == study.primary)
        for name, values in arms.items()
        if name not in hindered
    }
    layouts = tuple(
        arrange_factorial(
            study,
            treatments,
            look.metric(study.metrics[name]),
            found[name],
            label=look.label or study.name,
            primary=name == study.primary,
        )
        for name in found
    )
    reasons: dict[str, list[str]] = {}
    for name, why in hindered.items():
        reasons.setdefault(why, []).append(name)
    missing = tuple((f"No main effects in {', '.join(names)}: {why}.",) for why, names in reasons.items())
    layout = replace(table.layout, notes=(*table.layout.notes, *missing))
    return replace(table, layout=layout, factorial=found, factorial_layouts=layouts)


def default_metrics(study: Study) -> list[str]:
    """What a search looks at, the primary metric and the first of each probe: what fits a page."""
    searched = study.search.metrics if study.search else []
    first = [registry.level("probe", probe.level).metrics[0].name for probe in study.probes]
    return list(dict.fromkeys([*searched, study.primary, *first]))


def _total(study: Study, treatments: Iterable[Treatment], arms: Arms) -> Change | None:
    """The change of the primary metric from the baseline to the ladder's last rung; None where there is no ladder."""
    last = [row.label for row in treatments if row.design == "ladder" and len(row.changed) == len(study.factors)]
    return difference(arms[last[0]], arms["baseline"], study.seed_bounds) if last and len(study.factors) > 1 else None
