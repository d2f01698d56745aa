"""Serves MLflow's pages over the store; by default to this machine only."""

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from ablate.errors import ServerError
from ablate.redaction import redact, without_user
from ablate.store.folders import Store
from ablate.track.runs import CLIENT_SETTINGS, connect, unusable
from ablate.track.views import links

STARTS = 3
"""How often the server is started when another process takes its port first."""


START_S = 120.0
"""Seconds that MLflow's server may take to answer; a busy machine needs 20."""


STOP_S = 5.0
"""Seconds that the server may take to stop before it is killed."""


SERVER_SETTINGS = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
"""Without this MLflow starts eight more processes, for evaluating language models."""


BACKEND = "MLFLOW_BACKEND_STORE_URI"
"""The variable that gives the server its database: other users can read the command lines of processes."""


@dataclass(frozen=True)
class Server:
    """A running MLflow server."""

    url: str
    process: "subprocess.Popen[bytes]"


def serve(
    store: Store, uri: str, port: int = 5000, host: str = "127.0.0.1", write: Callable[[str], object] | None = None
) -> None:
    """Serve MLflow's pages until Ctrl-C, and `write` (default: to stdout) the links to every study, line by line.

    Where `uri` is the address of a server, none is started: only the links are written. Raises ServerError.
    """
    write = write or _print
    if uri.startswith(("http://", "https://")):
        list_links(uri, without_user(uri), write)
        return
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with contextlib.suppress(KeyboardInterrupt), serving(uri, store.mlflow_artifacts, port, host) as server:
        taken = "" if not port or server.url.endswith(f":{port}") else f"port {port} is in use; "
        write(f"MLflow is at {server.url} ({taken}Ctrl-C stops it)")
        list_links(uri, server.url, write)
        code = server.process.wait()
        raise ServerError(f"MLflow's server ended by itself with exit code {code}")


def _print(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def list_links(uri: str, url: str, write: Callable[[str], object]) -> None:
    """Write the links to every study that MLflow knows, the newest first. Raises ServerError if MLflow fails."""
    try:
        experiments = connect(uri).search_experiments(order_by=["creation_time DESC"])
    except Exception as error:  # of MLflow, or of a package that it uses
        raise unusable(uri, error) from None  # its text may hold a password
    studies = {
        item.name: links(url, item.experiment_id, item.tags) for item in experiments if "ablate.run" in item.tags
    }
    for name, views in studies.items():
        write(f"\n{name}")
        for view, link in views.items():
            write(f"  {view:8} {link}")
    if not studies:
        write("There is no study yet. Run one: ablate sweep STUDY.yaml")


@contextlib.contextmanager
def serving(uri: str, artifacts: Path, port: int, host: str = "127.0.0.1") -> Iterator[Server]:
    """Run MLflow's server in its own process group: yielded when it answers, stopped at the end.

    If `port` is in use, another free port is taken. Raises ServerError.
    """
    artifacts.mkdir(parents=True, exist_ok=True)
    for attempt in range(1, STARTS + 1):
        port = _free_port(host, port)
        with tempfile.TemporaryFile("w+") as log, _process(uri, artifacts, host, port, log) as process:
            server = Server(f"http://{host}:{port}", process)
            if _answers(server):
                yield server
                return
            if attempt == STARTS or _free_port(host, port) == port:  # nobody else took it meanwhile
                log.seek(0)
                end = redact(log.read())[-2000:]
                raise ServerError(f"MLflow's server does not answer at {server.url}. Its log ends:\n{end}")


@contextlib.contextmanager
def _process(uri: str, artifacts: Path, host: str, port: int, log: IO[str]) -> "Iterator[subprocess.Popen[bytes]]":
    """The server in its own process group, stopped at the end."""
    command = [
        sys.executable, "-m", "mlflow", "server", "--host", host, "--port", str(port),
        "--workers", "1", "--artifacts-destination", artifacts.resolve().as_uri(),
    ]  # fmt: skip
    process = subprocess.Popen(
        command,
        env=CLIENT_SETTINGS | os.environ | SERVER_SETTINGS | {BACKEND: uri},
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        _stop(process)


def _answers(server: Server) -> bool:
    """Wait until the server answers; false if it ends before or takes too long.

    Another process may have taken the port since it was found free. What answers then is not HTTP, or not our server:
    that has ended, or ends soon.
    """
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and server.process.poll() is None:
        with (
            contextlib.suppress(OSError, http.client.HTTPException),
            urllib.request.urlopen(f"{server.url}/health", timeout=2),
        ):
            return True
        time.sleep(0.2)
    return False


def _stop(process: "subprocess.Popen[bytes]") -> None:
    """End the process group: the server and the workers that it starts."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_S)


def _free_port(host: str, wanted: int) -> int:
    """The wanted port, or another free one if it is in use."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, wanted))
        except OSError:
            probe.bind((host, 0))
        port: int = probe.getsockname()[1]
    return port
