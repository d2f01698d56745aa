"""The host's memory: how much a process can still get, and whether the kernel has killed one for lack of it."""

import os
import re
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

CGROUPS = Path("/sys/fs/cgroup")


OWN_GROUPS = Path("/proc/self/cgroup")


Kills = tuple[str, int]
"""The file of a counter of processes that the kernel has killed for lack of memory, and its count."""


def kill_count() -> Kills | None:
    """The counter of this process's control group, else that of the whole system; None where there is none.

    Sources: `oom_kill` in memory.events (cgroup-v2), memory.oom_control (cgroup-v1) and /proc/vmstat.
    """
    files = [_group_file("memory.events", "memory.oom_control"), Path("/proc/vmstat")]
    return next((found for file in files if file and (found := _count(file))), None)


def was_killed(process: Mapping[str, Any]) -> str:
    """The evidence that the kernel has killed a process of this machine for lack of memory; empty if there is none.

    `process`: its identity, with `kills`, the counter as the process itself saw it.
    """
    before = process.get("kills")
    now = _count(Path(before[0])) if before else None
    if before is None or now is None or now[1] <= before[1]:
        return ""
    evidence = f"oom_kill in {now[0]} has risen from {before[1]} to {now[1]}"
    return f"{said}; {evidence}" if (said := _kernel_log(int(process["pid"]))) else evidence


def available() -> int:
    """Bytes that processes here can still get: of the machine, or of the control group where that has less; 0 unknown.

    Source: MemAvailable of proc(5); limit and usage of the control group, whose inactive file cache can be freed.
    """
    found = []
    with suppress(OSError, StopIteration):
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        found.append(int(next(line for line in lines if line.startswith("MemAvailable")).split()[1]) * 1024)
    for limit, usage in (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes")):
        file = _group_file(limit, limit)
        with suppress(OSError, ValueError):  # "max" is no number
            if file and file.name == limit:
                cache = _inactive_file(file.with_name("memory.stat"))
                used = int(file.with_name(usage).read_text(encoding="ascii")) - cache
                found.append(max(0, int(file.read_text(encoding="ascii")) - used))
    return min(found, default=0)


def room() -> int:
    """Bytes that this process has or can still get; it does not change as the process takes them."""
    return available() + resident()


def resident() -> int:
    """Bytes of this process in memory; 0 if it cannot be told."""
    try:
        return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return 0


def _group_file(second: str, first: str) -> Path | None:
    """A file of this process's control group for memory: `second` in version 2, `first` in version 1.

    In a container the group's path may be that outside, so the folder where groups are mounted is looked at, too.
    """
    try:
        lines = OWN_GROUPS.read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    for line in lines:
        _, kinds, path = line.split(":", 2)
        if "memory" in kinds.split(","):
            files = [CGROUPS / "memory" / path.lstrip("/") / first, CGROUPS / "memory" / first]
        elif not kinds:
            files = [CGROUPS / path.lstrip("/") / second, CGROUPS / second]
        else:
            continue
        if found := [file for file in files if file.is_file()]:
            return found[0]
    return None


def _count(file: Path) -> Kills | None:
    try:
        found = re.search(r"^oom_kill (\d+)$", file.read_text(encoding="ascii"), re.MULTILINE)
    except OSError:
        return None
    return (str(file), int(found[1])) if found else None


def _inactive_file(file: Path) -> int:
    found = re.search(r"^(?:total_)?inactive_file (\d+)$", file.read_text(encoding="ascii"), re.MULTILINE)
    return int(found[1]) if found else 0


def _kernel_log(pid: int) -> str:
    """The kernel's last words on killing a process for lack of memory, if its log can be read and names the process.

    A process in a container has another number there, and is not found.
    """
    try:
        done = subprocess.run(["dmesg"], capture_output=True, text=True, errors="replace", timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    said = [line for line in done.stdout.splitlines() if re.search(rf"Killed process {pid} ", line)]
    return f"the kernel says: {said[-1].rpartition('] ')[2]}" if said else ""
