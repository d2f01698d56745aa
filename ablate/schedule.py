"""Trials to workers: Ray Tune on one machine or a cluster, or one after the other in this process.

Both run the same `run_trial`. Ray Tune gets the list of pending trials, in order, and long-lived workers; which trials
are finished is the store's knowledge, so a killed sweep starts a new Tune run over what is left.
"""

import json
import logging
import os
import signal
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ablate.store import Store
from ablate.trials import Trial

LOST_WORKER_RETRIES = 2
QUIET = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "RAY_DEDUP_LOGS": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}


class ClusterError(RuntimeError):
    """The Ray cluster that was asked for cannot be reached."""


@dataclass(frozen=True)
class Event:
    """Something that happened to a trial. `step`, `steps` and `losses` come with "progress"."""

    kind: Literal["started", "progress", "interrupted", "done", "diverged", "failed"]
    trial: Trial
    reason: str = ""
    step: int = 0
    steps: int = 0
    losses: dict[str, float] | None = None


@dataclass(frozen=True)
class Resources:
    """What one trial gets, and how many run at once at most (None: as many as fit)."""

    cpus: int = 1
    gpus: float = 0.0
    workers: int | None = None
    address: str | None = None


def run_inline(trials: list[Trial], store: Store, resources: Resources, notify: Callable[[Event], None]) -> None:
    """Run trials one by one in this process, for debugging."""
    import torch

    from ablate.run import Progress, run_trial

    device = torch.device("cuda" if resources.gpus else "cpu")
    for trial in trials:

        def report(p: Progress, trial: Trial = trial) -> None:
            notify(Event("progress", trial, step=p.step, steps=p.steps, losses=p.losses))

        notify(Event("started", trial))
        result = run_trial(trial.order(), store, device, resources.cpus, report)
        notify(Event(result.status, trial, result.reason))


def run_ray(trials: list[Trial], store: Store, resources: Resources, notify: Callable[[Event], None]) -> None:
    """Run trials under Ray Tune and tell `notify` of every event, in this process. Raises ClusterError."""
    os.environ.update({name: value for name, value in QUIET.items() if name not in os.environ})
    if resources.address:
        find_cluster(resources.address)
    from ray import tune  # reads the environment

    by_order = {json.dumps(trial.order()): trial for trial in trials}
    root = str(store.root.resolve())
    worker = tune.with_resources(
        tune.with_parameters(_work, root=root, threads=resources.cpus, gpu=resources.gpus > 0),
        {"cpu": resources.cpus, "gpu": resources.gpus},
    )
    with tempfile.TemporaryDirectory(prefix="ablate-") as scratch, _ray(resources.address, scratch):
        tuner = tune.Tuner(
            worker,
            param_space={"order": tune.grid_search(list(by_order))},
            tune_config=tune.TuneConfig(
                reuse_actors=True,
                max_concurrent_trials=resources.workers,
                trial_dirname_creator=lambda trial: trial.trial_id,
            ),
            run_config=tune.RunConfig(
                storage_path=f"{scratch}/tune",
                verbose=0,
                callbacks=[_listener(by_order, store, notify)],
                failure_config=tune.FailureConfig(max_failures=LOST_WORKER_RETRIES),
            ),
        )
        tuner.fit()


def _work(config: dict[str, Any], root: str, threads: int, gpu: bool) -> None:
    """A Tune trial: one of ours, from the first step that the store lacks."""
    import torch
    from ray import tune

    from ablate.run import run_trial

    device = torch.device("cuda" if gpu else "cpu")
    result = run_trial(
        json.loads(config["order"]),
        Store(Path(root)),
        device,
        threads,
        lambda p: tune.report({"step": p.step, "steps": p.steps, "losses": p.losses}),
    )
    tune.report({"status": result.status, "reason": result.reason})


def _listener(by_order: dict[str, Trial], store: Store, notify: Callable[[Event], None]) -> Any:
    """Tune's callback that turns its events into ours."""
    from ray import tune

    class Listener(tune.Callback):  # type: ignore[misc]  # Ray ships no types
        def __init__(self, *parts: Any) -> None:
            self.by_order, self.store, self.notify = parts

        def __getstate__(self) -> dict[str, Any]:
            return {}  # Tune pickles callbacks for a restore that we never do; a terminal cannot be pickled

        def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            self.notify(Event("started", self.by_order[trial.config["order"]]))

        def on_trial_result(
            self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
        ) -> None:
            ours = self.by_order[trial.config["order"]]
            if "status" in result:
                self.notify(Event(result["status"], ours, result["reason"]))
            elif "losses" in result:
                said = {key: result[key] for key in ("step", "steps", "losses")}
                self.notify(Event("progress", ours, **said))

        def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            reason = "lost its worker, goes on from its last checkpoint"
            self.notify(Event("interrupted", self.by_order[trial.config["order"]], reason))

        def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            ours = self.by_order[trial.config["order"]]
            folder = self.store.stage(ours.signature)
            if not folder.failure():
                folder.fail(f"the worker process died {LOST_WORKER_RETRIES + 1} times", "")
            self.notify(Event("failed", ours, folder.failure()))

    return Listener(by_order, store, notify)


@contextmanager
def _ray(address: str | None, scratch: str) -> Iterator[None]:
    """A Ray cluster: the one at `address`, or a local one that ends with the sweep. Ray's own chatter is off."""
    import ray

    logging.getLogger("ray").setLevel(logging.CRITICAL)  # a lost worker is told once, by us
    on_sigterm = signal.getsignal(signal.SIGTERM)
    own = {} if address else {"address": "local", "include_dashboard": False, "_temp_dir": scratch}
    try:
        ray.init(**{"address": address, **own}, log_to_driver=False, logging_level=logging.CRITICAL)
    except ConnectionError as error:
        raise ClusterError(f"cannot join the Ray cluster at {address}: {error}") from error
    signal.signal(signal.SIGTERM, on_sigterm)  # Ray puts one of its own there, which ends with a stack trace
    try:
        yield
    finally:
        ray.shutdown()


def find_cluster(address: str) -> None:
    """Raise ClusterError if nobody listens at `host:port`, where Ray itself would try for minutes.

    Clusters ask for a token by default; this machine's own is sent along where there is one.
    """
    host, _, port = address.rpartition(":")
    if port.isdecimal() and "/" not in host:
        try:
            socket.create_connection((host, int(port)), timeout=5).close()
        except OSError as error:
            raise ClusterError(f"there is no Ray cluster at {address}: {error}") from None
    if (Path.home() / ".ray" / "auth_token").exists():
        os.environ.setdefault("RAY_AUTH_MODE", "token")


def gpu_count() -> int:
    """GPUs that this machine shows, without loading torch."""
    import shutil
    import subprocess

    if os.environ.get("CUDA_VISIBLE_DEVICES") in {"", "-1"} or not shutil.which("nvidia-smi"):
        return 0
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False).stdout
    return sum(line.startswith("GPU ") for line in listed.splitlines())
