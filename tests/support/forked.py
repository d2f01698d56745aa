"""The command `ablate` in processes of their own that begin with the libraries imported, which takes new ones seconds.

A server process, one for each process of tests, imports the libraries once and forks for each command.
"""

import atexit
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["torch._dynamo", "matplotlib.pyplot", "mlflow", "pandas", "ray", "scipy.stats"])


class Command:
    """A command that was started, as `subprocess.Popen` tells of one."""

    def __init__(self, arguments: Sequence[str], environment: Mapping[str, str], folder: Path | None) -> None:
        self.arguments = ["ablate", *arguments]
        self._files: list[IO[bytes]] = [tempfile.TemporaryFile(), tempfile.TemporaryFile()]  # noqa: SIM115
        descriptors = [SERVER.reducer.DupFd(file.fileno()) for file in self._files]
        how = (list(arguments), dict(environment), folder or Path.cwd(), *descriptors)
        self._process = SERVER.Process(target=_main, args=how, daemon=True)  # ended with the tests
        self._process.start()
        assert self._process.pid
        self.pid: int = self._process.pid

    @property
    def returncode(self) -> int | None:
        return self.poll()

    def poll(self) -> int | None:
        """The exit code, below 0 for a signal; None while the command runs."""
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """The exit code in the end. Raises TimeoutExpired, with all that was said, after `timeout` seconds."""
        self._process.join(timeout)
        if self._process.exitcode is None:
            expired = subprocess.TimeoutExpired(self.arguments, timeout or 0.0, self.stdout(), self.stderr())
            expired.add_note(self.stderr()[-5000:])
            raise expired
        return self._process.exitcode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """What it has written to stdout and stderr in the end. Raises as `wait` does."""
        self.wait(timeout)
        return self.stdout(), self.stderr()

    def stdout(self) -> str:
        """What it has written so far."""
        return _read(self._files[0])

    def stderr(self) -> str:
        """What it has written so far."""
        return _read(self._files[1])

    def send_signal(self, number: signal.Signals) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self._process.kill()


def _read(file: IO[bytes]) -> str:
    """All of a file, whose position is the command's, too."""
    return os.pread(file.fileno(), os.fstat(file.fileno()).st_size, 0).decode(errors="replace")


def _main(arguments: list[str], environment: dict[str, str], folder: Path, stdout: Any, stderr: Any) -> None:
    """What a new process of the command does."""
    for number, file in ((1, stdout), (2, stderr)):
        os.dup2(file.detach(), number)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    tempfile.tempdir = None  # it is read from the environment once
    sys.argv = ["ablate", *arguments]
    sys.path.insert(0, str(folder))
    from ablate.cli.main import main

    try:
        main()
    finally:
        atexit._run_exitfuncs()  # which processes of multiprocessing leave out
        sys.stdout.flush()
        sys.stderr.flush()
