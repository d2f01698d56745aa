"""The store: files whole or absent, records as they were, and who is still at work."""

import json
import math
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ablate.store.files import atomic_write, write_json
from ablate.store.folders import HEARTBEAT_S, Store
from ablate.store.record import Record


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
    assert json.loads(path.read_text()) == {"a": 1}


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
    write_json(folder.running, json.loads(folder.running.read_text()) | {"pid": child.pid})
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
