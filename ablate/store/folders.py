"""The layout of the store. Every path is a property of one of the classes here; every file is complete or absent.

The root is a folder, local or shared, or a location in object storage such as `s3://bucket/runs` (see `parse_store`).

<root>/
  mlflow.db, mlartifacts/        the MLflow mirror; `ablate sync STUDY` sends what it lacks
  data/<hash>/                   decoded pictures, shared by all trials
  code/<hash>.json               the user's own levels, as the trials of a study ran them
  hashes/<hash>.json             content hashes of files that studies name, by path, size and times
  content/<hash>.json            names and content hashes of files that trials were made from
  needs/<hash>.json              footprints: what a training step costs, by device
  studies/<name>/<scale>/        the study file as last run, its tables; of a run with --set in <scale>+<hash>/
  stages/<signature>/            one stage of training: settings, steps, checkpoint, pictures, record
  stale/<signature>/             a stage whose code or data have changed since, set aside when it was run again
  **/damaged/                    files that were not as they had been written, moved aside when they were replaced
  leases/<name>.json             who works on a study or a stage: see `ablate.store.leases`
"""

import os
import re
import shutil
import threading
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from ablate.errors import StoreError
from ablate.redaction import redact
from ablate.store import damage
from ablate.store.checksum import Damaged
from ablate.store.files import atomic_write, check_access, is_remote, local, parse_store, read_json, write_json
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
    ) -> None:
        """Write a heartbeat: this process is working on the stage and has made `step` of `steps`.

        `activity`: of a command that trains, a text that changes whenever it writes something. `stacks`: where the
        process offers its stacks, see `ablate.engine.pulse`. `kills`: `host_memory.kill_count` at its start.
        """
        state = {**this_process(), "time": time.time(), "step": step, "steps": steps, "phase": phase}
        state |= {"activity": activity, "stacks": stacks, "kills": kills}
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


@dataclass(frozen=True)
class StudyFolder:
    """The folder of one variant of a study. Its trials are in the folders of their stages."""

    root: Path

    @property
    def card(self) -> Path:
        """The study as last run: question, file, overrides, scale, trials (JSON)."""
        return self.root / "study.json"

    @property
    def source(self) -> Path:
        """A copy of the study file as last run."""
        return self.root / "study.yaml"

    def searched(self, tuned: str = "") -> Path:
        """What the study's search has suggested so far, or what tuning has; `tuned`: the signature of the treatment."""
        return self.root / "tuning" / f"{tuned}.json" if tuned else self.root / "searched.json"

    @property
    def records(self) -> Path:
        """A copy of the trials' records in one file, if there are many: see `ablate.analysis.records.compact`."""
        return self.root / "records.parquet"

    @property
    def report(self) -> Path:
        return self.root / "report.html"

    @property
    def replicates(self) -> Path:
        """How many seeds each treatment has, where their number grows until an effect is known well enough."""
        return self.root / "replicates.json"

    @property
    def rungs(self) -> Path:
        """What pruning has decided at each rung."""
        return self.root / "rungs.json"

    def table(self, suffix: str) -> Path:
        return self.root / f"table.{suffix}"


@dataclass(frozen=True)
class Store:
    """All results, under one folder. `records`: those that were read through this object, by signature."""

    root: Path
    records: ReadRecords = field(default_factory=ReadRecords, compare=False, repr=False)

    def check(self) -> None:
        """Raise StoreError if the store is not writable."""
        try:
            with atomic_write(self.root / ".writable") as temporary:
                temporary.write_bytes(b"")
            (self.root / ".writable").unlink(missing_ok=True)
        except OSError as error:
            reason = error.strerror or str(error)
            raise StoreError(f"the store {self.root} cannot be written: {reason}; name another with --store") from None

    @property
    def mlflow_uri(self) -> str:
        """The default database of the mirror. Raises StoreError for object storage, which cannot hold one."""
        if is_remote(self.root):
            raise StoreError(f"the store {self.root} cannot hold MLflow's database: use --tracking URI or none")
        return f"sqlite:///{(self.root / 'mlflow.db').resolve()}"

    @property
    def mlflow_artifacts(self) -> Path:
        return self.root / "mlartifacts"

    @property
    def data(self) -> Path:
        """Decoded pictures, in folders named by content; on this machine even if the store is in object storage."""
        if is_remote(self.root):
            return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "ablate" / "data"
        return self.root / "data"

    def stage(self, signature: str) -> StageFolder:
        """The folder of a stage or a fork."""
        return StageFolder(self.root / "stages" / signature, self.records)

    def footprint(self, configuration: str) -> Path:
        """What a training step of a configuration costs, by device: see `ablate.plan.footprint`."""
        return self.root / "needs" / f"{configuration}.json"

    def code(self, key: str) -> Path:
        """Own levels and modules, as they were when a study was run: see `ablate.store.code`. Raises StoreError."""
        if not re.fullmatch(r"[0-9A-Za-z_-]{1,64}", key):
            raise StoreError(f"a file of the store {self.root} is damaged: it names the own code '{key}', no hash")
        return self.root / "code" / f"{key}.json"

    def content(self, digest: str) -> Path:
        """The files that trials were made from, by the hash of their contents: see `ablate.data.content`."""
        return self.root / "content" / f"{digest}.json"

    def set_aside(self, signature: str) -> Path:
        """Where a stage whose code or data have changed since is moved when it is run again."""
        return self.root / "stale" / signature

    def stage_signatures(self) -> set[str]:
        """Signatures of all stages that have a folder here."""
        return {folder.name for folder in (self.root / "stages").glob("*")}

    def study(self, name: str, variant: str) -> StudyFolder:
        """The folder of a study; `variant`: see `Study.variant`."""
        return StudyFolder(self.root / "studies" / name / variant)

    def studies(self) -> dict[str, list[str]]:
        """Names of the studies in the store, each with its variants; the one run last comes first."""
        cards = sorted((self.root / "studies").glob("*/*/study.json"), key=lambda path: -path.stat().st_mtime)
        found: dict[str, list[str]] = {}
        for card in cards:
            found.setdefault(card.parent.parent.name, []).append(card.parent.name)
        return found


def open_store(location: str | Path) -> Store:
    """The store at a folder or in object storage. Raises StoreError for one that cannot be used; creates nothing."""
    root = parse_store(location)
    check_access(root)
    return Store(root)
