"""The command `ablate` in processes of its own: run, started, waited for, killed with all its descendants."""

import contextlib
import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import psutil

from tests.support import forked

Done = subprocess.CompletedProcess[str]

PATIENCE = 400
"""Seconds after which a command is taken to hang; below pytest's limit, so that its output is still shown."""


def ablate(*arguments: str | Path, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> Done:
    """Run the command in a process of its own to its end; gives exit code, stdout and stderr.

    The process begins with the libraries imported, unless variables of Python's own are given.
    """
    if not any(name.startswith("PYTHON") for name in env or {}):
        process = forked.Command([*map(str, arguments)], environment(env), cwd)
        try:
            code = process.wait(PATIENCE)
        finally:
            process.kill()
        return Done(process.arguments, code, *process.communicate())
    return subprocess.run(
        command(*arguments), capture_output=True, text=True, cwd=cwd, env=environment(env), timeout=PATIENCE,
        check=False,
    )  # fmt: skip


def inside(*arguments: str | Path) -> Done:
    """Run the command in this process, which is much faster; gives exit code, stdout and stderr."""
    from ablate.cli.main import main

    line = ["ablate", *map(str, arguments)]
    stdout = io.StringIO()
    stderr = io.StringIO()
    before = sys.argv
    sys.argv = line
    code: Any = 0
    try:
        with contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr):
            main()
    except SystemExit as end:
        code = end.code or 0
    finally:
        sys.argv = before
    return Done(line, code, stdout.getvalue(), stderr.getvalue())


def start(*arguments: str | Path, env: Mapping[str, str] | None = None) -> forked.Command:
    """Start the command; its output is read by `communicate`."""
    return forked.Command([*map(str, arguments)], environment(env), None)


def document(*arguments: str | Path) -> Any:
    """The JSON document that a command prints."""
    done = ablate(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def metrics(study: Path | str, store: Path) -> dict[str, dict[str, float]]:
    """Trial -> metrics, as `ablate show` prints them."""
    rows = document("show", study, "--store", store)
    return {f"{row['treatment']} {row['seed']}": row["metrics"] for row in rows}


def python(code: str, *arguments: str | Path, **options: Any) -> Done:
    """Run Python code in a fresh interpreter; it must end well."""
    line = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(line, **{"capture_output": True, "text": True, "check": True, **options})


def wait_for(process: "forked.Command | subprocess.Popen[bytes]", condition: Callable[[], Any]) -> Any:
    """Wait while the process runs until the condition is true; gives its value. A process that hangs is killed."""
    deadline = time.monotonic() + PATIENCE
    while not (value := condition()):
        assert process.poll() is None, process.communicate()[1]
        if time.monotonic() > deadline:
            kill_tree(process)
            raise TimeoutError(f"not true within {PATIENCE} s")
        time.sleep(0.02)
    return value


def kill_tree(process: "forked.Command | subprocess.Popen[bytes]") -> None:
    """SIGKILL a process and all its descendants at once, as a crash of the machine would."""
    family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    for member in family:
        member.suspend()
    for member in family:
        member.kill()
    process.wait(PATIENCE)


def records(store: Path) -> dict[Path, int]:
    """The record of each finished trial, with the time of its last change in ns."""
    return {path: path.stat().st_mtime_ns for path in store.glob("stages/*/record.json")}


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "ablate.cli", *map(str, arguments)]


def environment(changes: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of this process without the variables that lead to another store or server, and with changes."""
    plain = {key: value for key, value in os.environ.items() if key not in {"ABLATE_STORE", "MLFLOW_TRACKING_URI"}}
    return {**plain, **(changes or {})}
