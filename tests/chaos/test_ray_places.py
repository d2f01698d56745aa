"""Ray's own processes die, its sockets have no room, a folder in the way: told in our words, or harmless."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.support.command import PATIENCE, Done, ablate, command, environment, metrics, start, wait_for
from tests.support.studies import Write

PLAIN = ("--tracking", "none", "--workers", "1")

FEW = (("seeds: 2", "seeds: 1"),)


@pytest.mark.parametrize("part", ["raylet", "gcs_server"])
def test_a_part_of_ray_dies(write_study: Write, tmp_path: Path, part: str) -> None:
    """SIGKILL in mid-run: said at once, with the way out, which leads to the end."""
    study, store = write_study(*FEW, ("steps: 6", "steps: 100")), tmp_path / "runs"
    process = start("sweep", study, "--store", store, *PLAIN)
    wait_for(process, lambda: list(store.glob("stages/*/steps.jsonl")))
    (victim,) = [one for one in psutil.Process(process.pid).children(recursive=True) if one.name() == part]
    victim.kill()
    _, said = process.communicate(timeout=PATIENCE)
    name = "raylet" if part == "raylet" else "GCS"
    assert process.returncode == 1 and "Traceback" not in said, said
    assert f"Stopped: Ray's {name}, which " in said and "was ended by SIGKILL" in said
    assert "To continue, run the same command again:" in said and f"sweep {study}" in said
    again = ablate("sweep", study, "--store", store, *PLAIN)
    assert again.returncode == 0 and "All 2 trials finished" in again.stdout, again.stderr


@pytest.mark.parametrize("length", [60, 200])
def test_a_long_folder_for_temporary_files(write_study: Write, tmp_path: Path, length: int) -> None:
    """Sockets have paths of at most 107 bytes; Ray gets another folder, and leaves nothing in either."""
    folder = Path(f"/tmp/{'x' * (length - 5)}")
    folder.mkdir()
    try:
        done = ablate("sweep", write_study(*FEW), "--store", tmp_path / "runs", *PLAIN, env={"TMPDIR": str(folder)})
        assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
        assert not list(folder.glob("ablate-*"))
    finally:
        shutil.rmtree(folder)


IN_THE_WAY = "raise RuntimeError('imported from the working directory')\n"


def test_a_folder_in_the_working_directory_is_not_in_the_way(write_study: Write, tmp_path: Path) -> None:
    """Modules there with the names of ours and of packages are not what workers import."""
    study = write_study(*FEW)
    for name in ("ablate", "torch", "safetensors"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(IN_THE_WAY)
    root = str(Path(__file__).parents[2])
    code = "import sys; sys.path[:] = [p for p in sys.path if p]; from ablate.cli.main import main; main()"
    words = command("sweep", study, "--store", tmp_path / "runs", *PLAIN)[3:]
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, *words],
        capture_output=True, text=True, cwd=tmp_path, timeout=PATIENCE, check=False,
        env=environment({"PYTHONPATH": root}),
    )  # fmt: skip
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    assert len(metrics(study, tmp_path / "runs")) == 2


OTHER_TORCH = """
import importlib.metadata

original = importlib.metadata.version
importlib.metadata.version = lambda name: "1.2.3" if name == "torch" else original(name)
"""


def test_nodes_with_another_version_are_named(write_study: Write, tmp_path: Path) -> None:
    """A cluster whose node has another torch, as far as it says."""
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(OTHER_TORCH)
    ray = [sys.executable, "-m", "ray.scripts.scripts"]
    root = str(Path(__file__).parents[2])
    there = environment({"PYTHONPATH": f"{site}{os.pathsep}{root}", "RAY_AUTH_MODE": "disabled"})
    words = ["start", "--head", "--port", "6397", "--num-cpus", "1", "--include-dashboard", "false", "--block"]
    head = subprocess.Popen([*ray, *words], env=there, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for(head, lambda: _listens(6397))
        done: Done = ablate(
            "sweep", write_study(*FEW), "--store", tmp_path / "runs", *PLAIN, "--address", "127.0.0.1:6397"
        )
    finally:
        for one in [*psutil.Process(head.pid).children(recursive=True), psutil.Process(head.pid)]:
            one.kill()
        head.wait()
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
    assert "has torch 1.2.3 (" in done.stderr and "install the same on every node" in done.stderr
    assert not list((tmp_path / "runs").glob("stages/*/record.json"))


def _listens(port: int) -> bool:
    return any(one.laddr.port == port and one.status == "LISTEN" for one in psutil.net_connections() if one.laddr)
