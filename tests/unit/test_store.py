"""The store: files whole or absent, records as they were, and who is still at work."""

import math
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ablate.cli.main import app, main
from ablate.errors import StoreError, UsageError
from ablate.store.files import atomic_write, check_access, parse_store, read_json, write_json
from ablate.store.folders import Store
from ablate.store.leases import HEARTBEAT_S
from ablate.store.record import Record
from tests.support.studies import Write


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "x.json"
    with pytest.raises(RuntimeError), atomic_write(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert list(path.parent.iterdir()) == []
    write_json(path, {"a": 1})
    with pytest.raises(RuntimeError), atomic_write(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert read_json(path) == {"a": 1}


def test_records_keep_what_json_lacks(tmp_path: Path) -> None:
    folder = Store(tmp_path).stage("abc")
    folder.fail("first try", "trace")
    assert (folder.status(), folder.failure()) == ("failed", "first try")
    folder.finish(Record("abc", 0, "done", "", 10, {"psnr": math.inf, "ssim": math.nan, "l1": 0.1}))
    record = folder.record()
    assert record and record.metrics["psnr"] == math.inf and math.isnan(record.metrics["ssim"])
    assert (folder.status(), folder.failure()) == ("done", "")


def test_a_step_line_that_a_kill_cut_short_is_left_out(tmp_path: Path) -> None:
    folder = Store(tmp_path).stage("abc")
    folder.root.mkdir(parents=True)
    folder.steps.write_text('{"step": 1}\n{"step": 2}\n{"st')
    assert [line["step"] for line in folder.read_steps()] == [1, 2]


def test_running_means_that_a_process_lives(tmp_path: Path) -> None:
    folder = Store(tmp_path).stage("abc")
    assert folder.status() == "pending"
    folder.beat(1, 10)
    assert folder.status() == "running"
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    beat = {key: value for key, value in read_json(folder.running).items() if key != "started"}
    write_json(folder.running, beat | {"pid": child.pid})
    assert folder.status() == "running"
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # dead, but not yet waited for
    assert folder.status() == "pending"
    child.wait()
    assert folder.status() == "pending"


@pytest.mark.parametrize(("age", "status"), [(HEARTBEAT_S / 2, "running"), (HEARTBEAT_S * 2, "pending")])
def test_on_another_machine_the_heartbeat_tells(tmp_path: Path, age: float, status: str) -> None:
    folder = Store(tmp_path).stage("abc")
    write_json(folder.running, {"host": "elsewhere", "pid": 1, "time": time.time() - age, "step": 1, "steps": 2})
    assert folder.status() == status


def test_studies_are_listed_with_the_last_run_first(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for i, scale in enumerate(("cpu", "gpu")):
        write_json(store.study("a", scale).card, {})
        os.utime(store.study("a", scale).card, (i, i))
    assert store.studies() == {"a": ["gpu", "cpu"]}


def test_a_file_is_no_store(tmp_path: Path, write_study: Write) -> None:
    file = tmp_path / "runs"
    file.write_text("")
    with pytest.raises(StoreError, match=f"{file} is a file, not a folder"):
        parse_store(file / "deeper")
    for command in ("plan", "status", "table", "sweep"):
        ended = CliRunner().invoke(app, [command, str(write_study()), "--store", str(file)])
        assert ended.exit_code == 2 and "is a file, not a folder" in " ".join(ended.output.split())


def test_object_storage_that_cannot_be_used_is_said_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StoreError, match="names no bucket; expected s3://BUCKET/FOLDER"):
        parse_store("s3://")

    class Refusing:
        def iterdir(self) -> None:
            raise RuntimeError("Unable to locate\ncredentials")

        def __str__(self) -> str:
            return "s3://mine"

    with pytest.raises(StoreError) as caught:
        check_access(Refusing())  # type: ignore[arg-type]
    assert str(caught.value) == "the store s3://mine cannot be read: RuntimeError: Unable to locate credentials"


def test_a_file_of_the_store_that_cannot_be_read_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse() -> None:
        raise PermissionError(13, "Permission denied", "runs/studies")

    monkeypatch.setattr("ablate.cli.main.app", refuse)
    with pytest.raises(SystemExit) as ended:
        main()
    assert (ended.value.code, capsys.readouterr().err) == (2, "runs/studies: Permission denied\n")


@pytest.mark.parametrize("command", ["table", "show", "status"])
def test_an_unknown_study_is_the_same_error_in_every_command(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["ablate", command, "nosuch", "--store", str(tmp_path)])
    with pytest.raises(SystemExit) as ended:
        main()
    err = capsys.readouterr().err
    assert ended.value.code == 2
    assert err.startswith(f"{tmp_path}: the store holds no study 'nosuch'") and err.endswith("1 error\n")


def test_a_level_in_place_of_a_slot_has_a_way_out() -> None:
    with pytest.raises(UsageError, match="unknown level 'x' of norm"):
        CliRunner().invoke(app, ["components", "norm/x"], catch_exceptions=False)
