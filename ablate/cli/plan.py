"""`ablate plan`."""

from typing import Annotated, Any

import typer

from ablate.cli.options import (
    STORE,
    Components,
    Json,
    MaxHours,
    MaxTrials,
    Scale,
    Set,
    StoreOption,
    StudyName,
    fail,
    screen,
    validated,
)
from ablate.cli.output import emit, page
from ablate.plan.plan import Plan
from ablate.store.folders import Store


def plan(
    study: StudyName,
    scale: Scale = None,
    set_: Set = None,
    components: Components = None,
    store: StoreOption = STORE,
    measure: Annotated[
        bool, typer.Option("--measure", help="Measure the cost by a few real steps and probes of each kind.")
    ] = False,
    max_hours: MaxHours = None,
    max_trials: MaxTrials = None,
    as_json: Json = False,
) -> None:
    """List treatments, stages, pending trials and their cost. Starts nothing."""
    from ablate.adaptive.recall import plan_study
    from ablate.analysis.tables.foresight import foresee
    from ablate.driver.disk import DiskNeed, describe_need
    from ablate.driver.plan_text import print_plan

    found = plan_study(validated(study, scale, set_, store), Store(store))
    summary = plan_within(found, max_hours, max_trials, measure=measure)
    if as_json:
        emit({**summary, "power": {name: noise.numbers() for name, noise in foresee(found).items()}})
    else:
        print_plan(found, summary, page())
        if summary["disk"] and summary["pending"]:
            print(describe_need(DiskNeed.of(summary["disk"]), found.study.keep, summary["disk"]["free"]))  # noqa: T201


def plan_within(
    plan: Plan, hours: float | None, trials: int | None, *, measure: bool, threads: int = 1, redo: bool = False
) -> dict[str, Any]:
    """The summary of a plan; with a bound on its hours, measured where no trial tells how long one takes.

    Raises Exit, having said why, where it is above a bound.
    """
    from ablate.driver import overview

    summary = overview.summarise(plan, redo=redo)
    if measure or (hours is not None and summary["estimate_s"] is None):
        summary = overview.summarise_measured(plan, threads, screen.print, redo=redo)
    found = (summary["estimate_s"] or 0) / 3600
    said = []
    if trials is not None and summary["pending"] > trials:
        said.append(f"{summary['pending']} trials are pending, more than --max-trials {trials}")
    if hours is not None and found > hours:
        said.append(f"what is pending takes about {found:.3g} hours of one worker, more than --max-hours {hours:g}")
    if said:
        said.append("raise the bound, or run less, for instance with --set seeds=1")
        fail("; ".join(said))
    return summary
