"""Benchmark: sending the step metrics of a trial to MLflow on sqlite."""

import json
import tempfile
import time
from pathlib import Path

import mlflow

from ablate.plan.trials import Trial, expand
from ablate.store.folders import Store
from ablate.track.mirror import Mirror
from benchmarks import tiny
from benchmarks.comparison import Comparison

STEPS = 40
"""Logged steps of a trial."""


PAIRS = 7


METRICS = (
    "train/loss", "train/grad_norm", "train/l2", "train/kl", "train/steps_per_s", "share/l2", "share/kl",
    "active_parameters",
)  # fmt: skip


def run() -> Comparison:
    """Send the same lines to MLflow with ablate's mirror and with `mlflow.log_metric`."""
    lines = [{name: 1 / (step + i) for i, name in enumerate(METRICS)} for step in range(1, STEPS + 1)]
    with tempfile.TemporaryDirectory() as scratch:
        store = Store(Path(scratch))
        study = tiny.study(STEPS)
        trials = expand(study)[:PAIRS]
        mlflow.set_tracking_uri(f"sqlite:///{scratch}/peer.db")
        mlflow.set_experiment("peer")  # connects now, because ablate changes the mode of later connections to SQLite
        mirror = Mirror(store.mlflow_uri, store.mlflow_artifacts, study, trials, store)
        with mirror:  # opens it; after `with` there is no thread, and calls are made at once
            pass
        pairs = [(ours(mirror, trial, lines), peer(lines)) for trial in trials]
    points = STEPS * len(METRICS)
    return Comparison(
        f"one trial's {STEPS} logged steps x {len(METRICS)} metrics sent to MLflow on sqlite, per metric",
        "`mlflow.log_metric` for each, as the MLflow callbacks of Ray Tune do",
        "ms",
        [1000 * our_seconds / points for our_seconds, _ in pairs],
        [1000 * peer_seconds / points for _, peer_seconds in pairs],
    )


def ours(mirror: Mirror, trial: Trial, lines: list[dict[str, float]]) -> float:
    """Seconds that ablate takes from the lines in the store to the points in the database."""
    mirror.start(trial)
    folder = mirror.store.stage(trial.signature)
    folder.root.mkdir(parents=True)
    text = "".join(json.dumps({"step": step, **line}) + "\n" for step, line in enumerate(lines, 1))
    folder.steps.write_text(text, encoding="utf-8")
    begun = time.perf_counter()
    mirror.follow(trial)
    seconds = time.perf_counter() - begun
    if mirror.failure:
        raise mirror.failure
    return seconds


def peer(lines: list[dict[str, float]]) -> float:
    """Seconds that `mlflow.log_metric` takes, called for each value."""
    with mlflow.start_run():
        begun = time.perf_counter()
        for step, line in enumerate(lines, 1):
            for name, value in line.items():
                mlflow.log_metric(name, value, step)
        return time.perf_counter() - begun
