"""Two `ablate sweep` on one store at once: each trial is trained once, by one of them, and the numbers are the same."""

import re
import sqlite3
import time
from collections import Counter
from pathlib import Path

import pytest

from ablate.store.files import read_json
from ablate.store.folders import Store
from tests.support.command import PATIENCE, ablate, metrics, records, start, wait_for
from tests.support.forked import Command
from tests.support.studies import Write
from tests.support.studies import write_study as write

SHORT = (("steps: 6", "steps: 60"), ("log_every: 2, checkpoint_every: 3", "log_every: 5, checkpoint_every: 10"))
"""Trials long enough to be met by another sweep in their middle."""


HOW = pytest.mark.parametrize("how", [["--inline"], []], ids=["inline", "ray"])


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store after a sweep of the same study that nothing disturbed."""
    folder = tmp_path_factory.mktemp("alone")
    done = ablate("sweep", write(folder, *SHORT), "--store", folder / "runs", "--inline", "--tracking", "none")
    assert done.returncode == 0, done.stderr
    return folder / "runs"


def end_of(process: Command) -> str:
    """The process's stderr, once it has ended well."""
    _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0 and "Traceback" not in said, said
    return said


def trained(said: str) -> Counter[str]:
    """How often each trial was finished by a sweep itself, from the lines of its stderr."""
    lines = [line for line in said.splitlines() if "by another sweep" not in line]
    return Counter(re.findall(r"^\[\d+/\d+\] done  (.+ s\d+)  psnr", "\n".join(lines), re.MULTILINE))


def mirrored(store: Path) -> Counter[tuple[str, str]]:
    """How many runs MLflow shows of each trial: experiment and name -> count."""
    with sqlite3.connect(store / "mlflow.db") as database:
        found = database.execute(
            "select e.name, r.name from runs r join experiments e using (experiment_id) join tags t using (run_uuid) "
            "where t.key = 'ablate.role' and t.value = 'trial'"
        )
        return Counter(found.fetchall())


@HOW
@pytest.mark.parametrize("apart", [0.0, 2.0], ids=["together", "apart"])
def test_the_same_study_twice_at_once(
    write_study: Write, tmp_path: Path, how: list[str], apart: float, alone: Path
) -> None:
    study, store = write_study(*SHORT), tmp_path / "runs"
    command = ("sweep", study, "--store", store, *how)
    first = start(*command)
    time.sleep(apart)
    second = start(*command)
    said = [end_of(process) for process in (first, second)]
    assert metrics(study, store) == metrics(study, alone)
    assert set(sum(map(trained, said), Counter()).values()) == {1}, said
    assert len(records(store)) == 4
    assert set(mirrored(store).values()) == {1} and len(mirrored(store)) == 4


@HOW
def test_two_studies_that_share_trials(write_study: Write, tmp_path: Path, how: list[str], alone: Path) -> None:
    """The shared ones are trained by one of the two, and MLflow shows them in both."""
    study, store = write_study(*SHORT), tmp_path / "runs"
    other = write_study(*SHORT, ("study: tiny", "study: other"), ("[1, 1e-4]", "[1, 1e-4, 0.1]"), name="other.yaml")
    said = [end_of(each) for each in [start("sweep", file, "--store", store, *how) for file in (study, other)]]
    assert metrics(study, store) == metrics(study, alone)
    assert metrics(study, alone).items() <= metrics(other, store).items()
    assert set(sum(map(trained, said), Counter()).values()) == {1}, said
    assert len(records(store)) == 6
    assert set(mirrored(store).values()) == {1} and len(mirrored(store)) == 4 + 6
    assert "is left to a sweep of" in said[0] + said[1]
    assert not list((store / "leases").glob("*.json"))


@HOW
def test_the_lease_of_a_killed_driver_is_taken_over(
    write_study: Write, tmp_path: Path, how: list[str], alone: Path
) -> None:
    """SIGKILL of the driver alone; its workers may live a little longer, and stop by themselves."""
    study, store = write_study(*SHORT), tmp_path / "runs"
    command = ("sweep", study, "--store", store, "--tracking", "none", *how)
    first = start(*command)
    wait_for(first, lambda: list(store.glob("stages/*/checkpoint.safetensors")))
    second = start(*command)
    wait_for(second, lambda: "waits for a sweep of tiny at scale base (pid" in second.stderr())
    first.kill()
    end_of(second)
    assert metrics(study, store) == metrics(study, alone)
    assert len(records(store)) == 4 and not list((store / "leases").glob("*.json"))


def test_a_search_is_driven_by_one(write_study: Write, tmp_path: Path) -> None:
    search = (
        "  loss.kl: [1, 1e-4]\n",
        "  loss.kl: {low: 1e-8, high: 1, log: true}\n"
        "design: search\nsearch: {sampler: tpe, trials: 4, objectives: [psnr]}\n",
    )
    study, store = write_study(search, ("seeds: 2", "seeds: 1")), tmp_path / "runs"
    both = [start("sweep", study, "--store", store, "--inline", "--tracking", "none") for _ in range(2)]
    said = [end_of(each) for each in both]
    assert len(read_json(Store(store).study("tiny", "base").searched())) == 3
    assert len(records(store)) == 4 and set(sum(map(trained, said), Counter()).values()) == {1}, said
