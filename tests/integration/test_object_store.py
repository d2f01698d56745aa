"""The store in object storage, against a real S3 protocol: moto's server on this machine."""

import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from ablate.engine import checkpoint
from ablate.errors import StoreError
from ablate.store.files import atomic_write, local, parse_store, read_json, write_json
from ablate.store.folders import Store
from ablate.store.leases import Leases, is_held
from ablate.store.record import read_header
from tests.support.command import ablate, document, kill_tree, start, wait_for
from tests.support.studies import Write


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


def test_a_lease_has_one_holder(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Taken by a conditional put; that of a dead holder is taken over, by one."""
    root = parse_store(f"{bucket}/leases")
    one, two, three = (Leases(parse_store(f"{bucket}/leases"), name) for name in ("one", "two", "three"))
    assert one.take("x") and not two.take("x") and is_held(root, one.ticket("x"))
    one.release("x")
    assert two.take("x") and not one.take("x")
    ticket = two.ticket("x")
    monkeypatch.setattr("ablate.store.leases.lives", lambda process: False)
    assert three.take("x") and not is_held(root, ticket) and is_held(root, three.ticket("x"))
    two.release("x")
    monkeypatch.setattr("ablate.store.leases.lives", lambda process: None)
    assert not one.take("x"), "the heartbeat is fresh"
    three.close()
    assert not list((root / "leases").glob("*.json")) and one.take("x")
    for each in (one, two):  # their threads would go on asking a server that is gone
        each.close()


def test_a_damaged_file_is_moved_aside(bucket: str) -> None:
    path = parse_store(f"{bucket}/damage") / "card.json"
    write_json(path, {"a": 1})
    path.write_bytes(path.read_bytes().replace(b"1,", b"2,"))
    assert read_json(path) is None
    write_json(path, {"a": 3})
    assert read_json(path) == {"a": 3} and (path.parent / "damaged" / "card.json").exists()


def test_a_database_is_not_put_there(bucket: str) -> None:
    with pytest.raises(StoreError, match="--tracking"):
        _ = Store(parse_store(bucket)).mlflow_uri


def test_a_bucket_that_is_not_there_is_said_before_anything_starts(bucket: str, write_study: Write) -> None:
    done = ablate("sweep", write_study(), "--store", "s3://nowhere/runs", "--tracking", "none", "--inline")
    assert done.returncode == 2 and "s3://nowhere/runs cannot be written" in done.stderr, done.stderr
    assert "Traceback" not in done.stderr


def test_a_sweep_killed_and_resumed_there_has_the_table_of_a_folder(
    bucket: str, write_study: Write, tmp_path: Path
) -> None:
    """Under Ray until its whole process tree is killed in mid-trial, then in one process."""
    study = write_study(
        ("steps: 6", "steps: 20"), ("log_every: 2, checkpoint_every: 3", "log_every: 5, checkpoint_every: 5")
    )
    remote, root = f"{bucket}/runs", parse_store(f"{bucket}/runs")
    process = start("sweep", study, "--store", remote, "--tracking", "none", "--workers", "1")
    found = wait_for(process, lambda: [path.parent for path in root.glob("stages/*/checkpoint.safetensors")])
    kill_tree(process)
    header = read_header(found[0] / "checkpoint.safetensors")
    assert header and header["step"] > 0
    resumed = ablate("sweep", study, "--store", remote, "--tracking", "none", "--inline")
    assert resumed.returncode == 0 and "[4/4]" in resumed.stderr, resumed.stderr
    alone = ablate("sweep", study, "--store", tmp_path / "runs", "--tracking", "none", "--inline")
    assert alone.returncode == 0, alone.stderr
    assert document("table", "tiny", "--store", remote) == document("table", "tiny", "--store", tmp_path / "runs")
    pictures = sorted(path.name for path in root.glob("stages/*/pictures/*.png"))
    assert pictures == ["error_x8.png"] * 4 + ["reconstruction.png"] * 4


def test_a_study_trains_on_shards_there(
    bucket: str, write_study: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    for shard in ("a", "b"):
        with tarfile.open(tmp_path / f"{shard}.tar", "w") as tar:
            for i in range(4):
                pixels = np.random.default_rng([ord(shard), i]).integers(0, 256, (40, 48, 3), dtype=np.uint8)
                PIL.Image.fromarray(pixels).save(tmp_path / "picture.png")
                tar.add(tmp_path / "picture.png", f"{i:03d}.png")
        (parse_store(f"{bucket}/shards") / f"{shard}.tar").write_bytes((tmp_path / f"{shard}.tar").read_bytes())
    shards = f"{{level: webdataset, path: '{bucket}/shards', heldout_fraction: 0.5, "
    study = write_study(("{level: leaves, ", shards))
    done = ablate("sweep", study, "--store", tmp_path / "runs", "--tracking", "none", "--inline")
    assert done.returncode == 0 and "[4/4]" in done.stderr and "copying 2 files" in done.stderr, done.stderr
    again = ablate("sweep", study, "--store", tmp_path / "runs", "--tracking", "none", "--inline")
    assert again.returncode == 0 and "copying" not in again.stderr, again.stderr
