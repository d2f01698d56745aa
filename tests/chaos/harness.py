"""A small study that a fault disturbs at a seeded moment, the same command until it ends well, and what was lost."""

import contextlib
import json
import random
import re
import shutil
import sqlite3
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.support.command import ablate, command, environment
from tests.support.studies import write_study

MARK = "ABLATE_CHAOS_CASE"
"""The variable of the environment by which the processes of a case are known."""

SHORT = (("steps: 6", "steps: 60"), ("log_every: 2, checkpoint_every: 3", "log_every: 5, checkpoint_every: 10"))
"""Four trials of 60 steps."""

LONGEST = 180.0
"""Seconds after which a command that does not end counts as hanging."""

TRIES = 5
"""How often the command is given again."""

STOPPED = 2.0
"""Seconds for which processes are stopped."""


@dataclass
class Case:
    """A store that a fault befalls. `how`: options of the sweep."""

    folder: Path
    random: random.Random
    name: str
    how: tuple[str, ...]
    study: Path = field(init=False)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True)
        self.study = write_study(self.folder, *SHORT)

    @property
    def store(self) -> Path:
        return self.folder / "runs"

    def start(self) -> "subprocess.Popen[str]":
        """The sweep in a process group of its own, its output in files, which no pipe holds up."""
        with (self.folder / "said.txt").open("a", encoding="utf-8") as said:
            return subprocess.Popen(
                command("sweep", self.study, "--store", self.store, *self.how), stdout=said, stderr=said, text=True,
                env=environment({MARK: self.name}), start_new_session=True,
            )  # fmt: skip

    def processes(self) -> list[psutil.Process]:
        """All processes of the case that run."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.environ().get(MARK) == self.name and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def named(self, *words: str) -> list[psutil.Process]:
        """Its processes whose command line has one of these words."""
        found = []
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                if any(word in " ".join(process.cmdline()) for word in words):
                    found.append(process)
        return found

    def records(self) -> dict[str, bytes]:
        """The record of each finished trial."""
        return {path.parent.name: path.read_bytes() for path in self.store.glob("stages/*/record.json")}

    def said(self) -> str:
        return (self.folder / "said.txt").read_text(encoding="utf-8")


Fault = Callable[[Case, "subprocess.Popen[str]"], None]
"""What happens to a sweep that runs."""

Damage = Callable[[Case], None]
"""What happens to a store while nothing runs."""


@dataclass(frozen=True)
class Outcome:
    """What a case left. `recovery`: seconds from the fault to the end of the command that ended well."""

    fault: str
    survived: bool
    lost: int
    twice: int
    identical: bool
    duplicates: int
    orphans: int
    litter: tuple[str, ...]
    traceback: bool
    recovery: float

    @property
    def good(self) -> bool:
        bad = (self.lost, self.twice, self.duplicates, self.orphans, self.litter, self.traceback)
        return self.survived and self.identical and not any(bad)


def disturb(case: Case, fault: Fault | None, damage: Damage | None, undisturbed: Path) -> Outcome:
    """Start the sweep, let the fault happen at a seeded moment, and give the command again until it ends well."""
    name = (fault or damage).__name__  # type: ignore[union-attr]
    before: dict[str, bytes] = {}
    begun = time.monotonic()
    ended: int | None = None

    # The fault.
    if fault:
        process = case.start()
        _wait_for_moment(case, process)
        before = case.records()
        begun = time.monotonic()
        fault(case, process)
        ended = _end(case, process)
    if damage:
        _prepare(case, undisturbed)
        before = case.records()
        begun = time.monotonic()
        damage(case)
        before = {name: record for name, record in before.items() if case.records().get(name) == record}

    # The same command, until it ends well.
    for _ in range(TRIES):
        if ended == 0:
            break
        ended = _end(case, case.start())
    recovery = time.monotonic() - begun

    # What is left.
    after = case.records()
    survived = ended == 0
    identical = survived and table(case.study, case.store) == table(case.study, undisturbed)
    return Outcome(
        name, survived, sum(name not in after for name in before),
        sum(_training(after.get(name, record)) != _training(record) for name, record in before.items()), identical,
        sum(count - 1 for count in mirrored(case.store).values()), _orphans(case), litter(case.store, undisturbed),
        "Traceback (most recent call last)" in case.said(), recovery,
    )  # fmt: skip


def _training(record: bytes) -> float:
    """The seconds of training in a record, which stay when its trial is only probed again."""
    return float(json.loads(record)["train_s"])


def _wait_for_moment(case: Case, process: "subprocess.Popen[str]") -> None:
    """Until a seeded number of files has been written to the store, and a little longer."""
    files = case.random.choice((0, 1, 4, 8, 14, 22, 30))
    deadline = time.monotonic() + LONGEST
    while process.poll() is None and time.monotonic() < deadline:
        if sum(1 for path in case.store.rglob("*") if path.is_file()) >= files:
            break
        time.sleep(0.05)
    time.sleep(case.random.uniform(0, 0.5))


def _prepare(case: Case, undisturbed: Path) -> None:
    """A finished store, or one that was killed in its middle."""
    if case.random.random() < 0.5:
        shutil.copytree(undisturbed, case.store)
        return
    process = case.start()
    _wait_for_moment(case, process)
    kill(case.processes())
    process.wait(LONGEST)


def _end(case: Case, process: "subprocess.Popen[str]") -> int:
    """The exit code; a command that hangs is killed, and that is said."""
    try:
        return process.wait(LONGEST)
    except subprocess.TimeoutExpired:
        with (case.folder / "said.txt").open("a", encoding="utf-8") as said:
            said.write(f"\nchaos: the command did not end within {LONGEST:.0f} s\n")
        kill(case.processes())
        return process.wait(LONGEST) or 1


def _orphans(case: Case) -> int:
    """Processes that still run ten seconds after the end."""
    deadline = time.monotonic() + 10
    while (left := case.processes()) and time.monotonic() < deadline:
        time.sleep(0.2)
    kill(left)
    return len(left)


def kill(processes: list[psutil.Process]) -> None:
    """SIGKILL at once, as a crash of the machine would."""
    for act in (psutil.Process.suspend, psutil.Process.kill):
        for process in processes:
            with contextlib.suppress(psutil.Error):
                act(process)


def table(study: Path, store: Path) -> str:
    """The table as CSV, without what differs from run to run."""
    done = ablate("table", study, "--store", store, "--format", "csv")
    return done.stdout if done.returncode == 0 else f"table failed: {done.stderr}"


def mirrored(store: Path) -> Counter[str]:
    """How many runs MLflow has of each trial."""
    if not (store / "mlflow.db").exists():
        return Counter()
    with contextlib.closing(sqlite3.connect(store / "mlflow.db")) as database:
        found = database.execute(
            "select r.name from runs r join tags t using (run_uuid) where t.key = 'ablate.role' and t.value = 'trial' "
            "and r.lifecycle_stage = 'active'"
        )
        return Counter(name for (name,) in found.fetchall())


def litter(store: Path, undisturbed: Path) -> tuple[str, ...]:
    """Kinds of files that an undisturbed store does not have. What was damaged may be kept under `damaged/`."""

    def kinds(root: Path) -> set[str]:
        names = (
            str(path.relative_to(root)) for path in root.rglob("*") if path.is_file() and "damaged" not in path.parts
        )
        return {
            re.sub(r"[0-9a-f]{8,}|\d+", "N", name) for name in names if not name.startswith(("mlartifacts", "mlflow"))
        }

    return tuple(sorted(kinds(store) - kinds(undisturbed)))
