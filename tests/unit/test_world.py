"""What workers have in common with the driver, where Ray may put its sockets, and what is said when a sweep stops."""

import errno
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

import ablate
from ablate.cli.sweep import way_out
from ablate.errors import ClusterError
from ablate.schedule import ray_cluster, world
from ablate.schedule.ray_cluster import LONGEST_ROOT, LONGEST_SOCKET, PREFIX, RayFailed, session_root

ROOT = str(Path(ablate.__file__).resolve().parents[1])


def test_workers_import_as_the_driver_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray puts each folder in front of the others; what Ray itself would add is not taken."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["/opt/own", "", ROOT, "/usr/lib/python"])
    paths = world.import_paths()
    paths.extend(["/script", "/somewhere/else"])
    worker = ["/ray/first", "/usr/lib/python"]
    for path in paths:
        worker.insert(0, path)
    assert worker[:4] == [ROOT, "/opt/own", str(tmp_path), "/usr/lib/python"] and "/script" not in worker


@pytest.mark.parametrize("name", ["torch", "ray", "python", "ablate", "ablate source"])
def test_a_difference_names_node_and_both_versions(name: str) -> None:
    driver = world.versions(source=True)
    assert world.difference(driver, "home") == world.difference(world.versions(), "home") == ""
    said = world.difference({**driver, name: "0.0.1"}, "home")
    assert f"has {name} {driver[name]} (" in said and f"the command on home has {name} 0.0.1;" in said
    assert said.count(" has ") == 2 and os.uname().nodename in said


def test_the_source_is_that_of_the_engine_and_not_of_levels(tmp_path: Path) -> None:
    from tests.support.studies import copy_package

    copy_package(tmp_path)
    code = "from ablate.schedule.world import versions; print(versions(source=True)['ablate source'])"

    def source() -> str:
        line = [sys.executable, "-c", code]
        return subprocess.run(
            line, env={**os.environ, "PYTHONPATH": str(tmp_path)}, cwd=tmp_path, capture_output=True, check=True
        ).stdout.decode()  # fmt: skip

    first = source()
    (tmp_path / "ablate" / "components" / "loss" / "mine.py").write_text("")
    assert source() == first
    with (tmp_path / "ablate" / "engine" / "train.py").open("a") as file:
        file.write("\n")
    assert source() != first


def test_only_our_variables_are_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", {"ABLATE_COMPONENTS": "mine", "HOME": "/root", "XABLATE_": "no"})
    assert world.variables() == {"ABLATE_COMPONENTS": "mine"}


def test_ray_gets_a_short_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The longest path that is left has room for a socket, and one more byte has none."""
    session = "session_2026-11-30_13-31-36_123456_1234567"
    longest = f"{'x' * LONGEST_ROOT}/{PREFIX}abcdefgh/{session}/sockets/plasma_store"
    assert LONGEST_SOCKET - 4 <= len(longest) <= LONGEST_SOCKET
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    for length, is_short in ((LONGEST_ROOT, True), (LONGEST_ROOT + 1, False)):
        with tempfile.TemporaryDirectory(dir="/tmp", prefix="y") as outer:
            folder = Path(outer) / ("z" * (length - len(outer) - 1))
            folder.mkdir()
            monkeypatch.setattr(tempfile, "tempdir", str(folder))
            assert (session_root() == folder) == is_short
            monkeypatch.setattr(tempfile, "tempdir", None)


def test_without_any_short_folder_tmpdir_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / ("é" * 40)
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setattr(ray_cluster.os, "access", lambda *_: False)
    with pytest.raises(ClusterError, match=rf"path of {len(os.fsencode(folder))} bytes.* set TMPDIR to a shorter one"):
        session_root()


AGAIN = "To continue, run the same command again:"


@pytest.mark.parametrize(
    ("stop", "said"),
    [
        (KeyboardInterrupt(), AGAIN),
        (RayFailed("Ray's raylet ended"), AGAIN),
        (OSError(errno.EIO, "Input/output error", "/x"), AGAIN),
        (ConnectionResetError(), AGAIN),
        (TimeoutError("timed out"), AGAIN),
        (OSError(errno.ENOSPC, "No space left on device", "/x"), "free some space, then run the same command again:"),
        (OSError(errno.EDQUOT, "Disk quota exceeded", "/x"), "free some space, then run the same command again:"),
        (OSError(errno.EROFS, "Read-only file system", "/x"), "make it writable, then run the same command again:"),
        (OSError(errno.EMFILE, "Too many open files"), "(ulimit -n), then run the same command again:"),
        (OSError(errno.ENAMETOOLONG, "File name too long", "/x"), "The same command would meet this again; mend it"),
        (OSError("cannot identify image file"), "The same command would meet this again; mend it"),
        (NotADirectoryError(errno.ENOTDIR, "Not a directory", "/x"), "The same command would meet this again"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
def test_run_again_is_said_where_it_can_help(stop: BaseException, said: str) -> None:
    assert said in way_out(stop)
    assert way_out(stop).endswith(":") == ("run the same command again" in said)
