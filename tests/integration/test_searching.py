"""A search from the command line, killed with all its processes and resumed, in Ray's workers as in one process."""

from pathlib import Path

import mlflow
import pytest

from ablate.adaptive.recall import plan_study
from ablate.analysis.tables.build import build_table
from ablate.store.files import read_json
from ablate.store.folders import Store
from ablate.study.study import load_study
from tests.support.command import ablate, kill_tree, records, start, wait_for
from tests.support.studies import Write

SEARCH = (
    "  loss.kl: [1, 1e-4]\n",
    "  loss.kl: {low: 1e-8, high: 1, log: true}\n  norm: [group, scn]\n"
    "design: search\nsearch: {sampler: tpe, trials: 6, objectives: [psnr, ssim]}\n",
)


@pytest.mark.parametrize("how", [["--inline"], ["--workers", "2", "--tracking", "none"]], ids=["inline", "ray"])
def test_a_killed_search_goes_on_to_its_budget_and_prints_its_front(
    write_study: Write, tmp_path: Path, how: list[str]
) -> None:
    study, store = write_study(SEARCH, ("steps: 6", "steps: 40"), ("seeds: 2", "seeds: 1")), tmp_path / "runs"
    command = ("sweep", study, "--store", store, *how)
    process = start(*command)
    wait_for(process, lambda: len(records(store)) >= 3)
    kill_tree(process)
    ledger = Store(store).study("tiny", "base").searched()
    asked = read_json(ledger)
    ended = records(store)
    assert len(ended) < 6 and len(ended) <= len(asked) + 1 <= len(ended) + 2

    resumed = ablate(*command)
    assert resumed.returncode == 0, resumed.stderr
    assert read_json(ledger)[: len(asked)] == asked and len(read_json(ledger)) == 5
    assert ended.items() <= records(store).items(), "a finished trial was run again"
    assert len(records(store)) == 6 and f"{6 - len(ended)} trials run" in resumed.stdout
    rows = build_table(plan_study(load_study(study), Store(store))).json()["rows"]
    values = {row["label"]: (row["cells"]["psnr"]["mean"], row["cells"]["ssim"]["mean"]) for row in rows}
    front = {
        label
        for label, (psnr, ssim) in values.items()
        if not any(p >= psnr and s >= ssim and (p, s) != (psnr, ssim) for p, s in values.values())
    }
    assert len(rows) == 6 and front == {row["label"] for row in rows if row["pareto"]} != set()
    table = resumed.stdout.split("\n\n")[1]
    assert sum("| yes" in line for line in table.splitlines()) == len(front)

    if "--inline" in how:
        client = mlflow.MlflowClient(Store(store).mlflow_uri)
        (experiment,) = [found for found in client.search_experiments() if found.name == "tiny"]
        runs = client.search_runs([experiment.experiment_id], "tags.`ablate.role` = 'trial'")
        assert {run.info.run_name for run in runs} == {f"{label} s0" for label in values} and len(runs) == 6

    again = ablate(*command)
    assert again.returncode == 0 and "nothing to run" in again.stdout
