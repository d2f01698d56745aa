"""An MLflow experiment and its runs. Writing the same thing twice changes nothing."""

import contextlib
import functools
import io
import json
import logging
import os
import sqlite3
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ablate.errors import ServerError
from ablate.redaction import redact

CLIENT_SETTINGS = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",  # with MLflow's default of 7 a sweep would wait minutes for a dead server
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # stdout is for results
    "MLFLOW_DISABLE_TELEMETRY": "true",
}
"""Environment variables that make MLflow quiet and quick to give up."""


DIGEST_LENGTH = 36
"""The longest digest of a data set that MLflow accepts."""


TAG_LENGTH = 8000
"""Longer tag values of a run are cut to this length, MLflow's limit."""


REASON_LENGTH = 600
"""Characters of an error of MLflow that are shown."""


NETWORK_FILE_SYSTEMS = ("nfs", "cifs", "smb", "lustre", "ceph", "gpfs", "beegfs", "afs", "9p", "fuse")


GRID_PX = 256
"""The side of a picture in MLflow's image grid, px."""


@dataclass
class Run:
    """A run as last read or written. `start_ms`: when it started, in ms since 1970."""

    id: str
    start_ms: int
    status: str
    tags: dict[str, str]
    metrics: dict[str, float]
    params: dict[str, str]

    @classmethod
    def from_mlflow(cls, run: Any) -> "Run":
        """Convert MLflow's own object."""
        data = run.data
        return cls(run.info.run_id, run.info.start_time, run.info.status, data.tags, data.metrics, data.params)


def connect(uri: str) -> Any:
    """An `MlflowClient` that is quiet and gives up soon; variables set in the environment take precedence."""
    for name, value in CLIENT_SETTINGS.items():
        os.environ.setdefault(name, value)
    from mlflow import MlflowClient

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)  # logs each error as a traceback, then raises
    _use_sqlite_write_ahead()
    return MlflowClient(uri)


def unusable(uri: str, error: Exception) -> ServerError:
    """What to raise where MLflow, or a package that it uses, has raised an error."""
    reason = redact(f"{type(error).__name__}: {' '.join(str(error).split())}")
    return ServerError(f"MLflow at {uri} cannot be used: {reason[:REASON_LENGTH]}")


@functools.cache
def _use_sqlite_write_ahead() -> None:
    """Open SQLite databases in write-ahead mode, in which a commit does not wait for the disk.

    If the machine loses power, the last commits are lost, but the database stays intact; `ablate sync` sends them
    again. Not on network file systems, which lack the shared memory that this mode needs.
    """
    from sqlalchemy import Engine, event

    @event.listens_for(Engine, "connect")
    def on_connect(connection: Any, _: Any) -> None:
        if isinstance(connection, sqlite3.Connection):
            [(_, _, file), *_] = connection.execute("PRAGMA database_list").fetchall()
            with contextlib.suppress(sqlite3.OperationalError):  # another process is using it
                if _is_on_network(Path(file)):
                    return
                if connection.execute("PRAGMA journal_mode=WAL").fetchone() == ("wal",):
                    connection.execute("PRAGMA synchronous=NORMAL")


def _is_on_network(path: Path) -> bool:
    """Whether a file is on a network file system; false where there is no /proc."""
    mounts = Path("/proc/self/mounts")
    if not mounts.exists():
        return False
    fields = [line.split() for line in mounts.read_text(encoding="utf-8").splitlines()]
    types = {Path(mount): file_system for _, mount, file_system, *_ in fields}
    file_system = next(types[folder] for folder in path.parents if folder in types)
    return file_system.startswith(NETWORK_FILE_SYSTEMS)


class Experiment:
    """An experiment, found by its name or created. Raises MLflow's errors.

    `folder`: where a new experiment keeps its files; None leaves the choice to the server.
    """

    def __init__(self, uri: str, name: str, folder: Path | None, tags: dict[str, str]):
        self.client = connect(uri)
        known = self.client.get_experiment_by_name(name)
        if known is None:
            location = folder.resolve().as_uri() if folder else None
            known = self.client.get_experiment(self.client.create_experiment(name, location, tags))
        elif known.lifecycle_stage == "deleted":
            self.client.restore_experiment(known.experiment_id)
        self.id: str = known.experiment_id
        self.created: int = known.creation_time
        self.tags: dict[str, str] = dict(known.tags)
        self.tag(tags)

    def tag(self, tags: Mapping[str, str]) -> None:
        """Set those tags of the experiment that differ."""
        for key, value in tags.items():
            if self.tags.get(key) != value:
                self.client.set_experiment_tag(self.id, key, value)
                self.tags[key] = value

    def runs(self) -> list[Run]:
        """All runs that have not been deleted."""
        runs: list[Run] = []
        token = None
        while True:
            page = self.client.search_runs([self.id], max_results=1000, page_token=token)
            runs += map(Run.from_mlflow, page)
            token = page.token
            if not token:
                return runs

    def create(self, name: str, tags: dict[str, str], start_ms: int) -> Run:
        """Create a run, running since `start_ms`."""
        return Run.from_mlflow(self.client.create_run(self.id, start_ms, tags, name))

    def write(
        self,
        run: Run,
        points: Mapping[tuple[str, int], float] | None = None,
        params: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
        time_ms: int | None = None,
    ) -> None:
        """Write points, (metric, step) -> finite value, and the params and tags that the run lacks, in one call.

        All points get the same time stamp, by default the start of the run, because MLflow's database drops a point
        whose metric, step, value and time it has already. A param that the run has is left as it is: MLflow does not
        allow another value.
        """
        from mlflow.entities import Metric, Param, RunTag

        new_params = {key: value for key, value in (params or {}).items() if key not in run.params}
        cut = {key: value[:TAG_LENGTH] for key, value in (tags or {}).items()}
        new_tags = {key: value for key, value in cut.items() if run.tags.get(key) != value}
        if points or new_params or new_tags:
            stamp = run.start_ms if time_ms is None else time_ms
            self.client.log_batch(
                run.id,
                [Metric(name, value, stamp, step) for (name, step), value in (points or {}).items()],
                [Param(key, value) for key, value in new_params.items()],
                [RunTag(key, value) for key, value in new_tags.items()],
            )
            run.metrics |= {name: value for (name, _), value in (points or {}).items()}
            run.params |= new_params
            run.tags |= new_tags

    def untag(self, run: Run, key: str) -> None:
        """Delete a tag that the run has."""
        self.client.delete_tag(run.id, key)
        del run.tags[key]

    def send(self, run: Run, files: Mapping[str, str | bytes]) -> None:
        """Send artifacts: path within the run -> content. A file with the same path is replaced."""
        with tempfile.TemporaryDirectory() as scratch:
            for name, content in files.items():
                path = Path(scratch) / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content.encode() if isinstance(content, str) else content)
            self.client.log_artifacts(run.id, scratch)

    def send_data_set(self, run: Run, name: str, digest: str, source: Any) -> None:
        """Log the data set that a run was trained on; `source` is any JSON value."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        used = Dataset(name, digest[:DIGEST_LENGTH], "local", json.dumps(source))
        self.client.log_inputs(run.id, [DatasetInput(used, [InputTag("mlflow.data.context", "training")])])

    def resume(self, run: Run) -> None:
        """Show an ended run as running."""
        if run.status != "RUNNING":
            self.client.update_run(run.id, "RUNNING")
            run.status = "RUNNING"

    def end(self, run: Run, status: str, time_ms: int | None = None) -> None:
        """End a run as FINISHED, FAILED or KILLED, at a time in ms since 1970 (default: now)."""
        self.client.set_terminated(run.id, status, time_ms)
        run.status = status


def grid_files(picture: Path, section: str, unique: str) -> dict[str, bytes]:
    """The files that MLflow's image grid expects for a picture: the original, and one enlarged by a whole factor.

    The names are those of `MlflowClient.log_image`, with `unique` in place of its random part, so that a picture is
    replaced and not doubled. `log_image` itself would resize bicubically and compress with loss, which hides artifacts.
    """
    from PIL import Image

    content = picture.read_bytes()
    with Image.open(io.BytesIO(content)) as image:
        factor = max(1, GRID_PX // max(image.size))
        enlarged = image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)
    shown = io.BytesIO()
    enlarged.save(shown, "WEBP", lossless=True, method=0)  # 25 times faster than the default, a fifth larger
    stem = f"images/{section}~{picture.stem}+step+0+timestamp+0+{unique}"
    return {f"{stem}.png": content, f"{stem}+compressed.webp": shown.getvalue()}
