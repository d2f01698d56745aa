"""The record of a finished trial, and the headers of checkpoints."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

HEADER = "ablate"
"""The key of a checkpoint's metadata that holds its settings and step, as JSON."""


@dataclass
class Record:
    """The results of one finished trial. `metrics` may hold NaN or inf; `info` says unit and direction of each.

    `metrics` are of the averaged weights, `raw` are the same of the weights as the optimiser left them. `role`: what
    the trial was run for first. `flops`: of the round trip of one held-out picture or clip; a multiply-add is two.
    `parts`: into how many micro-batches a batch was split for want of memory, in the stage that needed most.
    """

    signature: str
    seed: int
    status: Literal["done", "diverged"]
    reason: str
    steps: int
    metrics: dict[str, float] = field(default_factory=dict)
    raw: dict[str, float] = field(default_factory=dict)
    info: dict[str, dict[str, Any]] = field(default_factory=dict)
    probes: dict[str, str] = field(default_factory=dict)
    liveness: dict[str, float] = field(default_factory=dict)
    parameters: int = 0
    active_parameters: int = 0
    flops: int = 0
    parts: int = 1
    train_s: float = 0.0
    probe_s: float = 0.0
    data: str = ""
    code: dict[str, Any] = field(default_factory=dict)
    machine: dict[str, Any] = field(default_factory=dict)
    role: Literal["trial", "tuning"] = "trial"

    @property
    def wall_s(self) -> float:
        return self.train_s + self.probe_s


def read_header(checkpoint: Path) -> dict[str, Any] | None:
    """What a checkpoint says of itself, its weights unread, or None if there is no such file. Needs no torch.

    A safetensors file begins with the length of its header, 8 bytes, and the header as JSON. Raises ValueError for a
    file that is not ours.
    """
    try:
        with checkpoint.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            text = json.loads(file.read(length))["__metadata__"][HEADER]
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, MemoryError, OverflowError):
        raise ValueError(f"{checkpoint} is not a checkpoint of ablate: its header lacks '{HEADER}'") from None
    found: dict[str, Any] = json.loads(text)
    return found
