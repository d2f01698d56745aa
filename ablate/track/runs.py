"""An MLflow experiment and its runs, written so that to say a thing twice changes nothing."""

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

CAUTION = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",  # MLflow's own 7 would hold a sweep up for minutes when the server is gone
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # stdout is for results
    "MLFLOW_DISABLE_TELEMETRY": "true",
}


DIGEST_LENGTH = 36
"""The longest digest of a data set that MLflow takes."""


TAG_LENGTH = 8000
"""Longer values of a run's tags are cut."""


NETWORK_FILE_SYSTEMS = ("nfs", "cifs", "smb", "lustre", "ceph", "gpfs", "beegfs", "afs", "9p", "fuse")


GRID_PX = 256
"""Side of the pictures in MLflow's image grid."""


@dataclass
class Run:
    """A run as last seen. `begun`: ms since 1970."""

    id: str
    begun: int
    status: str
    tags: dict[str, str]
    metrics: dict[str, float]
    params: dict[str, str]

    @classmethod
    def of(cls, run: Any) -> "Run":
        """From MLflow's own object."""
        data = run.data
        return cls(run.info.run_id, run.info.start_time, run.info.status, data.tags, data.metrics, data.params)


def connect(uri: str) -> Any:
    """An `MlflowClient` that is quiet and gives up soon. The settings of the environment go before ours."""
    for name, value in CAUTION.items():
        os.environ.setdefault(name, value)
    from mlflow import MlflowClient

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    _let_sqlite_write_ahead()
    return MlflowClient(uri)


@functools.cache
def _let_sqlite_write_ahead() -> None:
    """Put SQLite's databases in write-ahead mode, where a commit need not wait for the disk.

    If the machine loses power, the last commits are gone and the database is whole; `ablate sync` sends them again. A
    network file system does not carry the shared memory that this mode needs, so it stays out there.
    """
    from sqlalchemy import Engine, event

    @event.listens_for(Engine, "connect")
    def on_connect(connection: Any, _: Any) -> None:
        if isinstance(connection, sqlite3.Connection):
            [(_, _, file), *_] = connection.execute("PRAGMA database_list").fetchall()
            with contextlib.suppress(sqlite3.OperationalError):  # another process is at work on it
                if not _is_on_network(Path(file)) and connection.execute("PRAGMA journal_mode=WAL").fetchone() == (
                    "wal",
                ):
                    connection.execute("PRAGMA synchronous=NORMAL")


def _is_on_network(path: Path) -> bool:
    """Whether a file lies on a network file system, as far as Linux says so."""
    mounts = Path("/proc/self/mounts")
    if not mounts.exists():
        return False
    fields = [line.split() for line in mounts.read_text(encoding="utf-8").splitlines()]
    kinds = {Path(place): kind for _, place, kind, *_ in fields}
    kind = next(kinds[folder] for folder in path.parents if folder in kinds)
    return kind.startswith(NETWORK_FILE_SYSTEMS)


class Experiment:
    """An experiment, found by its name or created. Raises what MLflow raises.

    `folder` is where a new experiment keeps its files; None leaves the place to the server.
    """

    def __init__(self, uri: str, name: str, folder: Path | None, tags: dict[str, str]):
        self.client = connect(uri)
        known = self.client.get_experiment_by_name(name)
        if known is None:
            place = folder.resolve().as_uri() if folder else None
            known = self.client.get_experiment(self.client.create_experiment(name, place, tags))
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
        """All runs that nobody deleted."""
        found: list[Run] = []
        token = None
        while True:
            page = self.client.search_runs([self.id], max_results=1000, page_token=token)
            found += map(Run.of, page)
            token = page.token
            if not token:
                return found

    def create(self, name: str, tags: dict[str, str], begun: int) -> Run:
        """A new run, running since `begun`."""
        return Run.of(self.client.create_run(self.id, begun, tags, name))

    def write(
        self,
        run: Run,
        points: Mapping[tuple[str, int], float] | None = None,
        params: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
        time_ms: int | None = None,
    ) -> None:
        """One call for points, (metric, step) -> finite value, and for the params and tags that the run lacks.

        All points get one time stamp, by default the run's beginning: MLflow's database drops a point whose metric,
        step, value and time it has already. A param that the run has stays as it is; MLflow allows no other value.
        """
        from mlflow.entities import Metric, Param, RunTag

        new_params = {key: value for key, value in (params or {}).items() if key not in run.params}
        cut = {key: value[:TAG_LENGTH] for key, value in (tags or {}).items()}
        new_tags = {key: value for key, value in cut.items() if run.tags.get(key) != value}
        if points or new_params or new_tags:
            stamp = run.begun if time_ms is None else time_ms
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
        """Artifacts: path within the run -> content. A file of the same path is replaced."""
        with tempfile.TemporaryDirectory() as room:
            for name, content in files.items():
                path = Path(room) / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content.encode() if isinstance(content, str) else content)
            self.client.log_artifacts(run.id, room)

    def send_data_set(self, run: Run, name: str, digest: str, source: Any) -> None:
        """Name the data that a run was trained on; `source` is any JSON value."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        used = Dataset(name, digest[:DIGEST_LENGTH], "local", json.dumps(source))
        self.client.log_inputs(run.id, [DatasetInput(used, [InputTag("mlflow.data.context", "training")])])

    def revive(self, run: Run) -> None:
        """Show an ended run as running."""
        if run.status != "RUNNING":
            self.client.update_run(run.id, "RUNNING")
            run.status = "RUNNING"

    def end(self, run: Run, status: str, time_ms: int | None = None) -> None:
        """`status`: FINISHED, FAILED or KILLED, at a time in ms (default: now)."""
        self.client.set_terminated(run.id, status, time_ms)
        run.status = status


def grid_files(picture: Path, section: str, mark: str) -> dict[str, bytes]:
    """A picture under the names by which MLflow's image grid finds it: as it is, and enlarged by a whole factor.

    The names are those of `MlflowClient.log_image`, with `mark` for its random part, so that a picture is replaced and
    not doubled. That method would also resize bicubically and compress with losses, which hides what probes look for.
    """
    from PIL import Image

    content = picture.read_bytes()
    with Image.open(io.BytesIO(content)) as image:
        factor = max(1, GRID_PX // max(image.size))
        enlarged = image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)
    shown = io.BytesIO()
    enlarged.save(shown, "WEBP", lossless=True, method=0)  # 25 times quicker than the default, a fifth larger
    stem = f"images/{section}~{picture.stem}+step+0+timestamp+0+{mark}"
    return {f"{stem}.png": content, f"{stem}+compressed.webp": shown.getvalue()}
