"""Which process this is, and whether the process of a lease or a heartbeat still lives."""

import functools
import os
import socket
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

Identity = Mapping[str, Any]
"""`host`, `boot` (an id of the time since the machine started), `space` (of process ids), `pid`, `started`."""


def this_process() -> dict[str, Any]:
    """The identity of this process; entries that the system does not tell are empty."""
    return {**_machine(), "pid": os.getpid(), "started": _started(os.getpid())}


@functools.cache
def _machine() -> dict[str, str]:
    boot = space = ""
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        space = os.readlink("/proc/self/ns/pid")  # noqa: PTH115  # containers number their processes anew
    return {"host": socket.gethostname(), "boot": boot, "space": space}


def lives(process: Identity) -> bool | None:
    """Whether a process lives; None if that cannot be told from here.

    It can be told on the same machine since its last start, among processes with the same numbering. A process id that
    another process has meanwhile counts as dead, and so does a process that only waits to be collected by its parent.
    """
    machine = _machine()
    if any(process.get(key, machine[key]) != machine[key] for key in machine):
        return None
    try:
        os.kill(process["pid"], 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # it lives, and belongs to another user
    started = _started(process["pid"])
    return started != "dead" and process.get("started", started) in {started, ""}


def is_stopped(process: Identity) -> bool:
    """Whether a process lives on this machine but was stopped, as by SIGSTOP, and waits to be continued."""
    with suppress(OSError):
        return bool(lives(process)) and _state(process["pid"])[0] == "T"
    return False


def _started(pid: int) -> str:
    """When a process started, in ticks since the machine did (proc(5)); "dead" if it has ended, empty without /proc."""
    try:
        fields = _state(pid)
    except FileNotFoundError:
        return "dead" if Path("/proc/self/stat").exists() else ""
    except OSError:
        return ""
    return "dead" if fields[0] in {"Z", "X"} else fields[19]


def _state(pid: int) -> list[str]:
    """The fields of a process in proc(5) that follow its name, the first of which is its state."""
    return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
