"""MLflow's pages over the store, on this machine only unless told otherwise."""

import contextlib
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

from ablate.store.folders import Store
from ablate.track.runs import CAUTION, connect
from ablate.track.views import links

START_S = 120.0
"""How long MLflow's server may take to answer; a busy machine needs 20 s."""


STOP_S = 5.0
"""How long it may take to stop before it is killed."""


LEAN = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
"""Without this MLflow starts eight more processes, for judging language models."""


class ServerError(RuntimeError):
    """MLflow's server did not come up; the message holds the end of its log."""


@dataclass(frozen=True)
class Server:
    """A running MLflow server."""

    url: str
    process: "subprocess.Popen[bytes]"


def serve(
    store: Store, uri: str, port: int = 5000, host: str = "127.0.0.1", say: Callable[[str], object] | None = None
) -> None:
    """Serve MLflow's pages until Ctrl-C and `say` (default: print to stdout) the links to every study.

    Where `uri` is a server's address there is nothing to start: only the links are said. Raises ServerError.
    """
    say = say or (lambda line: sys.stdout.write(f"{line}\n") and sys.stdout.flush())
    if uri.startswith(("http://", "https://")):
        list_links(uri, uri, say)
        return
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with contextlib.suppress(KeyboardInterrupt), serving(uri, store.mlflow_artifacts, port, host) as server:
        say(f"MLflow is at {server.url} (Ctrl-C stops it)")
        list_links(uri, server.url, say)
        code = server.process.wait()
        raise ServerError(f"MLflow's server ended by itself with exit code {code}")


def list_links(uri: str, url: str, say: Callable[[str], object]) -> None:
    """Say the links to every study that MLflow knows, the newest first."""
    experiments = connect(uri).search_experiments(order_by=["creation_time DESC"])
    studies = {
        item.name: links(url, item.experiment_id, item.tags) for item in experiments if "ablate.run" in item.tags
    }
    for name, views in studies.items():
        say(f"\n{name}")
        for view, link in views.items():
            say(f"  {view:8} {link}")
    if not studies:
        say("There is no study yet. Run one: ablate sweep STUDY.yaml")


@contextlib.contextmanager
def serving(uri: str, artifacts: Path, port: int, host: str = "127.0.0.1") -> Iterator[Server]:
    """MLflow's server in a process group of its own; ready to answer, and stopped in the end.

    Another free port is taken where `port` is in use. Raises ServerError.
    """
    artifacts.mkdir(parents=True, exist_ok=True)
    port = _free_port(host, port)
    command = [
        sys.executable, "-m", "mlflow", "server", "--backend-store-uri", uri, "--host", host, "--port", str(port),
        "--workers", "1", "--artifacts-destination", artifacts.resolve().as_uri(),
    ]  # fmt: skip
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(
            command, env=CAUTION | os.environ | LEAN, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
        server = Server(f"http://{host}:{port}", process)
        try:
            if not _answers(server):
                log.seek(0)
                raise ServerError(f"MLflow's server does not answer at {server.url}; it said:\n{log.read()[-2000:]}")
            yield server
        finally:
            _stop(process)


def _answers(server: Server) -> bool:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and server.process.poll() is None:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{server.url}/health", timeout=2):
            return True
        time.sleep(0.2)
    return False


def _stop(process: "subprocess.Popen[bytes]") -> None:
    """End the whole group: the server starts workers of its own."""
    for stop in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, stop)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_S)


def _free_port(host: str, wanted: int) -> int:
    """The wanted port, or another one if it is in use."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, wanted))
        except OSError:
            probe.bind((host, 0))
        port: int = probe.getsockname()[1]
    return port
