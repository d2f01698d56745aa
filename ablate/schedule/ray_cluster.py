"""The Ray cluster that a sweep runs on: found, joined or started, and asked for its size."""

import functools
import logging
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ablate.errors import ClusterError
from ablate.redaction import VARIABLE, redact
from ablate.schedule.resources import Resources
from ablate.schedule.world import difference, import_paths, variables, versions
from ablate.store.host_memory import kill_count, was_killed
from ablate.store.scratch import is_abandoned, mark, remove

PREFIX = "ablate-"

OWNER = "owner"
"""File in a session's folder with the mark of its process; the folder's own name must be short."""


LONGEST_SOCKET = 103 if sys.platform == "darwin" else 107
"""Bytes of the path of a socket at most (`sun_path` in unix(7), without its last 0)."""


LONGEST_ROOT = LONGEST_SOCKET - len(
    f"/{PREFIX}12345678/session_2026-01-01_00-00-00_000000_1234567/sockets/plasma_store.12"
)
"""Bytes of the folder in which Ray's own is made, so that its longest socket still has a path that is short enough."""


LOOK_S = 2.0
"""Seconds between two looks at whether Ray's own processes live. Ray ends this process some 10 s after its raylet has
died, and 60 s after its GCS has, without a word of what is to be done."""


ANSWER_S = 60.0
"""How long a node of the cluster may take to answer."""


class RayFailed(OSError):
    """Ray's own processes ended or cannot be reached any more: a fault of the system, after which a sweep can go on."""


def session_root() -> Path:
    """The folder in which a local Ray may make its own: that for temporary files, unless its path is too long.

    Raises ClusterError where every folder for temporary files is too long for Ray's sockets, or cannot be written.
    """
    usual = Path(tempfile.gettempdir())
    others = [os.environ.get("XDG_RUNTIME_DIR"), "/tmp", "/var/tmp", "/dev/shm"]
    for folder in (usual, *(Path(one) for one in others if one)):
        if len(os.fsencode(folder)) <= LONGEST_ROOT and folder.is_dir() and os.access(folder, os.W_OK | os.X_OK):
            return folder
    raise ClusterError(
        f"the folder for temporary files has a path of {len(os.fsencode(usual))} bytes, and Ray's sockets need one of "
        f"at most {LONGEST_ROOT}: {usual}; set TMPDIR to a shorter one, or run with --inline, which needs no Ray"
    )


@contextmanager
def connected(address: str | None) -> Iterator[str]:
    """Connect to the Ray cluster at `address`, or start a local one that ends with the sweep. Ray's log is off.

    Gives a folder that ends with it, too. Raises ClusterError where that fails.
    """
    root = Path(tempfile.gettempdir()) if address else session_root()
    remove(path for path in root.glob(f"{PREFIX}*") if is_abandoned(path, _owner(path)))
    with tempfile.TemporaryDirectory(prefix=PREFIX, dir=root) as session:
        Path(session, OWNER).write_text(mark(), encoding="ascii")
        yield from _connected(address, session)


def _owner(folder: Path) -> str:
    """The mark of the process that made a folder; empty if it is none of ours."""
    with suppress(OSError, UnicodeDecodeError):
        return (folder / OWNER).read_text(encoding="ascii")[:100]
    return ""


def _connected(address: str | None, session: str) -> Iterator[str]:
    import ray

    if ray.is_initialized():
        raise ClusterError("Ray runs in this process already; end it with ray.shutdown(), or sweep with inline=True")
    logging.getLogger("ray").setLevel(logging.CRITICAL)  # a lost worker is reported once, by us
    on_sigterm = signal.getsignal(signal.SIGTERM)
    own = {} if address else {"address": "local", "include_dashboard": False, "_temp_dir": session}
    ray._raylet.Config.initialize("")  # from the environment, which Ray has read at its import: long ago in a notebook
    _keep_secrets_from_ray()
    job = ray.job_config.JobConfig(runtime_env={"env_vars": variables()} if address and variables() else None)
    job._py_driver_sys_path = import_paths()
    try:
        ray.init(**{"address": address, **own}, job_config=job, log_to_driver=False, logging_level=logging.CRITICAL)
    except Exception as error:  # Ray has no error of its own for this
        if address:
            raise ClusterError(f"cannot join the Ray cluster at {address}: {error}") from error
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise ClusterError(f"Ray does not start on this machine ({reason}); --inline runs without it") from error
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, on_sigterm)  # Ray installs a handler that prints a stack trace
    try:
        if address:
            _compare_nodes()
        yield session
    except RayFailed:
        _end_rest()
        raise
    finally:
        ray.shutdown()


def _keep_secrets_from_ray() -> None:
    """Let Ray's logs and its table of jobs hold no password of the command line, and no key of the environment.

    Tune would send the driver's `AWS_…` to workers, by way of a log; each machine has its own (docs/cluster.md).
    """
    from ray._private import utils
    from ray.tune.execution import class_cache

    sent = class_cache.ENV_VARS_TO_PROPAGATE
    sent.difference_update({name for name in sent if VARIABLE.match(name)})
    whole = getattr(utils.get_entrypoint_name, "__wrapped__", utils.get_entrypoint_name)

    @functools.wraps(whole)
    def entrypoint() -> str:
        return redact(whole())

    utils.get_entrypoint_name = entrypoint


def _compare_nodes() -> None:
    """Raise ClusterError if a node of the cluster has other versions than this machine, or cannot run this program."""
    import ray

    found = []
    for host in sorted({str(node["NodeManagerHostname"]) for node in ray.nodes() if node["Alive"]}):
        try:
            found.append(_call(host, difference, versions(source=True), socket.gethostname()))
        except ray.exceptions.GetTimeoutError:  # busy: its workers compare again when they begin
            pass
        except ray.exceptions.RayError as error:
            reason = str(error).strip().splitlines()[-1]
            found.append(f"the node {host} cannot run this program ({reason}); install the same on every node")
    if any(found):
        raise ClusterError("\n".join(filter(None, found)))


def _end_rest() -> None:
    """End what is left of a local Ray: with a part of it dead, its own orderly end would wait for that."""
    import ray

    if node := ray._private.worker._global_node:
        node.kill_all_processes(check_alive=False, allow_graceful=False)


def capacity(resources: Resources) -> int:
    """How many trials the cluster can run at once; at least 1."""
    import ray

    available = ray.cluster_resources()
    needed = {"CPU": resources.cpus, "GPU": resources.gpus}
    return max(1, min(int(available.get(kind, 0) / share) for kind, share in needed.items() if share))


def find_cluster(address: str) -> None:
    """Raise ClusterError at once if nothing listens at `host:port`; Ray itself would retry for minutes.

    Driver and cluster must agree on whether they use tokens. Unless RAY_AUTH_MODE is set, the cluster is asked without
    a token, and RAY_AUTH_MODE is set to "token" if it refuses.
    """
    host, _, port = address.rpartition(":")
    if port.isdecimal() and "/" not in host:
        try:
            socket.create_connection((host, int(port)), timeout=5).close()
        except OSError as error:
            way_out = "start one (ray start --head), or leave --address out to use this machine alone"
            raise ClusterError(f"there is no Ray cluster at {address}: {error.strerror or error}; {way_out}") from None
    if "RAY_AUTH_MODE" not in os.environ:
        command = [sys.executable, "-m", "ray.scripts.scripts", "health-check"]
        command += [] if address == "auto" else ["--address", address]
        without_token = {**os.environ, "RAY_AUTH_MODE": "disabled"}
        check = subprocess.run(command, env=without_token, capture_output=True, check=False)
        os.environ["RAY_AUTH_MODE"] = "token" if check.returncode else "disabled"


def on_host(host: str, function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function in a process of its own on the node of that name; None if there is no such node, or no answer."""
    import ray

    try:
        return _call(host, function, *arguments)
    except ray.exceptions.RayError:
        return None


def _call(host: str, function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function on the node of that name; None if there is no such node. Raises what Ray raises."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    nodes = [node["NodeID"] for node in ray.nodes() if node["Alive"] and node["NodeManagerHostname"] == host]
    if not nodes:
        return None
    there = NodeAffinitySchedulingStrategy(nodes[0], soft=False)
    task = ray.remote(num_cpus=0, max_retries=0)(function).options(scheduling_strategy=there)
    return ray.get(task.remote(*arguments), timeout=ANSWER_S)


def survive_memory_monitor() -> None:
    """Let Tune take a worker that Ray's memory monitor has killed for a lost one; by itself it ends the whole run.

    Its manager of actors knows the death of an actor as RayActorError alone, but such a death is an OutOfMemoryError.
    """
    from ray.air.execution._internal.actor_manager import RayActorManager
    from ray.exceptions import OutOfMemoryError, RayActorError

    original = RayActorManager._actor_task_failed
    if hasattr(original, "original"):
        return

    def failed(self: Any, tracked_actor_task: Any, exception: Exception) -> None:
        lost = RayActorError(error_msg=str(exception)) if isinstance(exception, OutOfMemoryError) else exception
        original(self, tracked_actor_task=tracked_actor_task, exception=lost)

    failed.original = original  # type: ignore[attr-defined]
    RayActorManager._actor_task_failed = failed


class Health:
    """Whether the processes of Ray that this one depends on live."""

    def __init__(self) -> None:
        self.kills = kill_count()
        self._looked = time.monotonic()

    def check(self) -> None:
        """Raise RayFailed, with the cause as far as it is known, if one of them has ended. Looks every few seconds."""
        if time.monotonic() - self._looked < LOOK_S:
            return
        self._looked = time.monotonic()
        if fault := self.fault():
            _leave_actors()
            raise RayFailed(fault)

    def fault(self) -> str:
        """What has ended and why, as far as it is known; empty if all live."""
        import ray

        node = ray._private.worker._global_node
        if node is None:
            return ""
        ended = [(PARTS[kind], process) for kind, process in node.dead_processes() if kind in PARTS]
        if ended:
            name, process = ended[0]
            code = process.returncode
            how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
            short = was_killed({"pid": process.pid, "kills": self.kills})
            why = f", for lack of memory: {short}; give the sweep fewer --workers" if short else ""
            return f"Ray's {name} {how}{why}"
        if not node.all_processes and not _answers(node.gcs_address):  # a cluster of others
            return f"the Ray cluster at {node.gcs_address} does not answer any more: its head, or its GCS, has ended"
        return ""


def _leave_actors() -> None:
    """Keep Tune from ending its workers one by one, which would wait for the part of Ray that has died."""
    from ray.tune.execution.tune_controller import TuneController

    original = TuneController._cleanup_trials

    def leave(controller: Any) -> None:
        TuneController._cleanup_trials = original

    TuneController._cleanup_trials = leave


PARTS = {"raylet": "raylet, which starts the workers,", "gcs_server": "GCS, which directs the cluster,"}
"""Ray's processes without which no work is done, and what each is for."""


def _answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except OSError:
        return False
    return True
