"""The folder of one stage of training: its files, the record of the trial that ends with it, its status."""

import shutil
import threading
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from ablate.redaction import redact
from ablate.store import damage
from ablate.store.checksum import Damaged
from ablate.store.files import atomic_write, local, read_json, write_json
from ablate.store.host_memory import Kills
from ablate.store.leases import HEARTBEAT_S
from ablate.store.process import lives, this_process
from ablate.store.record import KEPT, Record, read_header
from ablate.store.steps import read_lines

Status = Literal["done", "diverged", "failed", "running", "pending"]


Phase = Literal["starting", "training", "saving", "probing"]
"""What a worker does: only while it is "training" are there steps, whose absence is a hang."""


Stamp = tuple[int, int]
"""Time of the last change in ns and size in bytes of a file."""


@dataclass(frozen=True)
class ReadRecords:
    """The records that have been read through one store, with the stamp of their file."""

    by_signature: dict[str, tuple[tuple[int, ...], Record | None]] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)


@dataclass(frozen=True)
class StageFolder:
    """The folder of one stage of training. `records`: those that this process has read, by signature."""

    root: Path
    records: ReadRecords = field(default_factory=ReadRecords, compare=False, repr=False)

    @property
    def settings(self) -> Path:
        """The trial's order (`Trial.order`) and the name of the stage."""
        return self.root / "settings.json"

    @property
    def steps(self) -> Path:
        """One JSON line of training metrics per logged step."""
        return self.root / "steps.jsonl"

    @property
    def checkpoint(self) -> Path:
        return self.root / "checkpoint.safetensors"

    @property
    def previous(self) -> Path:
        """The checkpoint before the last one, kept while the stage trains, in case the last one is damaged."""
        return self.root / "previous.safetensors"

    @property
    def record_file(self) -> Path:
        """The record of the trial that ends with this stage."""
        return self.root / "record.json"

    @property
    def per_image(self) -> Path:
        """Values of metrics per held-out picture (JSON)."""
        return self.root / "per_image.json"

    @property
    def pictures(self) -> Path:
        return self.root / "pictures"

    @property
    def running(self) -> Path:
        """The heartbeat of the worker that runs the trial."""
        return self.root / "running.json"

    @property
    def error(self) -> Path:
        """Why the stage failed, with the stack trace."""
        return self.root / "error.json"

    @property
    def stacks(self) -> Path:
        """The stacks of a worker that hung while it trained the stage."""
        return self.root / "stacks.txt"

    def record(self) -> Record | None:
        """The record; None if the trial is not finished. Its file is read once, and again only after it has changed.

        All callers get the same object, which they must not change; `read_record` gives one of its own.
        """
        try:
            found = self.record_file.stat()
        except FileNotFoundError:
            return None
        stamp = (found.st_mtime_ns, found.st_size, found.st_ino, getattr(found, "st_ctime_ns", 0))
        with self.records.lock:  # the driver and the mirror's thread ask at the same time
            kept = self.records.by_signature.get(self.root.name)
            if kept is None or kept[0] != stamp:
                kept = (stamp, self.read_record())
                self.records.by_signature[self.root.name] = kept
        return kept[1]

    def read_record(self) -> Record | None:
        """Read the record from its file; None if the trial is not finished, or if the file is damaged."""
        value = read_json(self.record_file)
        try:
            return None if value is None else Record.read(value, self.root.name)
        except Damaged as error:
            damage.report(self.record_file, error)
            return None

    def record_stamp(self) -> Stamp | None:
        """Time (ns) and size of the record's file; a copy with the same stamp is up to date. None without a record."""
        try:
            stat = self.record_file.stat()
        except FileNotFoundError:
            return None
        return stat.st_mtime_ns, stat.st_size

    def finish(self, record: Record) -> None:
        """Write the record of a finished trial, which is then never run again."""
        write_json(self.record_file, asdict(record))
        self.error.unlink(missing_ok=True)
        self.running.unlink(missing_ok=True)

    def beat(
        self,
        step: int,
        steps: int,
        phase: Phase = "training",
        activity: str = "",
        stacks: int | None = None,
        kills: Kills | None = None,
        room: int = 0,
    ) -> None:
        """Write a heartbeat: this process is working on the stage and has made `step` of `steps`.

        `activity`: of a command that trains, a text that changes whenever it writes something. `stacks`: where the
        process offers its stacks, see `ablate.engine.pulse`. `kills`, `room`: those of `host_memory` at its start.
        """
        state = {**this_process(), "time": time.time(), "step": step, "steps": steps, "phase": phase}
        state |= {"activity": activity, "stacks": stacks, "kills": kills, "room": room}
        write_json(self.running, state, durable=False)  # worth nothing after a power cut

    def fail(self, reason: str, trace: str) -> None:
        """Write why the stage failed, unless the disk is full."""
        with suppress(OSError):
            write_json(self.error, {"reason": redact(reason), "trace": redact(trace)})
        self.running.unlink(missing_ok=True)

    def has_ended(self, steps: int, *, whole: bool = False) -> bool:
        """Whether training to step `steps` has ended: the checkpoint says that it got there, or that it diverged.

        `whole`: also whether another stage can go on from the checkpoint, which needs all that it once held.
        """
        header = self.header()
        return header is not None and has_ended(header, steps) and not (whole and KEPT in header)

    def header(self) -> dict[str, Any] | None:
        """The header of the checkpoint; None if there is none, or if it is damaged, which is reported."""
        try:
            return read_header(self.checkpoint)
        except ValueError:
            damage.report(self.checkpoint, "its header cannot be read")
            return None

    def start_from_fork(self, fork: "StageFolder") -> None:
        """Copy a fork's log and checkpoint, as if its steps had been made here; do nothing if it has none yet."""
        with suppress(FileNotFoundError):  # another sweep has freed it meanwhile
            for target, source in ((self.steps, fork.steps), (self.checkpoint, fork.checkpoint)):
                if fork.checkpoint.exists() and source.exists():
                    with atomic_write(target) as temporary:
                        shutil.copyfile(local(source), temporary)

    def failure(self) -> str:
        """Why the stage failed; empty if it has not."""
        return str(self.read_error().get("reason", ""))

    def read_error(self) -> dict[str, Any]:
        """`reason` and `trace` of a failure; empty if there is none, or if the disk was full."""
        error = read_json(self.error)
        return error if isinstance(error, dict) else {}

    def status(self) -> Status:
        """The status of the trial that ends with this stage."""
        record = self.record()
        if record:
            return record.status
        if _alive(read_json(self.running)):
            return "running"
        return "failed" if self.error.exists() else "pending"

    def read_steps(self) -> list[dict[str, Any]]:
        """The logged lines; damaged ones, and a last line that was cut short by a kill, are left out."""
        return read_lines(self.steps) or []


def has_ended(header: dict[str, Any], steps: int) -> bool:
    """Whether training to step `steps` has ended, by the header of a checkpoint: it got there, or it diverged."""
    return "diverged" in header or header["step"] == steps


def _alive(running: dict[str, Any] | None) -> bool:
    """Whether the process of a heartbeat still runs; where that cannot be told, whether the heartbeat is recent."""
    if not isinstance(running, dict) or not {"host", "pid", "time"} <= running.keys():
        return False
    alive = lives(running)
    return time.time() - float(running["time"]) < HEARTBEAT_S if alive is None else alive
