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

import re
from dataclasses import dataclass, field
from pathlib import Path

from ablate.errors import StoreError
from ablate.store.files import atomic_write, check_access, is_remote, parse_store
from ablate.store.stage import ReadRecords, StageFolder
from ablate.store.user_cache import user_cache


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
            return user_cache("data")
        return self.root / "data"

    def stage(self, signature: str) -> StageFolder:
        """The folder of a stage or a fork."""
        return StageFolder(self.root / "stages" / signature, self.records)

    def begun(self) -> set[str]:
        """The signatures of all stages and forks that have a folder, which may be empty."""
        try:
            return {folder.name for folder in (self.root / "stages").iterdir()}
        except (FileNotFoundError, NotADirectoryError):  # nothing has been written yet; the latter in object storage
            return set()

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
