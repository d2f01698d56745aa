"""A sweep on a Ray cluster of two nodes, each with a daemon and workers of its own, on this machine."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support.command import PATIENCE, document, start, wait_for
from tests.support.studies import LONG, Write


@pytest.fixture
def cluster() -> Iterator[Any]:
    """A head and a worker node, with room for one trial each."""
    from ray.cluster_utils import Cluster

    found = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    found.add_node(num_cpus=1)
    yield found
    found.shutdown()


def test_a_node_is_killed_and_the_study_ends_with_the_same_table(
    write_study: Write, tmp_path: Path, cluster: Any, undisturbed: Path
) -> None:
    """SIGKILL of a node's daemon and workers while it trains: its trial goes on elsewhere from its last checkpoint."""
    study, shared = write_study(*LONG), tmp_path / "shared"
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

    lost = wait_for(process, caught)
    cluster.remove_node(node, allow_graceful=False)
    _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, said
    assert said.count("lost its worker") == 1 and "Traceback" not in said, said
    assert (lost[0] / "record.json").exists()
    assert document("table", study, "--store", shared) == document("table", study, "--store", undisturbed)
