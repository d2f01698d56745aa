"""Benchmark: the overhead of a sweep per trial (processes, scheduling, records, tracking).

Every run is in a process of its own.
"""

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

TREATMENTS = 12


PAIRS = 3


AT_ONCE = 2
"""Trials that run at once."""


def run() -> Comparison:
    """Run the same trials with ablate and, doing nothing, with Ray Tune."""
    runs: dict[str, list[dict[str, float]]] = {"ours": [], "peers": []}
    for _ in range(PAIRS):
        for side, measured in runs.items():
            measured.append(in_new_process(side))
    trials = len(expand(tiny.study(1, TREATMENTS)))
    details = ("start_up_s", "first_trials_s", "with_first_s")
    return Comparison(
        f"{trials} trials of one stage, {AT_ONCE} at once, with MLflow on sqlite: a trial after the first {AT_ONCE}. "
        "Each trains one step, saves its checkpoint, is probed and recorded",
        "Ray Tune with its defaults, its MLflowLoggerCallback and a function that reports one number and does nothing",
        "s",
        [costs["trial_s"] for costs in runs["ours"]],
        [costs["trial_s"] for costs in runs["peers"]],
        {name: {side: [costs[name] for costs in measured] for side, measured in runs.items()} for name in details},
    )


def in_new_process(side: str) -> dict[str, float]:
    """Run `measure` in a process of its own, and give what it measured."""
    with tempfile.TemporaryDirectory() as scratch:
        command = [sys.executable, "-m", "benchmarks.overhead", side, scratch]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
        measured: dict[str, float] | None = read_json(Path(scratch) / "measured.json")
    if done.returncode or measured is None:
        raise RuntimeError(f"{side} ended with {done.returncode}:\n{done.stderr[-3000:]}")
    return measured


def measure(side: str, folder: Path) -> None:
    """Run one side in this process, and write its costs to `measured.json` in `folder`.

    `start_up_s`: until the first trial starts. `first_trials_s`: from then until as many trials have ended as run at
    once. `trial_s`: per trial after that. `with_first_s`: per trial, including the first ones.
    """
    from ablate.driver.preflight import prepare_data

    study = tiny.study(1, TREATMENTS)
    store = Store(folder.resolve())
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
    write_json(folder / "measured.json", costs)


def ours(trials: list[Trial], store: Store) -> tuple[float, list[float]]:
    """Run the trials as `ablate sweep` does. Gives when the first trial started, and when MLflow showed each as ended.

    The time for closing the study's run is added to the last.
    """
    from rich.console import Console

    from ablate.driver.progress import ProgressDisplay
    from ablate.driver.sweep import event_handler
    from ablate.schedule.agenda import Event
    from ablate.schedule.ray_tune import run_ray
    from ablate.schedule.resources import Resources
    from ablate.track.mirror import Mirror
    from ablate.track.trial_runs import TrialRuns

    study = tiny.study(1, TREATMENTS)
    starts: list[float] = []
    ends: list[float] = []

    class Timed(TrialRuns):
        def finish(self, trial: Trial) -> None:
            super().finish(trial)
            if len(ends) < len(trials):
                ends.append(time.perf_counter())

    mirror = Mirror(store.mlflow_uri, store.mlflow_artifacts, study, trials, store)
    mirror.runs = Timed(study, trials, store, planned=())
    with mirror, ProgressDisplay(trials, trials, store, study.metrics[study.primary], Console(quiet=True)) as progress:
        follow = event_handler(mirror, progress)

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
    """Run as many empty trials as Ray's documentation does. Gives when the first started, and when each ended."""
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

    tracking = MLflowLoggerCallback(tracking_uri=store.mlflow_uri, experiment_name="peer")
    stopwatch = Stopwatch()
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
