"""What a trial gets of a machine, and what the machine has."""

import os
import subprocess
from dataclasses import dataclass


@dataclass(frozen=True)
class Resources:
    """What one trial gets, and how many run at once at most (None: as many as fit)."""

    cpus: int = 1
    gpus: float = 0.0
    workers: int | None = None
    address: str | None = None


def gpu_count() -> int:
    """GPUs that this machine shows, without loading torch."""
    return sum(line.startswith("GPU ") for line in _nvidia_smi("-L"))


def gpu_memory() -> int:
    """Bytes of the smallest GPU that this machine shows; 0 where it shows none."""
    found = _nvidia_smi("--query-gpu=memory.total", "--format=csv,noheader,nounits")
    return min((int(line) for line in found if line.strip().isdecimal()), default=0) << 20


def _nvidia_smi(*arguments: str) -> list[str]:
    import shutil

    if os.environ.get("CUDA_VISIBLE_DEVICES") in {"", "-1"} or not shutil.which("nvidia-smi"):
        return []
    listed = subprocess.run(["nvidia-smi", *arguments], capture_output=True, text=True, check=False)
    return listed.stdout.splitlines()
