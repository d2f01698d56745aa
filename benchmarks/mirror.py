"""What it costs to bring a trial's step metrics to MLflow."""

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

STEPS, PAIRS = 40, 7


METRICS = (
    "train/loss", "train/grad_norm", "train/l2", "train/kl", "train/steps_per_s", "share/l2", "share/kl",
    "active_parameters",
)  # fmt: skip


def run() -> Comparison:
    lines = [{name: 1 / (step + place) for place, name in enumerate(METRICS)} for step in range(1, STEPS + 1)]
    with tempfile.TemporaryDirectory() as room:
        store, study = Store(Path(room)), tiny.study(STEPS)
        trials = expand(study)[:PAIRS]
        mlflow.set_tracking_uri(f"sqlite:///{room}/peer.db")
        mlflow.set_experiment("peer")  # connects before ours puts new connections to SQLite in another mode
        mirror = Mirror(store.mlflow_uri, store.mlflow_artifacts, study, trials, store)
        with mirror:  # from its end on, calls are made at once
            pass
        pairs = [(ours(mirror, trial, lines), peer(lines)) for trial in trials]
    points = STEPS * len(METRICS)
    return Comparison(
        f"one trial's {STEPS} logged steps x {len(METRICS)} metrics brought to MLflow on sqlite, a metric",
        "`mlflow.log_metric` for each, as the MLflow callbacks of Ray Tune do",
        "ms",
        [1000 * mine / points for mine, _ in pairs],
        [1000 * theirs / points for _, theirs in pairs],
    )


def ours(mirror: Mirror, trial: Trial, lines: list[dict[str, float]]) -> float:
    """Seconds, from the lines in the store to the points in the database."""
    mirror.start(trial)
    folder = mirror.store.stage(trial.signature)
    folder.root.mkdir(parents=True)
    text = "".join(json.dumps({"step": step, **line}) + "\n" for step, line in enumerate(lines, 1))
    folder.steps.write_text(text, encoding="utf-8")
    begun = time.perf_counter()
    mirror.follow(trial)
    took = time.perf_counter() - begun
    if mirror.failure:
        raise mirror.failure
    return took


def peer(lines: list[dict[str, float]]) -> float:
    with mlflow.start_run():
        begun = time.perf_counter()
        for step, line in enumerate(lines, 1):
            for name, value in line.items():
                mlflow.log_metric(name, value, step)
        return time.perf_counter() - begun
