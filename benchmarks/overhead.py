"""What a sweep costs around its stages: processes, scheduling, records, tracking. Every run is a process of its own."""

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from ablate.plan.trials import Trial, expand
from ablate.store.files import read_json, write_json
from ablate.store.folders import Store
from benchmarks import tiny
from benchmarks.comparison import ROOT, Comparison

TREATMENTS, PAIRS, AT_ONCE = 12, 3, 2


def run() -> Comparison:
    runs: dict[str, list[dict[str, float]]] = {"ours": [], "peers": []}
    for _ in range(PAIRS):
        for side, measured in runs.items():
            measured.append(in_fresh_process(side))
    trials = len(expand(tiny.study(1, TREATMENTS)))
    kept = ("start_up_s", "first_trials_s", "with_first_s")
    return Comparison(
        f"{trials} trials of one stage, {AT_ONCE} at once, with MLflow on sqlite: a trial, once {AT_ONCE} have ended. "
        "Each trains one step, saves its checkpoint, is probed and recorded",
        "Ray Tune with its defaults, its MLflowLoggerCallback and a function that reports one number and does nothing",
        "s",
        [it["trial_s"] for it in runs["ours"]],
        [it["trial_s"] for it in runs["peers"]],
        {name: {side: [it[name] for it in measured] for side, measured in runs.items()} for name in kept},
    )


def in_fresh_process(side: str) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as room:
        command = [sys.executable, "-m", "benchmarks.overhead", side, room]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
        measured: dict[str, float] | None = read_json(Path(room) / "measured.json")
    if done.returncode or measured is None:
        raise RuntimeError(f"{side} ended with {done.returncode}:\n{done.stderr[-3000:]}")
    return measured


def measure(side: str, room: Path) -> None:
    """One side, in this process.

    `start_up_s` ends with the start of the first trial, `first_trials_s` with the end of as many as there are workers:
    what comes after is `trial_s` a trial. `with_first_s`: a trial, the first ones included.
    """
    from ablate.driver.preflight import prepare_data

    study, store = tiny.study(1, TREATMENTS), Store(room.resolve())
    trials = expand(study)
    prepare_data(study, trials, store)
    begun = time.perf_counter()
    first, ends = (ours if side == "ours" else peers)(trials, store)
    assert len(ends) == len(trials)
    costs = {
        "start_up_s": first - begun,
        "first_trials_s": ends[AT_ONCE - 1] - first,
        "trial_s": (ends[-1] - ends[AT_ONCE - 1]) / (len(trials) - AT_ONCE),
        "with_first_s": (ends[-1] - first) / len(trials),
    }
    write_json(room / "measured.json", costs)


def ours(trials: list[Trial], store: Store) -> tuple[float, list[float]]:
    """As `ablate sweep` does it. Gives the time at which the first trial started, and when MLflow showed each as ended.

    The time that closing the study's run takes is added to the last.
    """
    from rich.console import Console

    from ablate.driver.progress import ProgressDisplay
    from ablate.driver.sweep import follower
    from ablate.schedule.agenda import Event
    from ablate.schedule.ray_tune import run_ray
    from ablate.schedule.resources import Resources
    from ablate.track.mirror import Mirror

    study = tiny.study(1, TREATMENTS)
    starts: list[float] = []
    ends: list[float] = []

    class Timed(Mirror):
        def _finish(self, trial: Trial) -> None:
            super()._finish(trial)
            if len(ends) < len(trials):
                ends.append(time.perf_counter())

    mirror = Timed(store.mlflow_uri, store.mlflow_artifacts, study, trials, store)
    with mirror, ProgressDisplay(trials, trials, store, study.metrics[study.primary], Console(quiet=True)) as progress:
        follow = follower(mirror, progress)

        def notify(event: Event) -> None:
            starts.append(time.perf_counter())
            follow(event)

        run_ray(trials, store, Resources(cpus=1, workers=AT_ONCE), notify)
    begun = time.perf_counter()
    mirror.finish_study({}, study.question)
    ends[-1] += time.perf_counter() - begun
    if mirror.failure:
        raise mirror.failure
    missing = [trial.name for trial in trials if store.stage(trial.signature).status() != "done"]
    if missing:
        raise RuntimeError(f"not done: {', '.join(missing)}")
    return starts[0], ends


def peers(trials: list[Trial], store: Store) -> tuple[float, list[float]]:
    """As Ray's documentation does it."""
    from ray import tune
    from ray.air.integrations.mlflow import MLflowLoggerCallback

    def trainable(config: dict[str, Any]) -> None:
        tune.report({"psnr": 0.0})

    class Stopwatch(tune.Callback):  # type: ignore[misc]  # Ray ships no types
        def __init__(self) -> None:
            self.starts: list[float] = []
            self.ends: list[float] = []

        def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            self.starts.append(time.perf_counter())

        def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            self.ends.append(time.perf_counter())

    tracking, stopwatch = MLflowLoggerCallback(tracking_uri=store.mlflow_uri, experiment_name="peer"), Stopwatch()
    tuner = tune.Tuner(
        trainable,
        param_space={"trial": tune.grid_search(list(range(len(trials))))},
        tune_config=tune.TuneConfig(max_concurrent_trials=AT_ONCE),
        run_config=tune.RunConfig(storage_path=str(store.root / "tune"), callbacks=[tracking, stopwatch]),
    )
    tuner.fit()
    return stopwatch.starts[0], stopwatch.ends


if __name__ == "__main__":
    measure(sys.argv[1], Path(sys.argv[2]))
