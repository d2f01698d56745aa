"""Benchmark: the wall time of a short command, from the start of its process to the end."""

import subprocess
import sys
import sysconfig
import time
from pathlib import Path

from benchmarks.comparison import ROOT, Comparison

PAIRS = 7


ABLATE = str(Path(sysconfig.get_path("scripts")) / "ablate")


PLAN = [ABLATE, "plan", str(ROOT / "search_spaces" / "vivat_losses.yaml")]


HELP = [ABLATE, "--help"]


PEER = [sys.executable, "-c", "import ray.tune, mlflow, optuna"]


def run() -> Comparison:
    """Time `ablate plan`, and an interpreter that imports Ray, MLflow and Optuna."""
    for command in (PLAN, HELP, PEER):
        seconds(command)  # warm-up: files into memory, bytecode onto the disk
    plans = []
    helps = []
    peers = []
    for _ in range(PAIRS):
        plans.append(seconds(PLAN))
        peers.append(seconds(PEER))
        helps.append(seconds(HELP))
    return Comparison(
        "`ablate plan search_spaces/vivat_losses.yaml`, start to end of the process; `ablate --help` in the details",
        "an interpreter that does `import ray.tune, mlflow, optuna`, as a command would that imports them at the top",
        "s",
        plans,
        peers,
        {"help": helps},
    )


def seconds(command: list[str]) -> float:
    """The wall time of a command."""
    begun = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True, cwd=ROOT)
    return time.perf_counter() - begun
