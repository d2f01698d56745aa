"""A study with tuning from the command line, killed with all its processes and resumed."""

from pathlib import Path

import mlflow

from ablate.adaptive.recall import plan_study
from ablate.analysis.tables.build import build_table
from ablate.store.files import read_json
from ablate.store.folders import Store
from ablate.study.study import load_study
from tests.support.command import ablate, kill_tree, records, start, wait_for
from tests.support.studies import Write

NORMS = (
    "  loss.kl: [1, 1e-4]\n",
    "  norm: [group, scn]\nnuisance: {stages.train.lr: {low: 1e-3, high: 1e-2, log: true}}\ntuning: {trials: 3}\n",
)


def test_a_killed_tuning_goes_on_and_confirms_on_other_seeds(write_study: Write, tmp_path: Path) -> None:
    study, store = write_study(NORMS, ("steps: 6", "steps: 30"), ("groups: 4", "groups: 8")), tmp_path / "runs"
    command = ("sweep", study, "--store", store, "--workers", "1")
    process = start(*command)
    wait_for(process, lambda: len(records(store)) >= 3)
    kill_tree(process)
    ended = records(store)
    assert 3 <= len(ended) < 6

    resumed = ablate(*command)
    assert resumed.returncode == 0, resumed.stderr
    assert ended.items() <= records(store).items(), "a finished trial was run again"
    written = [read_json(path) for path in records(store)]
    assert sorted((record["role"], record["seed"]) for record in written) == sorted(
        [("tuning", 1000)] * 6 + [("trial", 0), ("trial", 1)] * 2
    )
    checked = plan_study(load_study(study), Store(store))
    for trial in checked.trials:
        settings = read_json(Store(store).stage(trial.signature).settings)
        lr = settings["recipe"]["stages"][0]["lr"]
        tried = [
            (record["metrics"]["psnr"], read_json(store / "stages" / record["signature"] / "settings.json")["recipe"])
            for record in written
            if record["role"] == "tuning"
        ]
        mine = [(psnr, recipe) for psnr, recipe in tried if recipe["norm"] == settings["recipe"]["norm"]]
        assert len(mine) == 3 and max(mine, key=lambda one: one[0])[1]["stages"][0]["lr"] == lr
    rows = build_table(checked).json()["rows"]
    assert [row["n"] for row in rows] == [2, 2] and "Each treatment had 3 settings" in resumed.stdout

    client = mlflow.MlflowClient(Store(store).mlflow_uri)
    (experiment,) = [found for found in client.search_experiments() if found.name == "tiny"]
    runs = client.search_runs([experiment.experiment_id], "tags.`ablate.role` != 'study'")
    found = sorted((run.data.tags["ablate.role"], run.data.params["seed"]) for run in runs)
    assert found == [("trial", "0")] * 2 + [("trial", "1")] * 2 + [("tuning", "1000")] * 6
    assert all("stages.train.lr" in run.data.params for run in runs)

    again = ablate(*command)
    assert again.returncode == 0 and "nothing to run" in again.stdout
