"""Runs stages in parallel under Ray Tune, on one machine or a cluster.

A Tune trial is one stage, taken from the `Agenda` and run by `run_trial` in a long-lived worker. The store knows what
is finished, so a killed sweep starts a new Tune run over what is left.
"""

import functools
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any, Literal

from ablate.adaptive.pruning import Pruner
from ablate.errors import ClusterError
from ablate.plan.footprint import OUT_OF_MEMORY
from ablate.plan.tree import Node
from ablate.plan.trials import Trial
from ablate.redaction import VARIABLE, redact
from ablate.schedule.agenda import Agenda, Event, Source
from ablate.schedule.resources import Resources
from ablate.store.files import parse_store
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
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}


class RayFailed(OSError):
    """Ray's own processes ended or cannot be reached any more: a fault of the system, after which a sweep can go on."""


def run_ray(
    trials: list[Trial],
    store: Store,
    resources: Resources,
    notify: Callable[[Event], None],
    source: Source | None = None,
    pruner: Pruner | None = None,
) -> None:
    """Run trials, and those that `source` suggests, under Ray Tune. `notify` gets every event, in this process.

    An address of a cluster must have passed `find_cluster`. Raises ClusterError and RayFailed.
    """
    # Set-up
    os.environ.update({name: value for name, value in RAY_SETTINGS.items() if name not in os.environ})
    import ray  # after the environment is set, which it reads
    from ray import tune

    agenda = Agenda(trials, store, notify, source, pruner=pruner)
    searcher = _searcher(agenda)
    worker = tune.with_resources(
        tune.with_parameters(_work, root=str(store.root.resolve()), threads=resources.cpus, gpu=resources.gpus > 0),
        {"cpu": resources.cpus, "gpu": resources.gpus},
    )

    # Run
    with (
        closing(agenda),
        tempfile.TemporaryDirectory(prefix="ablate-") as scratch,
        _ray(resources.address, scratch),
    ):
        agenda.workers = resources.workers or _capacity(resources)
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
                callbacks=[_listener(searcher)],
                failure_config=tune.FailureConfig(max_failures=LOST_WORKER_RETRIES),
            ),
        )
        try:
            tuner.fit()
        except (ray.exceptions.RayError, tune.TuneError) as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            raise RayFailed(f"Ray failed, as when its raylet or its GCS is killed ({reason})") from error


def _work(config: dict[str, Any], root: str, threads: int, gpu: bool) -> None:
    """A Tune trial: one stage, from the first step that the store lacks."""
    import torch
    from ray import tune

    from ablate.engine.run import run_trial

    device = torch.device("cuda" if gpu else "cpu")
    result = run_trial(
        json.loads(config["order"]),
        Store(parse_store(root)),
        device,
        threads,
        lambda done: tune.report({"step": done.step, "steps": done.steps, "losses": done.losses}),
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
                reason = folder.failure() or f"the worker process died {LOST_WORKER_RETRIES + 1} times"
                if not folder.failure():
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


def _listener(searcher: Any) -> Any:
    """What Tune tells when a stage starts and when it loses its worker."""
    from ray import tune

    class Listener(tune.Callback):  # type: ignore[misc]
        def __init__(self, searcher: Any) -> None:
            self.searcher = searcher

        def __getstate__(self) -> dict[str, Any]:
            return {}

        def notify(self, kind: Literal["started", "interrupted"], trial: Any, reason: str = "") -> None:
            self.searcher.agenda.notify(Event(kind, self.searcher.nodes[trial.trial_id].trial, reason))

        def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            self.notify("started", trial)

        def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            node = self.searcher.nodes[trial.trial_id]
            reason = self.searcher.agenda.store.stage(node.signature).failure()
            ran_out = reason.startswith(OUT_OF_MEMORY)
            trial.max_failures += ran_out  # the worker was not lost, so this does not count
            self.notify("interrupted", trial, reason if ran_out else "lost its worker, continues from its checkpoint")

    return Listener(searcher)


@contextmanager
def _ray(address: str | None, scratch: str) -> Iterator[None]:
    """Connect to the Ray cluster at `address`, or start a local one that ends with the sweep. Ray's log is off."""
    import ray

    if ray.is_initialized():
        raise ClusterError("Ray runs in this process already; end it with ray.shutdown(), or sweep with inline=True")
    logging.getLogger("ray").setLevel(logging.CRITICAL)  # a lost worker is reported once, by us
    on_sigterm = signal.getsignal(signal.SIGTERM)
    own = {} if address else {"address": "local", "include_dashboard": False, "_temp_dir": scratch}
    _keep_secrets_from_ray()
    try:
        ray.init(**{"address": address, **own}, log_to_driver=False, logging_level=logging.CRITICAL)
    except (ConnectionError, ray.exceptions.AuthenticationError) as error:
        raise ClusterError(f"cannot join the Ray cluster at {address}: {error}") from error
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, on_sigterm)  # Ray installs a handler that prints a stack trace
    try:
        yield
    finally:
        ray.shutdown()


def _keep_secrets_from_ray() -> None:
    """Let Ray's logs and its table of jobs hold no password of the command line, and no key of the environment.

    Tune would send the driver's `AWS_…` to workers, by way of a log; each machine has its own (docs/cluster.md).
    """
    from ray._private import utils
    from ray.tune.execution import class_cache

    sent = class_cache.ENV_VARS_TO_PROPAGATE
    sent.difference_update({name for name in sent if VARIABLE.match(name)})
    whole = getattr(utils.get_entrypoint_name, "__wrapped__", utils.get_entrypoint_name)

    @functools.wraps(whole)
    def entrypoint() -> str:
        return redact(whole())

    utils.get_entrypoint_name = entrypoint


def _capacity(resources: Resources) -> int:
    """How many trials the cluster can run at once; at least 1."""
    import ray

    available = ray.cluster_resources()
    needed = {"CPU": resources.cpus, "GPU": resources.gpus}
    return max(1, min(int(available.get(kind, 0) / share) for kind, share in needed.items() if share))


def find_cluster(address: str) -> None:
    """Raise ClusterError at once if nothing listens at `host:port`; Ray itself would retry for minutes.

    Driver and cluster must agree on whether they use tokens. Unless RAY_AUTH_MODE is set, the cluster is asked without
    a token, and RAY_AUTH_MODE is set to "token" if it refuses.
    """
    host, _, port = address.rpartition(":")
    if port.isdecimal() and "/" not in host:
        try:
            socket.create_connection((host, int(port)), timeout=5).close()
        except OSError as error:
            way_out = "start one (ray start --head), or leave --address out to use this machine alone"
            raise ClusterError(f"there is no Ray cluster at {address}: {error.strerror or error}; {way_out}") from None
    if "RAY_AUTH_MODE" not in os.environ:
        command = [sys.executable, "-m", "ray.scripts.scripts", "health-check"]
        command += [] if address == "auto" else ["--address", address]
        without_token = {**os.environ, "RAY_AUTH_MODE": "disabled"}
        check = subprocess.run(command, env=without_token, capture_output=True, check=False)
        os.environ["RAY_AUTH_MODE"] = "token" if check.returncode else "disabled"
