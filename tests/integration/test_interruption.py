"""Sweeps that are killed or stopped, or lose a worker, in processes of their own: nothing is lost or made twice."""

import json
import signal
from pathlib import Path

import psutil
import pytest

from ablate.adaptive.recall import plan_study
from ablate.driver import overview
from ablate.store.folders import Store
from ablate.store.record import read_header
from ablate.study.study import load_study
from tests.support.command import PATIENCE, ablate, document, kill_tree, metrics, records, start, wait_for
from tests.support.studies import LONG, Write

PLAIN = ("--tracking", "none", "--workers", "1")


def test_a_killed_sweep_resumes_to_the_same_numbers(write_study: Write, tmp_path: Path, undisturbed: Path) -> None:
    """kill -9 of the whole tree, Ray's daemons included, with one trial finished and others in their middle."""
    study, cut = write_study(*LONG), tmp_path / "cut"
    process = start("sweep", study, "--store", cut, *PLAIN)

    def caught_in_the_middle() -> bool:
        begun = [path.parent for path in cut.glob("stages/*/checkpoint.safetensors")]
        return bool(records(cut)) and any(not (folder / "record.json").exists() for folder in begun)

    wait_for(process, caught_in_the_middle)
    kill_tree(process)
    finished = records(cut)
    assert 0 < len(finished) < 4
    resumed = ablate("sweep", study, "--store", cut, *PLAIN)
    assert resumed.returncode == 0, resumed.stderr
    assert finished.items() <= records(cut).items(), "a finished trial was run again"
    assert metrics(study, cut) == metrics(study, undisturbed)
    assert document("table", study, "--store", cut) == document("table", study, "--store", undisturbed)


def test_a_sweep_killed_in_a_shared_stage_goes_on_from_its_checkpoint(write_study: Write, tmp_path: Path) -> None:
    """kill -9 of the whole tree while the stage that four trials share is under way."""
    study = write_study(
        ("  - train: {steps: 6", "  - train: {steps: 150"),
        ("log_every: 2, checkpoint_every: 3}", "log_every: 5, checkpoint_every: 20}\n  - tune: {steps: 4, lr: 1e-3}"),
        (
            "  loss.kl: [1, 1e-4]\n",
            "  stages.tune.freeze: [none, encoder]\n  stages.tune.lr: [1e-3, 1e-4]\ndesign: grid\n",
        ),
        ("seeds: 2", "seeds: 1"),
    )
    cut, whole = tmp_path / "cut", tmp_path / "whole"
    process = start("sweep", study, "--store", cut, *PLAIN)
    checkpoints = wait_for(process, lambda: list(cut.glob("stages/*/checkpoint.safetensors")))
    counts = overview.count_statuses(plan_study(load_study(study), Store(cut)))["trials"]
    kill_tree(process)
    assert (counts["running"], counts["pending"]) == (1, 3)
    (shared,) = {path.parent for path in checkpoints}
    step = read_header(shared / "checkpoint.safetensors")["step"]
    assert 0 < step < 150 and not records(cut)
    before = [line for line in (shared / "steps.jsonl").read_text().splitlines() if json.loads(line)["step"] <= step]
    resumed = ablate("sweep", study, "--store", cut, *PLAIN)
    assert resumed.returncode == 0, resumed.stderr
    after = (shared / "steps.jsonl").read_text().splitlines()
    assert after[: len(before)] == before and len(after) == 150 / 5, "the steps of the checkpoint were made again"
    alone = ablate("sweep", study, "--store", whole, "--inline", *PLAIN)
    assert alone.returncode == 0, alone.stderr
    assert metrics(study, cut) == metrics(study, whole)


def test_a_lost_worker_is_replaced(write_study: Write, tmp_path: Path) -> None:
    """SIGKILL of a Ray worker in the middle of a trial: the sweep goes on and ends well."""
    study, store = write_study(*LONG), tmp_path / "runs"
    process = start("sweep", study, "--store", store, *PLAIN)

    def caught_in_the_middle() -> list[Path]:
        begun = list(store.glob("stages/*/checkpoint.safetensors"))
        return list(store.glob("stages/*/running.json")) if begun else []

    running = wait_for(process, caught_in_the_middle)
    psutil.Process(json.loads(running[0].read_text())["pid"]).kill()
    _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, said
    assert "lost its worker" in said and "Traceback" not in said
    assert document("status", study, "--store", store)["trials"]["done"] == 4


@pytest.mark.parametrize("how", [["--inline"], []], ids=["inline", "ray"])
def test_being_stopped_says_how_to_go_on(write_study: Write, tmp_path: Path, how: list[str]) -> None:
    study, store = write_study(("steps: 6", "steps: 100000")), tmp_path / "runs"
    process = start("sweep", study, "--store", store, *how, *PLAIN)
    wait_for(process, lambda: list(store.glob("stages/*/steps.jsonl")))
    process.send_signal(signal.SIGTERM)
    try:
        _, said = process.communicate(timeout=PATIENCE)
    finally:
        if process.poll() is None:
            kill_tree(process)
    assert process.returncode == 130 and f"sweep {study}" in said and "Traceback" not in said, said
