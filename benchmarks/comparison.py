"""The result of a benchmark, and its file in `results/`."""

import datetime
import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


RESULTS = Path(__file__).resolve().parent / "results"


PACKAGES = ("ablate-vae", "torch", "ray", "mlflow", "optuna", "diffusers")


@dataclass(frozen=True)
class Comparison:
    """The result of a benchmark: the costs of both sides, measured in pairs.

    `ours[i]` and `peers[i]` were measured one right after the other, in `unit`; smaller is faster. `what`: the work of
    both sides. `peer`: what ablate is compared with.
    """

    what: str
    peer: str
    unit: str
    ours: list[float]
    peers: list[float]
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def ratios(self) -> list[float]:
        """Peer / ours of each pair: how many times faster ablate is."""
        return [peer / ours for ours, peer in zip(self.ours, self.peers, strict=True)]

    @property
    def ratio(self) -> float:
        """The median of the ratios."""
        return median(self.ratios)

    def line(self, name: str) -> str:
        """The result in one line of text."""
        low = min(self.ratios)
        high = max(self.ratios)
        cost = f"{median(self.ours):.3g} against {median(self.peers):.3g} {self.unit}"
        return f"{name:14} {self.ratio:6.2f}x  ({low:.2f} to {high:.2f}, {len(self.ours)} pairs)  {cost}  {self.what}"

    def write(self, name: str, load: float) -> None:
        """Write `results/NAME.json`, or `results/gpu/NAME.json` on a machine with a GPU.

        `load`: the load average (processes that want a core) when the benchmark began.
        """
        result: dict[str, Any] = {
            "name": name, "what": self.what, "peer": self.peer, "unit": self.unit,
            "ratio": self.ratio, "range": [min(self.ratios), max(self.ratios)], "pairs": len(self.ours),
            "ours": self.ours, "peers": self.peers, "details": self.details,
            "machine": {**machine(), "load_before": round(load, 2)}, "versions": versions(),
            "date": datetime.date.today().isoformat(),
        }  # fmt: skip
        folder = RESULTS / "gpu" if result["machine"]["gpu"] else RESULTS
        folder.mkdir(exist_ok=True)
        (folder / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def machine() -> dict[str, Any]:
    """The names of CPU and GPU, and the number of cores."""
    return {"cpu": _cpu(), "cores": os.cpu_count(), "gpu": _gpu()}


def versions() -> dict[str, str]:
    """The versions of Python and of the packages compared."""
    return {"python": platform.python_version(), **{name: importlib.metadata.version(name) for name in PACKAGES}}


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


def _gpu() -> str | None:
    if not shutil.which("nvidia-smi"):
        return None
    command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    listed = subprocess.run(command, capture_output=True, text=True, check=False).stdout.splitlines()
    return listed[0] if listed else None
