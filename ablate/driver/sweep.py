"""Runs a sweep: run, record and mirror the pending trials, then write the tables and the report."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from ablate.adaptive.pruning import Pruner
from ablate.adaptive.recall import plan_study
from ablate.adaptive.search import SearchSource, one_trial_per_level
from ablate.adaptive.tuning import TuningSource, future_trials
from ablate.driver.disk import why_short
from ablate.driver.keep import Keeper
from ablate.driver.mend import mend
from ablate.driver.models import fits
from ablate.driver.only import only_driver
from ablate.driver.outputs import close_mirror, open_mirror, write_results
from ablate.driver.preflight import prepare_data
from ablate.driver.progress import ProgressDisplay
from ablate.driver.seeds import add_seeds
from ablate.driver.studies import check_name, write_card
from ablate.errors import StoreError
from ablate.plan.commands import sweep_command
from ablate.plan.plan import Plan
from ablate.plan.stale import set_aside
from ablate.plan.trials import Trial, pending
from ablate.schedule.agenda import Event, Source
from ablate.schedule.inline import run_inline
from ablate.schedule.ray_cluster import find_cluster, session_root
from ablate.schedule.ray_tune import run_ray
from ablate.schedule.resources import Resources
from ablate.store.folders import Store
from ablate.study.study import Study

if TYPE_CHECKING:
    from ablate.analysis.tables.table import Table
    from ablate.track.mirror import Mirror, NoMirror

MIRROR_INTERVAL_S = 10.0
"""Seconds between two updates of a running trial's step metrics in MLflow."""


@dataclass(frozen=True)
class SweepResult:
    """The result of a sweep.

    `files`: format -> file with the table or report. `ran`: the number of trials that were run. `failed`: name of a
    failed trial -> reason. `links`: name of a view in MLflow -> URL.
    """

    table: "Table"
    files: dict[str, Path]
    ran: int
    failed: dict[str, str]
    links: dict[str, str]


def sweep(
    study: Study,
    store: Store,
    resources: Resources,
    uri: str,
    screen: Console,
    *,
    inline: bool,
    redo: bool = False,
    notebook: bool = False,
) -> SweepResult:
    """Run the trials of a validated study whose results the store lacks.

    Raises StudyError, StoreError or ClusterError before anything starts.

    `redo`: also run stale trials again. `notebook`: show a progress bar that a notebook can show. While another process
    sweeps the same study at the same scale, this one waits.
    """
    store.check()
    if resources.address and not inline:
        find_cluster(resources.address)
    elif not inline:
        session_root()
    with only_driver(study, store, screen):
        return _sweep(study, store, resources, uri, screen, inline=inline, redo=redo, notebook=notebook)


def _sweep(
    study: Study,
    store: Store,
    resources: Resources,
    uri: str,
    screen: Console,
    *,
    inline: bool,
    redo: bool,
    notebook: bool,
) -> SweepResult:
    """Run the trials, as the study's only driver."""
    # Plan, and check everything that can be checked before anything runs
    plan = add_seeds(plan_study(study, store))
    if mend(plan):
        plan = add_seeds(plan_study(study, store))
    if redo:
        stale = set_aside(plan.ready, store)
        message = f"{len(stale)} stale trials, whose code or data have changed since, are run again"
        message += f"; what is trained anew was moved to {store.root / 'stale'}" if stale else ""
        screen.print(message, soft_wrap=True)
        plan = add_seeds(plan_study(study, store))
    tell_stale(plan, screen)
    source = trial_source(plan)
    more = future_trials(plan)
    check_name(study, store)
    samples = plan.pending + (one_trial_per_level(study) if more else [])
    for note in prepare_data(study, samples, store):
        screen.print(f"data: {note}", soft_wrap=True)
    write_card(plan)
    announce(plan, more, screen)
    if short := why_short(plan, resources, inline=inline):
        screen.print(short, style="yellow", soft_wrap=True)

    # Run, as long as results add trials
    mirror = open_mirror(plan, uri, runs=bool(plan.pending or source))
    known = {trial.signature for trial in plan.ready} | store.stage_signatures()
    ran = len(plan.pending)
    primary = study.metrics[study.primary]
    progress = ProgressDisplay(plan.ready, plan.pending, store, primary, screen, more, notebook=notebook)
    with mirror, progress, Keeper(plan) as keeper:
        run = run_inline if inline else run_ray
        notify = event_handler(mirror, progress, keeper.ended)
        todo = plan.pending
        while todo or source:
            pruner = Pruner(plan, study.pruning) if study.pruning else None
            run(todo, store, resources, notify, source, pruner)
            if not study.is_adaptive:
                break
            source = None
            plan = plan_study(study, store)
            before = {trial.signature for trial in plan.ready}
            plan = add_seeds(plan)
            todo = [trial for trial in pending(plan.ready, store) if trial.signature not in before]
            for trial in todo:
                notify(Event("suggested", trial))

    # Write the tables, the report and the mirror
    if study.is_adaptive:
        write_card(plan)
    table, files = write_results(plan)
    failed = {trial.name: store.stage(trial.signature).failure() for trial in pending(plan.ready, store)}
    links = close_mirror(mirror, plan, table, files, uri)
    ran += sum(trial.signature not in known for trial in plan.ready) - len(progress.elsewhere)
    return SweepResult(table, files, ran, failed, links)


def trial_source(plan: Plan) -> Source | None:
    """The search or tuning that suggests further trials as others end; None if all trials are known."""
    source: TuningSource | SearchSource | None = None
    if plan.study.tuning:
        source = TuningSource(plan)
    elif plan.study.search:
        source = SearchSource(plan, fits)
    return source if source and source.left else None


def tell_stale(plan: Plan, screen: Console) -> None:
    """Say which finished trials are stale.

    Raises StoreError if trials would go on from what was made of other data: their numbers would be of neither.
    """
    again = f"to run these trials again: {sweep_command(plan.study, plan.store, '--rerun', 'stale')}"
    changes = ", ".join(plan.stale.changes)
    if begun := plan.stale.begun:
        raise StoreError(
            f"{len(begun)} trials, such as '{begun[0].name}', would go on from what was made before the data changed: "
            f"{changes}; put the files back as they were, or {again}"
        )
    if finished := plan.stale.finished:
        screen.print(f"{len(finished)} finished trials are stale: {changes} changed since; {again}", soft_wrap=True)


def announce(plan: Plan, more: int, screen: Console) -> None:
    """Print one line on what is about to run.

    `more`: the largest number of trials that a search or tuning may still add.
    """
    study = plan.study
    planned = sum(trial.steps for trial in plan.ready)
    distinct = sum(node.steps for node in plan.nodes)
    steps = f"{planned} steps" if planned == distinct else f"{distinct} distinct steps of {planned} planned"
    summary = f"{len(plan.ready)} trials ({steps}), {len(plan.pending)} to run"
    summary += f", at most {more} more that depend on their results" if more else ""
    screen.print(f"{study.name} at scale {study.scale} ({study.scale_reason}): {summary}", soft_wrap=True)


def event_handler(
    mirror: "Mirror | NoMirror", progress: ProgressDisplay, ended: Callable[[Trial], None] = lambda trial: None
) -> Callable[[Event], None]:
    """A function that mirrors each event to MLflow and shows it, and calls `ended` with each trial that has ended."""
    mirrored: dict[str, float] = {}

    def notify(event: Event) -> None:
        if event.kind == "suggested":
            mirror.add(event.trial)
        elif event.kind == "started":
            mirror.start(event.trial)
        elif event.kind == "progress":
            now = time.monotonic()
            if now - mirrored.setdefault(event.trial.signature, now) > MIRROR_INTERVAL_S:
                mirrored[event.trial.signature] = now
                mirror.follow(event.trial)
        elif event.kind not in {"interrupted", "waiting"}:
            mirror.finish(event.trial)
            ended(event.trial)
        progress.handle(event)

    return notify
