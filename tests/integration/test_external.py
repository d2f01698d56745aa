"""A sweep of one's own training script under real Ray: tables, resumption, killing it in the middle."""

import json
import os
import signal
import time
from pathlib import Path

from tests.engine.test_external_stage import is_running
from tests.support.command import ablate, start
from tests.support.scripts import SCRIPT, write_external, write_script


def test_a_script_is_swept_killed_and_resumed(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    pids.mkdir()
    wait = f"import os, time\nopen({str(pids)!r} + f'/{{os.getpid()}}', 'w')\ntime.sleep(600 if gain == 2 else 0)\n"
    write_script(tmp_path, SCRIPT.replace("log = open", wait + "log = open"))
    path = write_external(tmp_path)
    store = tmp_path / "runs"
    options = ("--store", store, "--tracking", "none", "--workers", "2")

    # Killed while two scripts sleep: none is left, and the finished trials are kept
    process = start("sweep", path, *options)
    deadline = time.monotonic() + 600
    while len(list(store.glob("stages/*/record.json"))) < 2 or len(list(pids.iterdir())) < 4:
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.2)
    os.kill(process.pid, signal.SIGTERM)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 130 and "finished trials are kept" in said
    deadline = time.monotonic() + 60
    while any(is_running(int(one.name)) for one in pids.iterdir()):
        assert time.monotonic() < deadline
        time.sleep(0.2)

    # Resumed with a script that does not sleep, which is another: all are run
    write_script(tmp_path)
    done = ablate("sweep", path, *options)
    assert done.returncode == 0, done.stderr
    assert "| gain   | 2" in done.stdout and "4 trials run" in done.stdout
    assert "nothing to run" in ablate("sweep", path, *options).stdout
    records = [json.loads(one.read_text()) for one in store.glob("stages/*/record.json")]
    assert {record["status"] for record in records} == {"done"} and len(records) == 6

    # By its name, from elsewhere, without its folder
    write_script(tmp_path, "edited = True\n")
    (tmp_path / "tiny.yaml").unlink()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    table = ablate("table", "tiny", "--store", store, cwd=elsewhere)
    assert table.returncode == 0 and "| gain   | 2" in table.stdout, table.stderr


def test_a_failing_script_is_an_error_of_one_line(tmp_path: Path) -> None:
    write_script(tmp_path, SCRIPT.replace("rng =", "sys.exit('no such card')\nrng ="))
    done = ablate("sweep", write_external(tmp_path), "--store", tmp_path / "runs", "--tracking", "none", "--inline")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "ended with exit code 1: no such card" in done.stderr
