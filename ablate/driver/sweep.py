"""The main job: what is pending is run, recorded and mirrored; then the tables and the report are written."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from ablate.adaptive.pruning import Pruner
from ablate.adaptive.search import Explorer, each_level
from ablate.adaptive.tuning import Tuner, known_trials, recall, trials_to_come
from ablate.driver.models import fits
from ablate.driver.outputs import close_mirror, open_mirror, write_results
from ablate.driver.preflight import prepare_data
from ablate.driver.progress import ProgressDisplay
from ablate.driver.seeds import more_seeds
from ablate.driver.studies import write_card
from ablate.plan.stale import set_aside
from ablate.plan.tree import planned_steps
from ablate.plan.trials import Trial, expand, pending
from ablate.schedule.agenda import Event, Source
from ablate.schedule.inline import run_inline
from ablate.schedule.ray_tune import run_ray
from ablate.schedule.resources import Resources
from ablate.store.folders import Store
from ablate.study.study import Study

if TYPE_CHECKING:
    from ablate.analysis.tables.table import Table
    from ablate.track.mirror import Mirror, NoMirror

FOLLOW_S = 10.0
"""How often the step metrics of a running trial are mirrored."""


@dataclass(frozen=True)
class Sweep:
    """How a sweep ended."""

    table: "Table"
    files: dict[str, Path]
    ran: int
    failed: dict[str, str]
    links: dict[str, str]


def sweep(
    study: Study, store: Store, resources: Resources, uri: str, screen: Console, *, inline: bool, redo: bool = False
) -> Sweep:
    """Run what the store lacks of a validated study. Raises StudyError or StoreError before anything starts.

    `redo`: run again, too, what other code has made.
    """
    store.check()
    study = more_seeds(recall(study, store), store)
    stale = set_aside(known_trials(study, store), store) if redo else []
    if redo:
        screen.print(f"{len(stale)} trials made by other code, set aside in {store.root / 'stale'}", soft_wrap=True)
        study = more_seeds(recall(study, store), store)
    trials, source = known_trials(study, store), source_of(study, store)
    todo, more = pending(trials, store), trials_to_come(study, store)
    samples = todo + (each_level(study) if more else [])
    if samples and (skipped := prepare_data(study, samples, store)):
        screen.print(f"data: {len(skipped)} damaged files left out: {', '.join(skipped[:5])}", soft_wrap=True)
    write_card(study, trials, store)
    announce(study, trials, todo, more, screen)
    mirror = open_mirror(study, trials, bool(todo or source), store, uri)
    seen, ran = {trial.signature for trial in trials} | store.held(), len(todo)
    with mirror, ProgressDisplay(trials, todo, store, study.metrics[study.primary], screen, more) as progress:
        run, follow = run_inline if inline else run_ray, follower(mirror, progress)
        while todo or source:
            pruner = Pruner(study, study.pruning, store) if study.pruning else None
            run(todo, store, resources, follow, source, pruner)
            study, source = recall(study, store), None
            tried = {trial.signature for trial in known_trials(study, store)}
            study = more_seeds(study, store)
            trials = known_trials(study, store)
            todo = [trial for trial in pending(trials, store) if trial.signature not in tried]
            for trial in todo:
                follow(Event("suggested", trial))
    write_card(study, trials, store)
    table, files = write_results(study, expand(study), store)
    failed = {trial.name: store.stage(trial.signature).failure() for trial in pending(trials, store)}
    links = close_mirror(mirror, study, trials, store, table, files, uri)
    ran += sum(trial.signature not in seen for trial in trials)
    return Sweep(table, files, ran, failed, links)


def source_of(study: Study, store: Store) -> Source | None:
    """What tells the rest of the trials as others end; None where all are known."""
    source = Tuner(study, store) if study.tuning else Explorer(study, store, fits) if study.search else None
    return source if source and source.left else None


def announce(study: Study, trials: list[Trial], todo: list[Trial], more: int, screen: Console) -> None:
    """One line on what is about to happen."""
    planned, distinct = planned_steps(trials)
    steps = f"{planned} steps" if planned == distinct else f"{distinct} distinct steps of {planned} planned"
    what = f"{len(trials)} trials ({steps}), {len(todo)} to run"
    what += f", {more} at most whose settings depend on these" if more else ""
    screen.print(f"{study.name} at scale {study.scale} ({study.scale_reason}): {what}", soft_wrap=True)


def follower(mirror: "Mirror | NoMirror", progress: ProgressDisplay) -> Callable[[Event], None]:
    """What the driver does with each event: mirror it, show it."""
    followed: dict[str, float] = {}

    def notify(event: Event) -> None:
        if event.kind == "suggested":
            mirror.add(event.trial)
        elif event.kind == "started":
            mirror.start(event.trial)
        elif event.kind == "progress":
            now = time.monotonic()
            if now - followed.setdefault(event.trial.signature, now) > FOLLOW_S:
                followed[event.trial.signature] = now
                mirror.follow(event.trial)
        elif event.kind != "interrupted":
            mirror.finish(event.trial)
        progress.notice(event)

    return notify
