"""MLflow's database is deleted or damaged: the same command writes it again, or says that it is gone."""

import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.command import PATIENCE, ablate, start, wait_for
from tests.support.studies import Write

ONE_SEED = ("seeds: 2", "seeds: 1")


def trials(store: Path) -> list[str]:
    """The finished runs of trials in MLflow's database, by name."""
    with sqlite3.connect(store / "mlflow.db") as database:
        found = database.execute(
            "select r.name from runs r join tags t using (run_uuid) "
            "where t.key = 'ablate.role' and t.value = 'trial' and r.status = 'FINISHED' order by r.name"
        )
        return [name for (name,) in found]


def delete(store: Path) -> None:
    for path in store.glob("mlflow.db*"):
        path.unlink()


def spoil(store: Path) -> None:
    """Overwrite the middle of the database, as a bad disk does."""
    with (store / "mlflow.db").open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 40960)


def forget(store: Path) -> None:
    """Delete the runs, as another user of MLflow may do."""
    with sqlite3.connect(store / "mlflow.db") as database:
        database.execute("update runs set lifecycle_stage = 'deleted', status = 'KILLED'")


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A study's file and a store with its two trials."""
    from tests.support.studies import write_study

    folder = tmp_path_factory.mktemp("swept")
    study = write_study(folder, ONE_SEED)
    done = ablate("sweep", study, "--store", folder / "runs", "--inline")
    assert done.returncode == 0 and len(trials(folder / "runs")) == 2, done.stderr
    return study, folder / "runs"


@pytest.mark.parametrize("lose", [delete, spoil, forget], ids=lambda lose: lose.__name__)
def test_the_same_command_writes_it_again(lose: Callable[[Path], None], swept: tuple[Path, Path]) -> None:
    study, store = swept
    lose(store)
    again = ablate("sweep", study, "--store", store, "--inline")
    assert again.returncode == 0 and "nothing to run" in again.stdout and "Traceback" not in again.stderr
    assert trials(store) == ["baseline s0", "kl=1 s0"]
    assert (store / "damaged" / "mlflow.db").exists() or lose is not spoil


def test_a_database_deleted_in_the_middle_is_named_and_then_written(write_study: Write, tmp_path: Path) -> None:
    study, store = write_study(("steps: 6", "steps: 60"), ONE_SEED), tmp_path / "runs"
    command = ("sweep", study, "--store", store, "--inline")
    process = start(*command)
    wait_for(process, lambda: list(store.glob("stages/*/record.json")))
    delete(store)
    _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0 and "Traceback" not in said
    assert "MLflow lacks runs" in said or "MLflow failed" in said, said
    again = ablate(*command)
    assert again.returncode == 0 and "nothing to run" in again.stdout, again.stderr
    assert trials(store) == ["baseline s0", "kl=1 s0"]


HOLD = """
import sqlite3, sys, time
database = sqlite3.connect(sys.argv[1], isolation_level=None)
database.execute("begin exclusive")
print("held", flush=True)
time.sleep(600)
"""


def test_a_locked_database_says_who_holds_it(swept: tuple[Path, Path], tmp_path: Path) -> None:
    """With the command and process id of the one that has it open; after its end all is sent."""
    study, store = swept
    own = tmp_path / "runs"
    shutil.copytree(store, own)
    forget(own)
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(own / "mlflow.db")], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout and holder.stdout.readline() == "held\n"
        done = ablate("sync", study, "--store", own)
    finally:
        holder.kill()
        holder.wait()
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
    assert f"{own / 'mlflow.db'} is locked by one of these: " in done.stderr and f"(pid {holder.pid})" in done.stderr
    assert ablate("sync", study, "--store", own).returncode == 0 and len(trials(own)) == 2
