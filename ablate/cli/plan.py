"""`ablate plan`."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from ablate.adaptive.search import to_come
from ablate.cli.options import STORE, Json, MaxHours, MaxTrials, Scale, Set, StoreOption, StudyFile, screen, validated
from ablate.cli.output import emit, page
from ablate.driver.overview import gc_paused
from ablate.driver.progress import duration
from ablate.plan.estimable import contrasts
from ablate.plan.labels import show as show_level
from ablate.plan.treatments import ends
from ablate.schedule.resources import gpu_memory
from ablate.slots.settings import Metric
from ablate.store.folders import Store
from ablate.study.factors import Factor
from ablate.study.pruning import Pruning
from ablate.study.search import Search
from ablate.study.study import Study
from ablate.study.tuning import Tuning


def plan(
    study: StudyFile,
    scale: Scale = None,
    set_: Set = None,
    store: StoreOption = STORE,
    measure: Annotated[
        bool, typer.Option("--measure", help="Make a few real steps of each kind and examine the outcome.")
    ] = False,
    max_hours: MaxHours = None,
    max_trials: MaxTrials = None,
    as_json: Json = False,
) -> None:
    """List treatments, stages, what is pending and what it costs. Starts nothing."""

    found = validated(str(study), scale, set_, store)
    summary = plan_within(found, store, max_hours, max_trials, measure=measure)
    emit(summary) if as_json else print_plan(found, summary, page())


SHOWN = 30, 5
"""Treatments that a plan lists: the first and the last."""


@gc_paused()
def print_plan(study: Study, summary: dict[str, Any], out: Console) -> None:
    """The plan for people: treatments, what the design can tell, cost."""
    out.print(f"{study.name}: {study.question}", soft_wrap=True)
    out.print(
        f"scale {study.scale} ({study.scale_reason}) · design {' + '.join(study.designs)} · "
        f"seeds {list(study.seeds)}{_at_first(study)}\n",
        soft_wrap=True,
    )
    _print_treatments(study, out)
    if study.search:
        out.print("\n" + "\n".join(_describe_search(study, study.search)), soft_wrap=True)
    if study.pruning:
        out.print("\n" + _describe_pruning(study, study.pruning), soft_wrap=True)
    if study.tuning:
        out.print("\n" + _describe_tuning(study, study.tuning), soft_wrap=True)
    out.print("\ncan estimate: " + ("\n" + " " * 14).join(contrasts(study)), soft_wrap=True)
    out.print(
        f"{summary['trials']} trials, {summary['pending']} pending · {summary['distinct_steps']} distinct steps of "
        f"{summary['planned_steps']} planned in {summary['stages']} stages"
    )
    shared = [f"'{stage}' {n['runs']} × for {n['trials']} trials" for stage, n in summary["shared"].items()]
    if shared:
        out.print(f"shared: {', '.join(shared)}", soft_wrap=True)
    estimate = summary["estimate_s"]
    if estimate is None:
        out.print("cost: known after the first trial, or with --measure")
        return
    sizes = ("memory_bytes", "of memory a worker"), ("disk_bytes", "of checkpoints")
    more = [f" · {summary[key] / 1e9:.2g} GB {what}" for key, what in sizes if summary[key] is not None]
    out.print(f"about {duration(estimate)} of one worker{''.join(more)}")
    if share := summary.get("gpus_per_trial"):
        out.print(f"{round(1 / share)} at once fit on a GPU: ablate sweep --gpus-per-trial {share:.3g}")


def _describe_search(study: Study, search: Search) -> list[str]:
    """What is searched: the budget, the aims, the space."""
    tried, more = len(study.searched) + 1, to_come(study)
    aims = [f"{goal.name} {_aim(goal)}" for goal in search.objectives]
    limits = f" within {', '.join(map(str, search.limits))}" if search.limits else ""
    lines = [
        f"search: {search.sampler}, {tried} of at most {tried + more} treatments suggested, which depend on results"
    ]
    lines.append(f"  for {', '.join(aims)}{limits}")
    return [*lines, *(f"  {factor.path}: {_space(factor)}" for factor in study.factors)]


def _space(factor: Factor) -> str:
    """`norm, scn`; `1e-08 to 1 on a log scale`."""
    if span := factor.range:
        return f"{show_level(span.low)} to {show_level(span.high)}{' on a log scale' if span.log else ''}"
    return ", ".join(map(show_level, factor.choices))


def _at_first(study: Study) -> str:
    return f", the first {study.seed_bounds[0]} and more where needed" if study.seed_bounds else ""


def _describe_pruning(study: Study, pruning: Pruning) -> str:
    """By which rule treatments are stopped, and where."""
    return (
        f"pruned by {pruning.rule} on {pruning.column} with seed {study.seeds[0]} at {pruning.where}; "
        f"{len(study.pruned)} treatments stopped so far"
    )


def _describe_tuning(study: Study, tuning: Tuning) -> str:
    """What is tuned for each treatment, at which budget."""
    spaces = ", ".join(f"{factor.path} ({_space(factor)})" for factor in tuning.factors)
    return (
        f"tuned for each treatment: {spaces} by {tuning.sampler} for {study.primary}, {tuning.trials} settings × seeds "
        f"{list(tuning.seeds)} each; {len(study.tuned)} treatments tuned so far"
    )


def _aim(goal: Metric) -> str:
    return {"up": "high", "down": "low"}.get(goal.direction, f"near {goal.target:g}")


def _print_treatments(study: Study, out: Console) -> None:
    """A row per treatment; of many, the first and the last."""
    first, last, between = ends(study, *SHOWN)
    # Where all is measured against the baseline, a column that says so would only take room.
    several = any(treatment.reference not in {None, "baseline"} for treatment in [*first, *last])
    rows = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    for heading in ("treatment", *(["against"] if several else []), *(factor.path for factor in study.factors)):
        rows.add_column(heading)
    for treatment in [*first, *last]:
        if between and treatment is last[0]:
            rows.add_row(f"… {between:,} more …")
        base, changed = treatment.is_baseline, treatment.changed
        name = treatment.label + (f" ({', '.join(treatment.aliases)})" if treatment.aliases else "")
        against = [treatment.reference or ""] if several else []
        levels = treatment.levels.items()
        cells = [show_level(level) if base or path in changed or level is None else "·" for path, level in levels]
        rows.add_row(name, *against, *cells)
    out.print(rows)


def plan_within(
    study: Any,
    store: Path,
    hours: float | None,
    trials: int | None,
    *,
    measure: bool,
    threads: int = 1,
    redo: bool = False,
) -> dict[str, Any]:
    """The plan of a study; with a bound on its hours, measured where no trial tells how long one takes.

    Raises Exit, having said why, where it is above a bound.
    """
    from ablate.driver import overview

    place = Store(store)
    summary = overview.plan(study, place, redo=redo)
    if measure or (hours is not None and summary["estimate_s"] is None):
        from ablate.adaptive.tuning import known_trials
        from ablate.driver.preflight import prepare_data
        from ablate.engine.measure import measure as run
        from ablate.plan.cost import gpu_share

        prepare_data(study, known_trials(study, place), place)
        summary = overview.plan(study, place, lambda kinds: run(kinds, place, threads, screen.print), redo=redo)
        if gpu := gpu_memory():
            summary["gpus_per_trial"] = gpu_share(summary["memory_bytes"], gpu)
    found = (summary["estimate_s"] or 0) / 3600
    said = []
    if trials is not None and summary["pending"] > trials:
        said.append(f"{summary['pending']} trials are pending, more than --max-trials {trials}")
    if hours is not None and found > hours:
        said.append(f"what is pending takes about {found:.3g} hours of one worker, more than --max-hours {hours:g}")
    if said:
        screen.print("; ".join(said), style="red", soft_wrap=True)
        raise typer.Exit(2)
    return summary
