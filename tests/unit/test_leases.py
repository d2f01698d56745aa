"""Leases: one holder at a time, among processes that race; those of the dead are taken over, once."""

import errno
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rich.console import Console

from ablate.driver.only import only_driver
from ablate.store import leases
from ablate.store.folders import Store
from ablate.store.leases import HEARTBEAT_S, Leases, is_held
from ablate.store.process import lives, this_process
from ablate.study.study import Study

RACER = """
import sys, time
from pathlib import Path
from ablate.store.leases import Leases
root, start, count = Path(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
mine = Leases(root, "a test")
time.sleep(max(0, start - time.time()))
print(*[name for name in map(str, range(count)) if mine.take(name)])
sys.stdout.flush()
sys.stdin.read()
"""


def race(root: Path, processes: int = 5, count: int = 40) -> list[str]:
    """The leases that processes racing for them have got, all of them alive until the end."""
    line = [sys.executable, "-c", RACER, str(root), str(time.time() + 1.5), str(count)]
    racers = [
        subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(processes)
    ]
    taken = [name for racer in racers if racer.stdout for name in racer.stdout.readline().split()]
    for racer in racers:
        racer.communicate()
    return taken


def a_dead_process() -> dict[str, object]:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    return {**this_process(), "pid": child.pid}


def left_behind(root: Path, name: str, process: dict[str, object], age: float = 0.0) -> Path:
    """The lease that a process has left, last touched `age` seconds ago."""
    file = root / "leases" / f"{name}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"token": f"of {name}", "work": "a sweep", "since": 0.0, **process}))
    os.utime(file, (time.time() - age, time.time() - age))
    return file


def test_of_processes_that_race_one_gets_each_lease(tmp_path: Path) -> None:
    assert sorted(race(tmp_path), key=int) == [str(i) for i in range(40)]


def test_the_lease_of_a_dead_process_is_taken_over_at_once_and_by_one(tmp_path: Path) -> None:
    dead = a_dead_process()
    for i in range(40):
        left_behind(tmp_path, str(i), dead)
    assert sorted(race(tmp_path), key=int) == [str(i) for i in range(40)]


def test_leases_of_the_dead_are_cleared_and_no_others(tmp_path: Path) -> None:
    """Of whole chains, too: of a dead process that had taken its lease over from another one."""
    here = Leases(tmp_path, "here")
    left_behind(tmp_path, "dead", a_dead_process())
    left_behind(tmp_path, "dead.of dead", a_dead_process())
    left_behind(tmp_path, "elsewhere", {**this_process(), "host": "another"})
    left_behind(tmp_path, "silent", {**this_process(), "host": "another"}, age=HEARTBEAT_S + 5)
    other = Leases(tmp_path, "other")
    assert here.take("mine") and other.take("theirs")
    here.clear()
    left = {file.name for file in (tmp_path / "leases").iterdir()}
    assert left == {"elsewhere.json", "mine.json", "theirs.json"}
    assert is_held(tmp_path, here.ticket("mine")) and is_held(tmp_path, other.ticket("theirs"))


def test_a_new_driver_deletes_what_a_dead_one_has_left(tiny: Study, tmp_path: Path) -> None:
    """Also where nothing is left to run, so that no stage's lease would be taken over."""
    left_behind(tmp_path, "a stage", a_dead_process())
    with only_driver(tiny, Store(tmp_path), Console(quiet=True)):
        assert [file.name for file in (tmp_path / "leases").iterdir()] == ["study-tiny@base.json"]
    assert not list((tmp_path / "leases").iterdir())


def test_a_lease_is_free_again_after_its_release(tmp_path: Path) -> None:
    one, two = Leases(tmp_path, "one"), Leases(tmp_path, "two")
    assert one.take("x") and one.take("x") and not two.take("x")
    ticket = one.ticket("x")
    assert is_held(tmp_path, ticket) and "one (pid" in str(two.holder("x"))
    two.release("x")  # which it does not hold
    assert is_held(tmp_path, ticket)
    one.release("x")
    assert not is_held(tmp_path, ticket) and two.take("x")
    two.close()
    assert not list((tmp_path / "leases").iterdir())


@pytest.mark.parametrize(("age", "free"), [(HEARTBEAT_S / 2, False), (HEARTBEAT_S * 2, True)])
@pytest.mark.parametrize("place", [{"host": "elsewhere"}, {"boot": "before"}, {"space": "pid:[1]"}])
def test_where_a_process_cannot_be_asked_its_heartbeat_tells(
    tmp_path: Path, place: dict[str, str], age: float, free: bool
) -> None:
    """On another machine, before the machine was started again, in another container."""
    holder = {**this_process(), **place}
    assert lives(holder) is None
    left_behind(tmp_path, "x", holder, age)
    assert Leases(tmp_path, "me").take("x") == free


def test_a_process_id_that_is_used_again_is_no_holder(tmp_path: Path) -> None:
    mine = this_process()
    assert lives(mine) is True and lives({**mine, "started": "12"}) is False


def test_who_was_taken_over_knows_and_releases_nothing(tmp_path: Path) -> None:
    sleeper, other = Leases(tmp_path, "sleeper"), Leases(tmp_path, "other")
    assert sleeper.take("x")
    ticket, file = sleeper.ticket("x"), tmp_path / "leases" / "x.json"
    elsewhere = json.loads(file.read_text()) | {"host": "elsewhere"}
    file.write_text(json.dumps(elsewhere))
    os.utime(file, (0, 0))
    assert other.take("x") and not is_held(tmp_path, ticket)
    sleeper.release("x")
    assert is_held(tmp_path, other.ticket("x"))


def test_who_comes_late_to_a_dead_holder_does_not_get_what_was_released(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between its look and its take-over, another process takes over and ends, and a third one holds the lease."""
    left_behind(tmp_path, "x", a_dead_process())
    late, quick, third = (Leases(tmp_path, name) for name in ("late", "quick", "third"))
    create = leases._create

    def after_the_others(file: Path, text: str) -> bool:
        monkeypatch.setattr(leases, "_create", create)
        assert quick.take("x")
        quick.release("x")
        assert third.take("x")
        return create(file, text)

    monkeypatch.setattr(leases, "_create", after_the_others)
    assert not late.take("x") and is_held(tmp_path, third.ticket("x"))
    third.close()
    assert not list((tmp_path / "leases").iterdir())


def test_a_file_system_without_hard_links_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    one, two = Leases(tmp_path, "one"), Leases(tmp_path, "two")
    assert one.take("x") and not two.take("x")


def test_a_lease_that_cannot_be_read_counts_for_as_long_as_it_is_fresh(tmp_path: Path) -> None:
    file = left_behind(tmp_path, "x", this_process())
    file.write_bytes(bytes(40))
    assert not Leases(tmp_path, "me").take("x")
    os.utime(file, (0, 0))
    assert Leases(tmp_path, "me").take("x")


def test_held_leases_are_touched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "BEAT_S", 0.01)
    with Leases(tmp_path, "me") as mine:
        assert mine.take("x")
        file = tmp_path / "leases" / "x.json"
        os.utime(file, (0, 0))
        while file.stat().st_mtime == 0:  # until pytest's limit
            time.sleep(0.01)
