"""A study with tuning from the command line, killed with all its processes and resumed."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import mlflow
import psutil

from ablate.adaptive.recall import plan_study
from ablate.analysis.tables.build import build_table
from ablate.store.files import read_json
from ablate.store.folders import Store
from ablate.study.study import load_study

Write = Callable[..., Path]


NORMS = (
    "  loss.kl: [1, 1e-4]\n",
    "  norm: [group, scn]\nnuisance: {stages.train.lr: {low: 1e-3, high: 1e-2, log: true}}\ntuning: {trials: 3}\n",
)


def test_a_killed_tuning_goes_on_and_confirms_on_other_seeds(write_study: Write, tmp_path: Path) -> None:
    study, store = write_study(NORMS, ("steps: 6", "steps: 30"), ("groups: 4", "groups: 8")), tmp_path / "runs"
    command = [sys.executable, "-m", "ablate.cli", "sweep", str(study), "--store", str(store), "--workers", "2"]
    environment = {
        key: value for key, value in os.environ.items() if key not in {"ABLATE_STORE", "MLFLOW_TRACKING_URI"}
    }
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
    deadline = time.monotonic() + 240
    while len(list(store.glob("stages/*/record.json"))) < 3:
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.02)
    for member in [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]:
        member.kill()
    process.wait(timeout=30)
    ended = {path: path.stat().st_mtime_ns for path in store.glob("stages/*/record.json")}
    assert 3 <= len(ended) < 6

    resumed = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=280, check=False)
    assert resumed.returncode == 0, resumed.stderr
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in ended.items()), "a finished trial was run again"
    records = [read_json(path) for path in store.glob("stages/*/record.json")]
    assert sorted((record["role"], record["seed"]) for record in records) == sorted(
        [("tuning", 1000)] * 6 + [("trial", 0), ("trial", 1)] * 2
    )
    checked = plan_study(load_study(study), Store(store))
    for trial in checked.trials:
        settings = read_json(Store(store).stage(trial.signature).settings)
        lr = settings["recipe"]["stages"][0]["lr"]
        tried = [
            (record["metrics"]["psnr"], read_json(store / "stages" / record["signature"] / "settings.json")["recipe"])
            for record in records
            if record["role"] == "tuning"
        ]
        mine = [(psnr, recipe) for psnr, recipe in tried if recipe["norm"] == settings["recipe"]["norm"]]
        assert len(mine) == 3 and max(mine, key=lambda one: one[0])[1]["stages"][0]["lr"] == lr
    rows = build_table(checked).json()["rows"]
    assert [row["n"] for row in rows] == [2, 2] and "Each had 3 settings" in resumed.stdout

    client = mlflow.MlflowClient(Store(store).mlflow_uri)
    (experiment,) = [found for found in client.search_experiments() if found.name == "tiny"]
    runs = client.search_runs([experiment.experiment_id], "tags.`ablate.role` != 'study'")
    found = sorted((run.data.tags["ablate.role"], run.data.params["seed"]) for run in runs)
    assert found == [("trial", "0")] * 2 + [("trial", "1")] * 2 + [("tuning", "1000")] * 6
    assert all("stages.train.lr" in run.data.params for run in runs)

    again = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=240, check=False)
    assert again.returncode == 0 and "nothing to run" in again.stdout
