"""Files of a store have the mode that the umask gives, whichever library writes them: a group can share a store."""

import json
import stat
import subprocess
from pathlib import Path

import pytest

from tests.support.command import PATIENCE, command, environment
from tests.support.studies import Write


def modes(store: Path) -> dict[int, list[str]]:
    """Mode -> files and folders of a store that have it; of folders without the set-group bit."""
    found: dict[int, list[str]] = {}
    for path in sorted(store.rglob("*")):
        mode = stat.S_IMODE(path.stat().st_mode) | (stat.S_IFDIR if path.is_dir() else 0)
        found.setdefault(mode, []).append(str(path.relative_to(store)))
    return found


@pytest.mark.parametrize("umask", [0o002, 0o077])
def test_all_files_of_a_store_have_the_mode_of_the_umask(write_study: Write, tmp_path: Path, umask: int) -> None:
    store = tmp_path / "runs"
    study = write_study(("seeds: 2", "seeds: 1"))
    for words in (("sweep", study, "--inline"), ("report", study)):
        done = subprocess.run(
            command(*words, "--store", store), env=environment(), capture_output=True, text=True, check=False,
            timeout=PATIENCE, umask=umask,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    found = modes(store)
    assert set(found) == {0o666 & ~umask, stat.S_IFDIR | 0o777 & ~umask}, found
    names = {Path(name).suffix for name in found[0o666 & ~umask]}
    assert {".safetensors", ".json", ".jsonl", ".db", ".png", ".html", ".bin", ".npy", ".yaml"} <= names, names
    assert json.loads((store / "studies/tiny/base/study.json").read_text())["mirrored"]
