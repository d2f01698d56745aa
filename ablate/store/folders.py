"""The store: one folder per signature, every path a property of one object, every file whole or absent.

Its root is a folder, local or shared, or a place in object storage such as `s3://bucket/runs` (see `parse_store`).

<root>/
  mlflow.db, mlartifacts/        the mirror; can be rebuilt with `ablate sync`
  data/<hash>/                   decoded pictures, shared by all trials
  studies/<name>/<scale>/        the study file as it was last run, its tables
  stages/<signature>/            one stage of training: settings, steps, checkpoint, pictures, record
"""

import json
import os
import shutil
import socket
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from ablate.store.files import StoreError, is_remote, local, read_json, whole, write_json
from ablate.store.record import Record, read_header

Status = Literal["done", "diverged", "failed", "running", "pending"]


Stamp = tuple[int, int]
"""Time of the last change in ns and size in bytes of a file."""


HEARTBEAT_S = 60.0
"""A stage that has not reported for this long, on another machine, counts as dead."""


@dataclass(frozen=True)
class StageFolder:
    """Everything on disk of one stage of training. `records`: those that this process has read, by signature."""

    root: Path
    records: dict[str, tuple[tuple[int, ...], Record | None]] = field(default_factory=dict, compare=False, repr=False)

    @property
    def settings(self) -> Path:
        return self.root / "settings.json"

    @property
    def steps(self) -> Path:
        """One JSON line of training metrics per logged step."""
        return self.root / "steps.jsonl"

    @property
    def checkpoint(self) -> Path:
        return self.root / "checkpoint.safetensors"

    @property
    def record_file(self) -> Path:
        return self.root / "record.json"

    @property
    def per_image(self) -> Path:
        return self.root / "per_image.json"

    @property
    def pictures(self) -> Path:
        return self.root / "pictures"

    @property
    def running(self) -> Path:
        return self.root / "running.json"

    @property
    def error(self) -> Path:
        return self.root / "error.json"

    def record(self) -> Record | None:
        """The record; None if there is none. Its file is read once and again only after it has changed.

        All who ask get the same object: `read_record` gives one that may be changed.
        """
        try:
            found = self.record_file.stat()
        except FileNotFoundError:
            return None
        stamp = (found.st_mtime_ns, found.st_size, found.st_ino, getattr(found, "st_ctime_ns", 0))
        kept = self.records.get(self.root.name)
        if kept is None or kept[0] != stamp:
            kept = (stamp, self.read_record())
            self.records[self.root.name] = kept
        return kept[1]

    def read_record(self) -> Record | None:
        """The record, read from its file; None if there is none."""
        value = read_json(self.record_file)
        return Record(**value) if value else None

    def record_stamp(self) -> Stamp | None:
        """Time (ns) and size of the record's file, by which a copy of it is known to be still true; None if none."""
        try:
            found = self.record_file.stat()
        except FileNotFoundError:
            return None
        return found.st_mtime_ns, found.st_size

    def finish(self, record: Record) -> None:
        """The last write of a trial; from here on it is never run again."""
        write_json(self.record_file, asdict(record))
        self.error.unlink(missing_ok=True)
        self.running.unlink(missing_ok=True)

    def beat(self, step: int, steps: int) -> None:
        """Say that this process is at work on the stage."""
        host = {"host": socket.gethostname(), "pid": os.getpid(), "time": time.time()}
        write_json(self.running, {**host, "step": step, "steps": steps})

    def fail(self, reason: str, trace: str) -> None:
        """Keep why the stage failed, if there is room for it."""
        with suppress(OSError):
            write_json(self.error, {"reason": reason, "trace": trace})
        self.running.unlink(missing_ok=True)

    def has_ended(self, steps: int) -> bool:
        """Whether its training of so many steps is over: by its checkpoint it has made them all, or diverged."""
        known = read_header(self.checkpoint)
        return known is not None and ("diverged" in known or known["step"] == steps)

    def go_on_from(self, fork: "StageFolder") -> None:
        """Begin with the steps that were made up to a fork, as if they had been made here. None yet: do nothing."""
        for own, made in ((self.steps, fork.steps), (self.checkpoint, fork.checkpoint)):
            if fork.checkpoint.exists():
                with whole(own) as temporary:
                    shutil.copyfile(local(made), temporary)

    def failure(self) -> str:
        """Why the stage failed; empty if it did not."""
        return str((read_json(self.error) or {}).get("reason", ""))

    def status(self) -> Status:
        record = self.record()
        if record:
            return record.status
        if _alive(read_json(self.running)):
            return "running"
        return "failed" if self.error.exists() else "pending"

    def read_steps(self) -> list[dict[str, Any]]:
        """The logged steps; a line that a kill cut short is left out."""
        if not self.steps.exists():
            return []
        lines = self.steps.read_text(encoding="utf-8").split("\n")[:-1]
        return [json.loads(line) for line in lines if line]


def _alive(running: dict[str, Any] | None) -> bool:
    if running is None:
        return False
    if running["host"] != socket.gethostname():
        return time.time() - float(running["time"]) < HEARTBEAT_S
    try:
        os.kill(running["pid"], 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    stat = Path(f"/proc/{running['pid']}/stat")  # a killed process that nobody has waited for still answers signals
    return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] != "Z"


@dataclass(frozen=True)
class StudyFolder:
    """What the store keeps of one study at one scale, beyond its trials."""

    root: Path

    @property
    def card(self) -> Path:
        """The study as last run: question, file, overrides, scale, trials."""
        return self.root / "study.json"

    @property
    def source(self) -> Path:
        """A copy of the study file as last run."""
        return self.root / "study.yaml"

    def searched(self, tunes: str = "") -> Path:
        """What a search has suggested so far, or the tuning of a treatment, which has a signature for its name."""
        return self.root / "tuning" / f"{tunes}.json" if tunes else self.root / "searched.json"

    @property
    def records(self) -> Path:
        """A copy of the records of its trials, where there are many: see `analysis/compact.py`."""
        return self.root / "records.parquet"

    @property
    def report(self) -> Path:
        return self.root / "report.html"

    @property
    def replicates(self) -> Path:
        """How many seeds each treatment has come to need."""
        return self.root / "replicates.json"

    @property
    def rungs(self) -> Path:
        """What pruning has decided at its rungs."""
        return self.root / "rungs.json"

    def table(self, suffix: str) -> Path:
        return self.root / f"table.{suffix}"


@dataclass(frozen=True)
class Store:
    """All results under one folder. `records`: those that were read through this object, by signature."""

    root: Path
    records: dict[str, tuple[tuple[int, ...], Record | None]] = field(default_factory=dict, compare=False, repr=False)

    def check(self) -> None:
        """Raise StoreError if nothing can be written here."""
        try:
            with whole(self.root / ".writable") as temporary:
                temporary.write_bytes(b"")
            (self.root / ".writable").unlink()
        except OSError as error:
            raise StoreError(f"the store {self.root} cannot be written: {error}") from None

    @property
    def mlflow_uri(self) -> str:
        """The default place of the mirror. Raises StoreError for object storage, which cannot hold a database."""
        if is_remote(self.root):
            raise StoreError(f"the store {self.root} cannot hold MLflow's database: give --tracking URI, or none")
        return f"sqlite:///{(self.root / 'mlflow.db').resolve()}"

    @property
    def mlflow_artifacts(self) -> Path:
        return self.root / "mlartifacts"

    @property
    def data(self) -> Path:
        """Decoded pictures; on this machine where the store is not a folder. They are named by their content."""
        if is_remote(self.root):
            return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "ablate" / "data"
        return self.root / "data"

    def stage(self, signature: str) -> StageFolder:
        """The folder of a stage or a fork."""
        return StageFolder(self.root / "stages" / signature, self.records)

    def needs(self, configuration: str) -> Path:
        """What a step of a configuration needs, by device."""
        return self.root / "needs" / f"{configuration}.json"

    def set_aside(self, signature: str) -> Path:
        """What other code had left of a stage that was run again."""
        return self.root / "stale" / signature

    def held(self) -> set[str]:
        """Signatures of the stages that have left anything here."""
        return {folder.name for folder in (self.root / "stages").glob("*")}

    def study(self, name: str, scale: str) -> StudyFolder:
        return StudyFolder(self.root / "studies" / name / scale)

    def studies(self) -> dict[str, list[str]]:
        """Names of the studies that the store holds, each with its scales, the last run first."""
        cards = sorted((self.root / "studies").glob("*/*/study.json"), key=lambda path: -path.stat().st_mtime)
        found: dict[str, list[str]] = {}
        for card in cards:
            found.setdefault(card.parent.parent.name, []).append(card.parent.name)
        return found
