"""A store that cannot be written: said before anything starts, or at the end with nothing lost."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.command import ablate
from tests.support.studies import Write

LARGER = ("channels: [8, 8]", "channels: [24, 24]")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 5.6 MB: room for the data and the checkpoints of one trial with larger channels, not of two."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=5580k", "none", str(place)]
    if os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root can mount a small disk")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_full_disk_is_said_and_the_sweep_goes_on_once_there_is_room(write_study: Write, disk: Path) -> None:
    study, store = write_study(LARGER), disk / "runs"
    command = ("sweep", study, "--store", store, "--tracking", "none", "--inline")
    full = ablate(*command)
    assert full.returncode == 1, full.stderr
    assert "No space left on device" in full.stderr and "Traceback" not in full.stderr
    finished = {path: path.read_bytes() for path in store.glob("stages/*/record.json")}
    assert 0 < len(finished) < 4 and all(json.loads(content) for content in finished.values())
    subprocess.run(["mount", "-o", "remount,size=50m", str(disk)], check=True)
    again = ablate(*command)
    assert again.returncode == 0, again.stderr
    assert {path: path.read_bytes() for path in finished} == finished, "a finished trial was run again"
    assert len(list(store.glob("stages/*/record.json"))) == 4


def test_a_read_only_store_is_said_before_anything_starts(write_study: Write, disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    done = ablate("sweep", write_study(), "--store", disk / "runs", "--inline")
    assert done.returncode == 2 and "cannot be written" in done.stderr and "Traceback" not in done.stderr, done.stderr


def test_a_file_in_the_place_of_the_store_is_said(write_study: Write, tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("")
    done = ablate("sweep", write_study(), "--store", tmp_path / "runs", "--inline")
    assert done.returncode == 2 and "is a file, not a folder" in done.stderr, done.stderr
    assert "Traceback" not in done.stderr
