"""Runs stages in parallel under Ray Tune, on one machine or a cluster.

A Tune trial is one stage, taken from the `Agenda` and run by `run_trial` in a long-lived worker. The store knows what
is finished, so a killed sweep starts a new Tune run over what is left.
"""

import json
import os
import socket
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, Literal

from ablate.adaptive.pruning import Pruner
from ablate.plan.footprint import OUT_OF_MEMORY, ran_out_reason
from ablate.plan.tree import Node
from ablate.plan.trials import Trial
from ablate.schedule.agenda import Agenda, Event, Source
from ablate.schedule.interrupts import raised_again
from ablate.schedule.lost import short_of_memory, split_after_kill
from ablate.schedule.ray_cluster import (
    Health,
    RayFailed,
    capacity,
    connected,
    on_host,
    survive_memory_monitor,
)
from ablate.schedule.resources import Resources
from ablate.schedule.stalls import Stall, StallWatch, read_heartbeat, take_stacks_and_kill
from ablate.schedule.world import Versions, difference, versions
from ablate.store.files import atomic_write, parse_store
from ablate.store.folders import Store

LOST_WORKER_RETRIES = 2
"""How often a stage is started again after its worker was lost."""


RAY_SETTINGS = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_MAX_PENDING_TRIALS_PG": "4",  # few: stages are taken late, so in order; yet workers start in parallel
    "RAY_DEDUP_LOGS": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "1e9",  # Tune's own snapshots, which nobody restores, take longer with every trial
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "TUNE_STATE_REFRESH_PERIOD": "1e9",  # asking the GCS for resources, which nobody reads, waits 60 s for a dead one
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}


def run_ray(
    trials: list[Trial],
    store: Store,
    resources: Resources,
    notify: Callable[[Event], None],
    source: Source | None = None,
    pruner: Pruner | None = None,
) -> None:
    """Run trials, and those that `source` suggests, under Ray Tune. `notify` gets every event, in this process.

    An address of a cluster must have passed `ray_cluster.find_cluster`. Raises ClusterError and RayFailed.
    """
    # Set-up
    os.environ.update({name: value for name, value in RAY_SETTINGS.items() if name not in os.environ})
    import ray  # after the environment is set, which it reads
    from ray import tune

    survive_memory_monitor()
    agenda = Agenda(trials, store, notify, source, pruner=pruner)
    searcher = _searcher(agenda)
    worker = tune.with_resources(
        tune.with_parameters(
            _work,
            root=str(store.root.resolve()),
            threads=resources.cpus,
            gpu=resources.gpus > 0,
            driver=versions(),
            host=socket.gethostname(),
        ),
        {"cpu": resources.cpus, "gpu": resources.gpus},
    )

    # Run
    with (
        closing(agenda),
        connected(resources.address) as scratch,
        raised_again() as check_interrupts,
    ):
        agenda.workers = resources.workers or capacity(resources)
        watch = StallWatch(store, resources.stall_s)
        listener = _listener(searcher, watch, check_interrupts, on_gpu=resources.gpus > 0)
        tuner = tune.Tuner(
            worker,
            tune_config=tune.TuneConfig(
                search_alg=searcher,
                scheduler=_scheduler(searcher),
                num_samples=agenda.max_stages,
                reuse_actors=True,
                max_concurrent_trials=resources.workers,
                trial_dirname_creator=lambda trial: trial.trial_id,
            ),
            run_config=tune.RunConfig(
                storage_path=f"{scratch}/tune",
                verbose=0,
                callbacks=[listener],
                failure_config=tune.FailureConfig(max_failures=LOST_WORKER_RETRIES),
            ),
        )
        try:
            tuner.fit()
            check_interrupts()
        except (ray.exceptions.RayError, tune.TuneError, RayFailed) as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            raise RayFailed(Health().fault() or f"Ray failed ({reason})") from error


def _work(config: dict[str, Any], root: str, threads: int, gpu: bool, driver: Versions, host: str) -> None:
    """A Tune trial: one stage, from the first step that the store lacks. It fails where versions are other ones.

    `driver`: the versions of the driver, which runs on `host`.
    """
    import torch
    from ray import tune

    from ablate.engine.pulse import offer_stacks
    from ablate.engine.run import run_trial

    order = json.loads(config["order"])
    store = Store(parse_store(root))
    if apart := difference(driver, host):
        store.stage(order["last"]).fail(apart, "")
        tune.report({"status": "failed", "reason": apart})
        return
    device = torch.device("cuda" if gpu else "cpu")
    result = run_trial(
        order,
        store,
        device,
        threads,
        lambda done: tune.report({"step": done.step, "steps": done.steps, "losses": done.losses}),
        offer_stacks(),
    )
    tune.report({"status": result.status, "reason": result.reason})


def _searcher(agenda: Agenda) -> Any:
    """What Tune asks for the next stage, and tells when one has ended. `nodes`: the stage of each Tune trial.

    Tune pickles this and the two below with their classes, to restore them later. We never restore, and the agenda
    cannot be pickled (it may hold a terminal): so it is an attribute, which `__getstate__` leaves out, and no closure.
    """
    from ray.tune.search import Searcher

    class StageSearcher(Searcher):  # type: ignore[misc]  # Ray ships no types
        def __init__(self, agenda: Agenda) -> None:
            super().__init__()
            self.agenda = agenda
            self.nodes: dict[str, Node] = {}
            self.trials: dict[str, Any] = {}
            """Id of a Tune trial -> the trial, once it has started."""

        def __getstate__(self) -> dict[str, Any]:
            return {}

        def save(self, checkpoint_path: str) -> None: ...

        def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
            node = self.agenda.take()
            if node is None:
                return str(Searcher.FINISHED) if self.agenda.is_over else None
            self.nodes[trial_id] = node
            return {"order": json.dumps(self.agenda.order(node))}

        def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
            node = self.nodes[trial_id]
            if error or result is None:
                folder = self.agenda.store.stage(node.signature)
                reason = folder.failure()
                if not reason:
                    heartbeat = read_heartbeat(node, self.agenda.store)
                    short = short_of_memory(_ray_error(self.trials.get(trial_id)), heartbeat)
                    reason = f"the worker process died {LOST_WORKER_RETRIES + 1} times{short and f': {short}'}"
                    folder.fail(reason, "")
                self.agenda.end(node, "failed", reason)
            elif "status" in result:  # otherwise it was pruned, and the agenda has ended it
                self.agenda.end(node, result["status"], result["reason"])

    return StageSearcher(agenda)


def _scheduler(searcher: Any) -> Any:
    """What Tune asks, after each progress report, whether a stage continues."""
    from ray.tune.schedulers import FIFOScheduler

    class PruningScheduler(FIFOScheduler):  # type: ignore[misc]
        def __init__(self, searcher: Any) -> None:
            super().__init__()
            self.searcher = searcher

        def __getstate__(self) -> dict[str, Any]:
            return {}

        def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
            if "status" in result:
                return str(FIFOScheduler.CONTINUE)
            losses = {key.removeprefix("losses/"): value for key, value in result.items() if key.startswith("losses/")}
            node = self.searcher.nodes[trial.trial_id]
            pruned = self.searcher.agenda.progress(node, result["step"], result["steps"], losses)
            return str(FIFOScheduler.STOP if pruned else FIFOScheduler.CONTINUE)

    return PruningScheduler(searcher)


def _listener(searcher: Any, watch: StallWatch, check: Callable[[], None], *, on_gpu: bool) -> Any:
    """What Tune tells when a stage starts and when it loses its worker, and what looks for stages that hang."""
    from ray import tune

    class Listener(tune.Callback):  # type: ignore[misc]
        def __init__(self, searcher: Any, watch: StallWatch, check: Callable[[], None], *, on_gpu: bool) -> None:
            self.searcher = searcher
            self.watch = watch
            self.check_interrupts = check
            self.on_gpu = on_gpu
            self.health = Health()
            self.stalled: dict[str, str] = {}
            """Id of a Tune trial whose stage hung -> what was said of it."""

        def __getstate__(self) -> dict[str, Any]:
            return {}

        def notify(self, kind: Literal["started", "interrupted"], trial: Any, reason: str = "") -> None:
            self.searcher.agenda.notify(Event(kind, self.searcher.nodes[trial.trial_id].trial, reason))

        def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            self.searcher.trials[trial.trial_id] = trial
            self.watch.begin(trial.trial_id, self.searcher.nodes[trial.trial_id])
            self.notify("started", trial)

        def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:
            self.check_interrupts()
            self.health.check()
            for key, stall in self.watch.look().items():
                trial = next(trial for trial in trials if trial.trial_id == key)
                reason = _end_stall(stall, self.searcher.agenda.store, is_last=key in self.stalled)
                trial.max_failures = 0 if key in self.stalled else trial.max_failures + 1
                self.stalled[key] = reason

        def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            self.watch.end(trial.trial_id)

        def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            self.watch.end(trial.trial_id)

        def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            self.watch.end(trial.trial_id)
            if stalled := self.stalled.get(trial.trial_id, ""):
                self.stalled[trial.trial_id] = ""
                self.notify("interrupted", trial, f"{stalled}; tried once more, from its last checkpoint")
                return
            node = self.searcher.nodes[trial.trial_id]
            store = self.searcher.agenda.store
            reason = store.stage(node.signature).failure()
            ran_out = reason.startswith(OUT_OF_MEMORY)
            if not ran_out:
                reason = "lost its worker, continues from its checkpoint"
                heartbeat = read_heartbeat(node, store)
                if short := short_of_memory(_ray_error(trial), heartbeat):
                    split = None if self.on_gpu else split_after_kill(node, store, heartbeat)
                    ran_out = split is not None
                    reason = f"{ran_out_reason(node.stage, split) if split else reason}: {short}"
            trial.max_failures += ran_out  # with less memory it may succeed, so this does not count
            self.notify("interrupted", trial, reason)

    return Listener(searcher, watch, check, on_gpu=on_gpu)


def _ray_error(trial: Any) -> str:
    """What Ray has said of the last loss of a Tune trial's worker."""
    try:
        said = Path(trial.error_file).read_text(encoding="utf-8", errors="replace") if trial else ""
    except (OSError, TypeError):
        return ""
    return said.rpartition("Failure # ")[2]


def _end_stall(stall: Stall, store: Store, *, is_last: bool) -> str:
    """Kill the worker of a stage that hangs and keep its stacks in the stage's folder; gives what is said of it.

    `is_last`: the stage is not tried again, and this is why it has failed.
    """
    found, text, step = take_stacks_and_kill(stall.heartbeat)
    if not found:
        elsewhere = on_host(str(stall.heartbeat["host"]), take_stacks_and_kill, dict(stall.heartbeat))
        found, text, step = elsewhere or (False, "", None)
    folder = store.stage(stall.node.signature)
    if text:
        with atomic_write(folder.stacks) as file:
            file.write_text(text, encoding="utf-8")
    reason = stall.describe(folder.stacks if text else None, step)
    reason += "" if found else f"; process {stall.heartbeat['pid']} on {stall.heartbeat['host']} could not be ended"
    store.stage(stall.node.trial.signature).running.unlink(missing_ok=True)
    if is_last:
        reason = f"{reason}, as it did when it was first tried"
        folder.fail(reason, text)
    return reason
