"""The resources of a trial, and those of the machine."""

import math
import os
import shutil
import subprocess
from dataclasses import dataclass

from ablate.errors import UsageError


@dataclass(frozen=True)
class Resources:
    """What one trial gets, and how many may run at once.

    `gpus`: GPUs per trial, possibly a fraction. `workers`: trials at once; None for as many as fit. `address`: of a Ray
    cluster; None for a local one. `stall_s`: seconds without a step after which a stage hangs; None for a limit by its
    own pace.
    """

    cpus: int = 1
    gpus: float = 0.0
    workers: int | None = None
    address: str | None = None
    stall_s: float | None = None


def default_resources(
    cpus: int = 1,
    gpus: float | None = None,
    workers: int | None = None,
    address: str | None = None,
    stall_minutes: float | None = None,
) -> Resources:
    """The resources that a user asks for; without `gpus` a trial gets a whole GPU where the machine has one.

    Raises UsageError for a number that makes no sense.
    """
    for name, value, least in (("cpus per trial", cpus, 1), ("workers", workers, 1), ("gpus per trial", gpus, 0)):
        if value is not None and value < least:
            raise UsageError(f"{name}: expected at least {least}, found {value}")
    if stall_minutes is not None and not 0 < stall_minutes < math.inf:
        raise UsageError(f"stall minutes: expected a number above 0, found {stall_minutes}")
    stall_s = None if stall_minutes is None else 60 * stall_minutes
    return Resources(cpus, float(gpu_count() > 0) if gpus is None else gpus, workers, address, stall_s)


def gpu_count() -> int:
    """The number of GPUs of this machine, found without loading torch."""
    return sum(line.startswith("GPU ") for line in _nvidia_smi("-L"))


def gpu_memory() -> int:
    """Bytes of the smallest GPU of this machine; 0 if it has none."""
    lines = _nvidia_smi("--query-gpu=memory.total", "--format=csv,noheader,nounits")
    return min((int(line) for line in lines if line.strip().isdecimal()), default=0) << 20


def _nvidia_smi(*arguments: str) -> list[str]:
    """The lines that nvidia-smi prints; none if there is no such program or the environment hides the GPUs."""
    if os.environ.get("CUDA_VISIBLE_DEVICES") in {"", "-1"} or not shutil.which("nvidia-smi"):
        return []
    listed = subprocess.run(["nvidia-smi", *arguments], capture_output=True, text=True, check=False)
    return listed.stdout.splitlines()
