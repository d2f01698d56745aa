"""Stages to workers: Ray Tune on one machine or a cluster, or one after the other in this process.

Both take stages from an `Agenda`, which holds back a stage until the one before it has ended, and run them with
`run_trial`. Ray Tune gets long-lived workers; what is finished is the store's knowledge, so a killed sweep starts a new
Tune run over what is left.
"""

import json
import logging
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

from ablate.adaptive.pruning import Pruner
from ablate.plan.footprint import OUT_OF_MEMORY
from ablate.plan.tree import Node
from ablate.plan.trials import Trial
from ablate.schedule.agenda import Agenda, Event, Source
from ablate.schedule.resources import Resources
from ablate.store.files import parse_store
from ablate.store.folders import Store

LOST_WORKER_RETRIES = 2


RAY_SETTINGS = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_MAX_PENDING_TRIALS_PG": "4",  # stages are taken late, so in order; yet workers start side by side
    "RAY_DEDUP_LOGS": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "1e9",  # Tune's own snapshots, which nobody restores, take longer with every trial
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}


class ClusterError(RuntimeError):
    """The Ray cluster that was asked for cannot be reached."""


def run_ray(
    trials: list[Trial],
    store: Store,
    resources: Resources,
    notify: Callable[[Event], None],
    source: Source | None = None,
    pruner: Pruner | None = None,
) -> None:
    """Run trials, and those that a source suggests, under Ray Tune; `notify` is told of every event, in this process.

    Raises ClusterError.
    """
    os.environ.update({name: value for name, value in RAY_SETTINGS.items() if name not in os.environ})
    if resources.address:
        find_cluster(resources.address)
    from ray import tune  # reads the environment

    agenda = Agenda(trials, store, notify, source, pruner=pruner)
    searcher, scheduler, listener = _tune_ends(agenda)
    worker = tune.with_resources(
        tune.with_parameters(_work, root=str(store.root.resolve()), threads=resources.cpus, gpu=resources.gpus > 0),
        {"cpu": resources.cpus, "gpu": resources.gpus},
    )
    with tempfile.TemporaryDirectory(prefix="ablate-") as scratch, _ray(resources.address, scratch):
        agenda.workers = resources.workers or _room(resources)
        tuner = tune.Tuner(
            worker,
            tune_config=tune.TuneConfig(
                search_alg=searcher,
                scheduler=scheduler,
                num_samples=agenda.most,
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
        tuner.fit()


def _work(config: dict[str, Any], root: str, threads: int, gpu: bool) -> None:
    """A Tune trial: a stage of one of ours, from the first step that the store lacks."""
    import torch
    from ray import tune

    from ablate.engine.run import run_trial

    device = torch.device("cuda" if gpu else "cpu")
    result = run_trial(
        json.loads(config["order"]),
        Store(parse_store(root)),
        device,
        threads,
        lambda p: tune.report({"step": p.step, "steps": p.steps, "losses": p.losses}),
    )
    tune.report({"status": result.status, "reason": result.reason})


def _tune_ends(agenda: Agenda) -> tuple[Any, Any, Any]:
    """The ends of Tune: the searcher that it asks for the next stage, the scheduler that it asks whether a stage goes
    on, the callback to which it tells what else happens.

    Tune pickles them for a restore that we never do; a terminal cannot be pickled.
    """
    from ray import tune
    from ray.tune.schedulers import FIFOScheduler
    from ray.tune.search import Searcher

    class Stages(Searcher):  # type: ignore[misc]  # Ray ships no types
        def __init__(self, agenda: Agenda) -> None:
            super().__init__()
            self.agenda = agenda
            self.given: dict[str, Node] = {}

        def __getstate__(self) -> dict[str, Any]:
            return {}

        def save(self, checkpoint_path: str) -> None: ...

        def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
            node = self.agenda.take()
            if node is None:
                return str(Searcher.FINISHED) if self.agenda.is_over else None
            self.given[trial_id] = node
            return {"order": json.dumps(node.order())}

        def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
            node = self.given[trial_id]
            if error or result is None:
                folder = self.agenda.store.stage(node.signature)
                reason = folder.failure() or f"the worker process died {LOST_WORKER_RETRIES + 1} times"
                if not folder.failure():
                    folder.fail(reason, "")
                self.agenda.end(node, "failed", reason)
            elif "status" in result:  # else it was pruned, and the agenda has ended it
                self.agenda.end(node, result["status"], result["reason"])

    class Rungs(FIFOScheduler):  # type: ignore[misc]
        def __init__(self, stages: Stages) -> None:
            super().__init__()
            self.stages = stages

        def __getstate__(self) -> dict[str, Any]:
            return {}

        def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
            if "status" in result:
                return str(FIFOScheduler.CONTINUE)
            losses = {key.removeprefix("losses/"): value for key, value in result.items() if key.startswith("losses/")}
            node, agenda = self.stages.given[trial.trial_id], self.stages.agenda
            stops = agenda.progress(node, result["step"], result["steps"], losses)
            return str(FIFOScheduler.STOP if stops else FIFOScheduler.CONTINUE)

    class Listener(tune.Callback):  # type: ignore[misc]
        def __init__(self, stages: Stages) -> None:
            self.stages = stages

        def __getstate__(self) -> dict[str, Any]:
            return {}

        def tell(self, kind: Literal["started", "interrupted"], trial: Any, reason: str = "") -> None:
            self.stages.agenda.notify(Event(kind, self.stages.given[trial.trial_id].trial, reason))

        def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            self.tell("started", trial)

        def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            reason = self.stages.agenda.store.stage(self.stages.given[trial.trial_id].signature).failure()
            planned = reason.startswith(OUT_OF_MEMORY)
            trial.max_failures += planned  # its worker was not lost
            self.tell("interrupted", trial, reason if planned else "lost its worker, goes on from its last checkpoint")

    stages = Stages(agenda)
    return stages, Rungs(stages), Listener(stages)


@contextmanager
def _ray(address: str | None, scratch: str) -> Iterator[None]:
    """A Ray cluster: the one at `address`, or a local one that ends with the sweep. Ray's own chatter is off."""
    import ray

    logging.getLogger("ray").setLevel(logging.CRITICAL)  # a lost worker is told once, by us
    on_sigterm = signal.getsignal(signal.SIGTERM)
    own = {} if address else {"address": "local", "include_dashboard": False, "_temp_dir": scratch}
    try:
        ray.init(**{"address": address, **own}, log_to_driver=False, logging_level=logging.CRITICAL)
    except (ConnectionError, ray.exceptions.AuthenticationError) as error:
        raise ClusterError(f"cannot join the Ray cluster at {address}: {error}") from error
    signal.signal(signal.SIGTERM, on_sigterm)  # Ray puts one of its own there, which ends with a stack trace
    try:
        yield
    finally:
        ray.shutdown()


def _room(resources: Resources) -> int:
    """How many trials the cluster has room for at once."""
    import ray

    there = ray.cluster_resources()
    wanted = {"CPU": resources.cpus, "GPU": resources.gpus}
    return max(1, min(int(there.get(kind, 0) / share) for kind, share in wanted.items() if share))


def find_cluster(address: str) -> None:
    """Raise ClusterError if nobody listens at `host:port`, where Ray itself would try for minutes.

    A cluster with a token refuses drivers without one, and one without a token cannot reach drivers that want one: so
    it is asked which it is, unless RAY_AUTH_MODE says so.
    """
    host, _, port = address.rpartition(":")
    if port.isdecimal() and "/" not in host:
        try:
            socket.create_connection((host, int(port)), timeout=5).close()
        except OSError as error:
            raise ClusterError(f"there is no Ray cluster at {address}: {error}") from None
    if "RAY_AUTH_MODE" not in os.environ:
        command = [sys.executable, "-m", "ray.scripts.scripts", "health-check"]
        command += [] if address == "auto" else ["--address", address]
        without_token = {**os.environ, "RAY_AUTH_MODE": "disabled"}
        asked = subprocess.run(command, env=without_token, capture_output=True, check=False)
        os.environ["RAY_AUTH_MODE"] = "token" if asked.returncode else "disabled"
