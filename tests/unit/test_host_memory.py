"""What the kernel tells of memory: counters of both kinds of control groups, and what is left."""

import os
import re
from pathlib import Path

import psutil
import pytest

from ablate.store import host_memory

GROUPS = {
    "version 2": ("0::/job/7\n", "job/7/memory.events", "low 0\nhigh 3\noom 2\noom_kill {count}\noom_group_kill 0\n"),
    "version 1": (
        "9:cpu,cpuacct:/\n4:memory:/job/7\n0::/\n",
        "memory/job/7/memory.oom_control",
        "oom_kill_disable 0\nunder_oom 0\noom_kill {count}\n",
    ),
    "container": ("0::/outside/of/it\n", "memory.events", "oom 2\noom_kill {count}\n"),
    "hybrid": ("5:memory:/\n0::/job\n", "memory/memory.oom_control", "oom_kill {count}\n"),
}


@pytest.mark.parametrize("kind", GROUPS)
def test_a_risen_counter_is_the_evidence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    groups, name, text = GROUPS[kind]
    file = tmp_path / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text.format(count=3))
    own = tmp_path / "groups"
    own.write_text(groups)
    monkeypatch.setattr(host_memory, "CGROUPS", tmp_path)
    monkeypatch.setattr(host_memory, "OWN_GROUPS", own)
    kills = host_memory.kill_count()
    assert kills == (str(file), 3)
    process = {"pid": os.getpid(), "kills": list(kills)}
    assert host_memory.was_killed(process) == ""
    file.write_text(text.format(count=4))
    assert host_memory.was_killed(process) == f"oom_kill in {file} has risen from 3 to 4"
    file.unlink()
    assert host_memory.was_killed(process) == "", "what cannot be read is no evidence"


def test_without_groups_the_system_tells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_memory, "CGROUPS", tmp_path)
    kills = host_memory.kill_count()
    (count,) = re.findall(r"^oom_kill (\d+)$", Path("/proc/vmstat").read_text(), re.MULTILINE)
    assert kills == ("/proc/vmstat", int(count))


@pytest.mark.parametrize(("limit", "left"), [("memory.max", 700), ("memory.limit_in_bytes", 700)])
def test_a_group_has_less_than_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, left: int
) -> None:
    first = limit == "memory.limit_in_bytes"
    folder = tmp_path / ("memory/job" if first else "job")
    folder.mkdir(parents=True)
    (tmp_path / "groups").write_text("4:memory:/job\n" if first else "0::/job\n")
    (folder / limit).write_text("1000\n")
    (folder / ("memory.usage_in_bytes" if first else "memory.current")).write_text("400\n")
    (folder / "memory.stat").write_text("anon 300\n" + ("total_inactive_file" if first else "inactive_file") + " 100\n")
    monkeypatch.setattr(host_memory, "CGROUPS", tmp_path)
    monkeypatch.setattr(host_memory, "OWN_GROUPS", tmp_path / "groups")
    assert host_memory.available() == left
    (folder / limit).write_text("max\n" if not first else str(1 << 62))
    assert host_memory.available() == pytest.approx(psutil.virtual_memory().available, rel=0.2)


def test_the_resident_memory_of_this_process() -> None:
    assert host_memory.resident() == pytest.approx(psutil.Process().memory_info().rss, rel=0.05)
