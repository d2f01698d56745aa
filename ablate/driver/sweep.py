"""The main job: what is pending is run, recorded and mirrored; then the tables and the report are written."""

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
from ablate.driver.outputs import close_mirror, open_mirror, write_results
from ablate.driver.preflight import fits, preflight, prepare_data, try_models
from ablate.driver.progress import ProgressDisplay
from ablate.driver.seeds import add_seeds
from ablate.driver.studies import check_name, write_card
from ablate.plan.plan import Plan
from ablate.plan.stale import set_aside
from ablate.plan.trials import pending
from ablate.schedule.agenda import Event, Source
from ablate.schedule.inline import run_inline
from ablate.schedule.ray_tune import run_ray
from ablate.schedule.resources import Resources
from ablate.store.folders import Store
from ablate.study.study import Study

if TYPE_CHECKING:
    from ablate.analysis.tables.table import Table
    from ablate.track.mirror import Mirror, NoMirror

MIRROR_INTERVAL_S = 10.0
"""How often the step metrics of a running trial are mirrored."""


@dataclass(frozen=True)
class SweepResult:
    """How a sweep ended."""

    table: "Table"
    files: dict[str, Path]
    ran: int
    failed: dict[str, str]
    links: dict[str, str]


def sweep(
    study: Study, store: Store, resources: Resources, uri: str, screen: Console, *, inline: bool, redo: bool = False
) -> SweepResult:
    """Run what the store lacks of a study. Raises StudyError or StoreError before anything starts.

    `redo`: run again, too, what other code has made.
    """
    # Plan, and check all that can be checked before anything runs.
    store.check()
    plan = add_seeds(plan_study(study, store))
    if redo:
        stale = set_aside(plan.ready, store)
        screen.print(f"{len(stale)} trials made by other code, set aside in {store.root / 'stale'}", soft_wrap=True)
        plan = add_seeds(plan_study(study, store))
    source = trial_source(plan)
    more = future_trials(plan)
    check_name(study, store)
    samples = plan.pending + (one_trial_per_level(study) if more else [])
    preflight(study, samples)
    if samples:
        if skipped := prepare_data(study, samples, store):
            screen.print(f"data: {len(skipped)} damaged files left out: {', '.join(skipped[:5])}", soft_wrap=True)
        try_models(study, samples)
    write_card(plan)
    announce(plan, more, screen)

    # Run, as long as results add trials.
    mirror = open_mirror(plan, uri, runs=bool(plan.pending or source))
    seen = {trial.signature for trial in plan.ready} | store.stage_signatures()
    ran = len(plan.pending)
    progress = ProgressDisplay(plan.ready, plan.pending, store, study.metrics[study.primary], screen, more)
    with mirror, progress:
        run = run_inline if inline else run_ray
        notify = event_handler(mirror, progress)
        todo = plan.pending
        while todo or source:
            pruner = Pruner(plan, study.pruning) if study.pruning else None
            run(todo, store, resources, notify, source, pruner)
            if not study.is_adaptive:
                break
            recalled = plan_study(study, store)
            tried = {trial.signature for trial in recalled.ready}
            plan = add_seeds(recalled)
            source = None
            todo = [trial for trial in pending(plan.ready, store) if trial.signature not in tried]
            for trial in todo:
                notify(Event("suggested", trial))

    # Tables, report and mirror.
    if study.is_adaptive:
        write_card(plan)
    table, files = write_results(plan)
    failed = {trial.name: store.stage(trial.signature).failure() for trial in pending(plan.ready, store)}
    links = close_mirror(mirror, plan, table, files, uri)
    ran += sum(trial.signature not in seen for trial in plan.ready)
    return SweepResult(table, files, ran, failed, links)


def trial_source(plan: Plan) -> Source | None:
    """What tells the rest of the trials as others end; None where all are known."""
    source: TuningSource | SearchSource | None = None
    if plan.study.tuning:
        source = TuningSource(plan)
    elif plan.study.search:
        source = SearchSource(plan, fits)
    return source if source and source.left else None


def announce(plan: Plan, more: int, screen: Console) -> None:
    """One line on what is about to happen. `more`: trials that may still come."""
    study = plan.study
    planned = sum(trial.steps for trial in plan.ready)
    distinct = sum(node.steps for node in plan.nodes)
    steps = f"{planned} steps" if planned == distinct else f"{distinct} distinct steps of {planned} planned"
    what = f"{len(plan.ready)} trials ({steps}), {len(plan.pending)} to run"
    what += f", {more} at most whose settings depend on these" if more else ""
    screen.print(f"{study.name} at scale {study.scale} ({study.scale_reason}): {what}", soft_wrap=True)


def event_handler(mirror: "Mirror | NoMirror", progress: ProgressDisplay) -> Callable[[Event], None]:
    """What the driver does with each event: mirror it, show it."""
    followed: dict[str, float] = {}

    def notify(event: Event) -> None:
        if event.kind == "suggested":
            mirror.add(event.trial)
        elif event.kind == "started":
            mirror.start(event.trial)
        elif event.kind == "progress":
            now = time.monotonic()
            if now - followed.setdefault(event.trial.signature, now) > MIRROR_INTERVAL_S:
                followed[event.trial.signature] = now
                mirror.follow(event.trial)
        elif event.kind != "interrupted":
            mirror.finish(event.trial)
        progress.notice(event)

    return notify
