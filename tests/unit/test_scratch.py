"""Temporary files of killed processes are removed, those of processes that live are not."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ablate.store import scratch
from ablate.store.files import write_json
from tests.support.command import environment

WRITE = """
import os, sys
from pathlib import Path
from ablate.store.files import atomic_write
from ablate.store.scratch import scratch_folder
with scratch_folder("unfinished", Path(sys.argv[1])) as folder, atomic_write(Path(sys.argv[1]) / "record.json") as path:
    (folder / "half").write_text("x")
    path.write_text("half")
    os.kill(os.getpid(), 9)
"""


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_a_killed_process_leaves_is_removed(tmp_path: Path) -> None:
    ended = subprocess.run([sys.executable, "-c", WRITE, str(tmp_path)], env=environment(), check=False)
    assert ended.returncode == -9 and len(left(tmp_path)) == 2
    write_json(tmp_path / "kept.json", {})
    (tmp_path / ".hidden.txt").write_text("the user's")
    scratch.clear(tmp_path.iterdir())
    assert left(tmp_path) == [".hidden.txt", "kept.json"]


def test_what_a_process_that_lives_has_begun_stays(tmp_path: Path) -> None:
    with scratch.scratch_folder("unfinished", tmp_path) as folder:
        scratch.clear(tmp_path.iterdir())
        assert folder.is_dir()
    assert left(tmp_path) == []


@pytest.mark.parametrize(("age", "stays"), [(3600, True), (8 * 24 * 3600, False)])
def test_what_another_machine_has_begun_stays_for_a_week(tmp_path: Path, age: float, stays: bool) -> None:
    path = tmp_path / ".record.json.000000-1-1.5"
    path.write_text("half")
    os.utime(path, (time.time() - age,) * 2)
    scratch.clear([path])
    assert path.exists() == stays


def test_a_number_that_another_process_has_meanwhile_is_no_sign_of_life(tmp_path: Path) -> None:
    machine = scratch.mark().partition("-")[0]
    path = tmp_path / f".record.json.{machine}-{os.getpid()}-1.5"
    path.write_text("half")
    scratch.clear([path])
    assert not path.exists()
