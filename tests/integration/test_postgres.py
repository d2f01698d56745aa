"""MLflow on PostgreSQL behind its server, as a team has it: the same runs as on SQLite, and whole after an outage."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ablate.plan.trials import expand
from ablate.store.folders import Store
from ablate.track.mirror import Mirror, sync
from ablate.track.runs import connect
from ablate.track.server import serving
from tests.support import mirrored
from tests.support.command import PATIENCE

TABLES = {"table.md": "| treatment | psnr |\n|---|---|\n"}


NOTE = "what came out"


DEBIAN = sorted(Path("/usr/lib/postgresql").glob("*/bin"))


PROGRAMS = DEBIAN[-1] if DEBIAN else Path(shutil.which("initdb") or "none/initdb").parent


pytestmark = pytest.mark.skipif(not (PROGRAMS / "initdb").exists(), reason="PostgreSQL is not installed")


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    """The URI of a PostgreSQL server in a temporary directory, run by its own user: it refuses to be root."""
    user = {"user": "postgres"} if os.geteuid() == 0 else {}
    with tempfile.TemporaryDirectory(prefix="pg") as room, socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
        free.close()
        if user:
            shutil.chown(room, "postgres")
        options: dict[str, Any] = {**user, "cwd": room, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        folder = f"{room}/data"
        subprocess.run([PROGRAMS / "initdb", "-D", folder, "-U", "ablate", "--auth=trust"], check=True, **options)
        command = [PROGRAMS / "postgres", "-D", folder, "-p", str(port), "-k", room, "-c", "fsync=off"]
        process = subprocess.Popen(command, **options)
        try:
            while subprocess.run([PROGRAMS / "pg_isready", "-h", "127.0.0.1", "-p", str(port)], **options).returncode:
                assert process.poll() is None
                time.sleep(0.1)
            yield f"postgresql+psycopg://ablate@127.0.0.1:{port}/postgres"
        finally:
            process.send_signal(signal.SIGINT)  # asks for a quick end
            process.wait(PATIENCE)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    mirrored.use_levels(monkeypatch, tmp_path / "levels")
    yield Store(tmp_path / "runs")
    mirrored.registry.level.cache_clear()


def shown(uri: str) -> dict[str, Any]:
    """All that MLflow shows of each run, less the times and the ids that it draws itself."""
    client = connect(uri)
    [experiment] = [item for item in client.search_experiments() if item.name != "Default"]
    found = {}
    for run in client.search_runs([experiment.experiment_id]):
        tags = {key: value for key, value in run.data.tags.items() if key != "mlflow.parentRunId"}
        histories = {name: client.get_metric_history(run.info.run_id, name) for name in run.data.metrics}
        with tempfile.TemporaryDirectory() as room:
            root = Path(client.download_artifacts(run.info.run_id, "", room))
            files = {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}
        found[run.info.run_name] = {
            "status": run.info.status,
            "params": run.data.params,
            "points": {name: sorted((it.step, it.value) for it in points) for name, points in histories.items()},
            "tags": tags,
            "files": files,
        }
    return found


def test_a_study_on_postgres_is_whole_after_an_outage_and_the_same_as_on_sqlite(
    database: str, store: Store, tmp_path: Path
) -> None:
    """The server dies after two trials of six; the others end without it, and a sync brings what it lacks."""
    text = mirrored.STUDY.replace("1e-2, 1e-4, 1e-6]", "1e-4]")
    study = mirrored.make_study(text.replace("  model.channels: [[8, 16], [16, 16, 32]]\n", ""))
    trials, artifacts, said = expand(study), tmp_path / "artifacts", []
    assert len(trials) == 6

    def end(mirror: Mirror, place: slice) -> None:
        for trial in trials[place]:
            mirror.start(trial)
            mirrored.write_steps(store, trial)
            mirrored.write_record(store, trial)
            mirror.finish(trial)

    with (
        serving(database, artifacts, 0) as found,
        Mirror(found.url, None, study, trials, store, report=said.append) as mirror,
    ):
        end(mirror, slice(0, 2))
        told = threading.Event()
        mirror.writer.add(told.set)  # type: ignore[union-attr]
        assert told.wait(PATIENCE) and mirror.failure is None
        found.process.send_signal(signal.SIGINT)
        found.process.wait(PATIENCE)
        end(mirror, slice(2, 6))
    mirror.finish_study(TABLES, NOTE)
    assert mirror.failure and len(said) == 1 and f"ablate sync {study.name}" in said[0]
    assert all(store.stage(trial.signature).status() == "done" for trial in trials), "the store has all of them"

    sync(store.mlflow_uri, store.mlflow_artifacts, study, trials, store, TABLES, NOTE)
    port = int(found.url.rpartition(":")[2])
    while socket.socket().connect_ex(("127.0.0.1", port)) == 0:
        time.sleep(0.1)  # its address is kept by runs as MLflow has cached them in this process
    with serving(database, artifacts, port) as found:
        for _ in range(2):
            sync(found.url, None, study, trials, store, TABLES, NOTE)
            assert shown(found.url) == shown(store.mlflow_uri)
