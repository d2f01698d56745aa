"""A sweep on a Ray cluster of two nodes, each with a daemon and workers of its own, on this machine."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

Write = Callable[..., Path]


ENVIRONMENT = {key: value for key, value in os.environ.items() if key not in {"ABLATE_STORE", "MLFLOW_TRACKING_URI"}}


@pytest.fixture
def cluster() -> Iterator[Any]:
    """A head and a worker node, with room for one trial each."""
    from ray.cluster_utils import Cluster

    found = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    found.add_node(num_cpus=1)
    yield found
    found.shutdown()


def start(*arguments: str | Path) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "ablate.cli", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT)


def document(*arguments: str | Path) -> Any:
    said, errors = (process := start(*arguments, "--json")).communicate(timeout=200)
    assert process.returncode == 0, errors
    return json.loads(said)


def test_a_node_is_killed_and_the_study_ends_with_the_same_table(
    write_study: Write, tmp_path: Path, cluster: Any
) -> None:
    """SIGKILL of a node's daemon and workers while it trains: its trial goes on elsewhere from its last checkpoint."""
    study = write_study(
        ("steps: 6", "steps: 150"), ("log_every: 2, checkpoint_every: 3", "log_every: 5, checkpoint_every: 20")
    )
    shared, alone = tmp_path / "shared", tmp_path / "alone"
    process = start("sweep", study, "--store", shared, "--tracking", "none", "--address", cluster.address)
    [node] = cluster.worker_nodes
    raylet = psutil.Process(node.all_processes["raylet"][0].process.pid)

    def caught() -> list[Path]:
        """Trials that train on the worker node and have left a checkpoint."""
        there = {child.pid for child in raylet.children(recursive=True)}
        running = [
            path for path in shared.glob("stages/*/running.json") if json.loads(path.read_text())["pid"] in there
        ]
        return [path.parent for path in running if (path.parent / "checkpoint.safetensors").exists()]

    deadline = time.monotonic() + 200
    while not (lost := caught()):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.02)
    cluster.remove_node(node, allow_graceful=False)
    _, said = process.communicate(timeout=250)
    assert process.returncode == 0, said
    assert said.count("lost its worker") == 1 and "Traceback" not in said, said
    assert (lost[0] / "record.json").exists()
    undisturbed = start("sweep", study, "--store", alone, "--inline", "--tracking", "none")
    assert undisturbed.wait(timeout=200) == 0
    assert document("table", study, "--store", shared) == document("table", study, "--store", alone)
