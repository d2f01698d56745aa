"""The store in object storage, against a real S3 protocol: moto's server on this machine."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from ablate.engine import checkpoint
from ablate.store.files import StoreError, atomic_write, local, parse_store, read_json, write_json
from ablate.store.folders import Store
from ablate.store.record import read_header

Write = Callable[..., Path]


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """The URL of an empty bucket; the environment leads to it."""
    server = pytest.importorskip("moto.server").ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    access = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1"}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**access, "AWS_ENDPOINT_URL": f"http://{host}:{port}"}.items():
            patch.setenv(name, value)
        patch.delenv("ABLATE_STORE", raising=False)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        parse_store("s3://results").mkdir()
        yield "s3://results"
    server.stop()


def start(*arguments: str | Path) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "ablate.cli", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def document(*arguments: str | Path) -> Any:
    process = start(*arguments, "--json")
    said, errors = process.communicate(timeout=200)
    assert process.returncode == 0, errors
    return json.loads(said)


def test_files_are_whole_or_absent_and_seen_by_all(bucket: str) -> None:
    import torch

    ours, theirs = (parse_store(f"{bucket}/files") for _ in range(2))
    assert read_json(theirs / "card.json") is None and read_header(theirs / "c.safetensors") is None
    for number in (1, 2):
        write_json(ours / "card.json", number)
        assert read_json(theirs / "card.json") == number
    with pytest.raises(RuntimeError), atomic_write(ours / "card.json") as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert read_json(theirs / "card.json") == 2
    for step in (1, 2):
        checkpoint.save(ours / "c.safetensors", {"w": torch.full((3,), float(step))}, {"step": step})
        assert read_header(theirs / "c.safetensors") == {"step": step}
        assert checkpoint.load(theirs / "c.safetensors")["w"].tolist() == [step] * 3, "a copy is renewed"
    assert local(theirs / "c.safetensors") == local(theirs / "c.safetensors"), "and kept while it is good"


def test_a_database_is_not_put_there(bucket: str) -> None:
    with pytest.raises(StoreError, match="--tracking"):
        _ = Store(parse_store(bucket)).mlflow_uri


def test_a_bucket_that_is_not_there_is_said_before_anything_starts(bucket: str, write_study: Write) -> None:
    process = start("sweep", write_study(), "--store", "s3://nowhere/runs", "--tracking", "none", "--inline")
    _, said = process.communicate(timeout=200)
    assert process.returncode == 2 and "s3://nowhere/runs cannot be written" in said and "Traceback" not in said, said


def test_a_sweep_killed_and_resumed_there_has_the_table_of_a_folder(
    bucket: str, write_study: Write, tmp_path: Path
) -> None:
    """Under Ray until its whole process tree is killed in mid-trial, then in one process."""
    study = write_study(
        ("steps: 6", "steps: 20"), ("log_every: 2, checkpoint_every: 3", "log_every: 5, checkpoint_every: 5")
    )
    remote, root = f"{bucket}/runs", parse_store(f"{bucket}/runs")
    process = start("sweep", study, "--store", remote, "--tracking", "none")
    deadline = time.monotonic() + 200

    def begun() -> list[Path]:
        return [path.parent for path in root.glob("stages/*/checkpoint.safetensors")]

    while not (found := begun()):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.05)
    family = [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]
    for member in family:
        member.suspend()
    for member in family:
        member.kill()
    process.communicate()
    header = read_header(found[0] / "checkpoint.safetensors")
    assert header and header["step"] > 0
    resumed = start("sweep", study, "--store", remote, "--tracking", "none", "--inline")
    _, said = resumed.communicate(timeout=200)
    assert resumed.returncode == 0 and "[4/4]" in said, said
    alone = start("sweep", study, "--store", tmp_path / "runs", "--tracking", "none", "--inline")
    alone.communicate(timeout=200)
    assert document("table", "tiny", "--store", remote) == document("table", "tiny", "--store", tmp_path / "runs")
    pictures = sorted(path.name for path in root.glob("stages/*/pictures/*.png"))
    assert pictures == ["error_x8.png"] * 4 + ["reconstruction.png"] * 4
