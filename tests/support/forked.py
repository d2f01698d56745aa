"""The command `ablate` in processes of their own that begin with the libraries imported, which takes new ones seconds.

A server process, one for each process of tests, imports the libraries once and forks for each command.
"""

import atexit
import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["torch._dynamo", "matplotlib.pyplot", "mlflow", "pandas", "ray", "scipy.stats"])


def run(
    arguments: Sequence[str], environment: Mapping[str, str], folder: Path | None, timeout: float
) -> "subprocess.CompletedProcess[str]":
    """Run the command to its end; gives exit code, stdout and stderr. Raises TimeoutExpired after `timeout` seconds."""
    with tempfile.TemporaryFile("w+") as stdout, tempfile.TemporaryFile("w+") as stderr:
        files = [SERVER.reducer.DupFd(file.fileno()) for file in (stdout, stderr)]
        process = SERVER.Process(target=_main, args=(list(arguments), dict(environment), folder or Path.cwd(), *files))
        process.start()
        process.join(timeout)
        if process.exitcode is None:
            process.kill()
            raise subprocess.TimeoutExpired(["ablate", *arguments], timeout, _read(stdout), _read(stderr))
        return subprocess.CompletedProcess(["ablate", *arguments], process.exitcode, _read(stdout), _read(stderr))


def _read(file: IO[str]) -> str:
    file.seek(0)
    return file.read()


def _main(arguments: list[str], environment: dict[str, str], folder: Path, stdout: Any, stderr: Any) -> None:
    """What a new process of the command does."""
    for number, file in ((1, stdout), (2, stderr)):
        os.dup2(file.detach(), number)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["ablate", *arguments]
    sys.path.insert(0, str(folder))
    from ablate.cli.main import main

    try:
        main()
    finally:
        atexit._run_exitfuncs()  # which processes of multiprocessing leave out
        sys.stdout.flush()
        sys.stderr.flush()
