"""Temporary files of killed processes are found and removed, those of processes that live are not."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ablate.store.files import write_json
from ablate.store.scratch import abandoned, mark, remove, scratch_folder
from tests.support.command import environment

WRITE = """
import os, sys
from pathlib import Path
from ablate.store.files import atomic_write
from ablate.store.scratch import scratch_folder
root = Path(sys.argv[1])
with scratch_folder("unfinished", root / "data") as folder, atomic_write(root / "stages" / "x" / "record.json") as path:
    (folder / "half").write_text("x")
    path.write_text("half")
    os.kill(os.getpid(), 9)
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    (tmp_path / "stages" / "x").mkdir(parents=True)
    return tmp_path


def found(root: Path) -> list[Path]:
    return abandoned(root, [root / "stages" / "x"])


def test_what_a_killed_process_leaves_is_removed(root: Path) -> None:
    ended = subprocess.run([sys.executable, "-c", WRITE, str(root)], env=environment(), check=False)
    write_json(root / "stages" / "x" / "kept.json", {})
    (root / "stages" / "x" / ".hidden.txt").write_text("the user's")
    assert ended.returncode == -9 and len(found(root)) == 2
    remove(found(root))
    assert not list((root / "data").iterdir())
    assert sorted(path.name for path in (root / "stages" / "x").iterdir()) == [".hidden.txt", "kept.json"]


def test_what_a_process_that_lives_has_begun_stays(root: Path) -> None:
    with scratch_folder("unfinished", root / "data"):
        assert found(root) == []
    assert not list((root / "data").iterdir())


@pytest.mark.parametrize(("age", "stays"), [(3600, True), (8 * 24 * 3600, False)])
def test_what_another_machine_has_begun_stays_for_a_week(root: Path, age: float, stays: bool) -> None:
    path = root / "stages" / "x" / ".record.json.000000-1-1.5"
    path.write_text("half")
    os.utime(path, (time.time() - age,) * 2)
    assert (found(root) == []) == stays


def test_a_number_that_another_process_has_meanwhile_is_no_sign_of_life(root: Path) -> None:
    path = root / "stages" / "x" / f".record.json.{mark().partition('-')[0]}-{os.getpid()}-1.5"
    path.write_text("half")
    assert found(root) == [path]


def test_the_session_of_a_killed_sweep_is_removed_by_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What does not say whose it is stays: another program may use the prefix too."""
    from ablate.schedule import ray_cluster

    monkeypatch.setattr(ray_cluster, "session_root", lambda: tmp_path)
    monkeypatch.setattr(ray_cluster, "_connected", lambda address, session: iter([session]))
    for name, owner in (("ablate-dead", mark().replace(f"-{os.getpid()}-", "-4194305-")), ("ablate-alive", mark())):
        (tmp_path / name / "session").mkdir(parents=True)
        (tmp_path / name / "owner").write_text(owner)
    (tmp_path / "ablate-other").mkdir()
    with ray_cluster.connected(None) as session:
        assert (Path(session) / "owner").read_text() == mark()
        assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
            ["ablate-alive", "ablate-other", Path(session).name]
        )
    assert not Path(session).exists()
