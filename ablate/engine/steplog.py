"""The losses of a stage, summed on the device and read back once a line."""

import json
import time
from typing import Any

import torch
from torch import Tensor

from ablate.engine import checkpoint
from ablate.store.files import whole
from ablate.store.folders import StageFolder


class StepLog:
    """Losses summed on the device, read back once a line.

    It goes on from the folder's checkpoint, whose header is `known`, as if it had never stopped: what was summed since
    the last line is part of the checkpoint, and lines after the checkpoint's step are dropped.
    """

    def __init__(self, folder: StageFolder, known: dict[str, Any] | None, device: torch.device):
        known = known or {"step": 0}
        kept = [line for line in folder.read_steps() if line["step"] <= known["step"]]
        with whole(folder.steps) as file:  # a kill here must not cost what was logged
            file.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")
        pending = known.get("log", {"counts": {}, "seconds": 0.0})
        made = checkpoint.load(folder.checkpoint, "log.", device) if "log" in known else {}
        self.file = folder.steps
        self.bad_step = 0
        self.first_bad = made.pop("first_bad", torch.zeros((), dtype=torch.long, device=device))
        self.sums = {name.removeprefix("sum/"): value for name, value in made.items() if name.startswith("sum/")}
        self.shares = {name.removeprefix("now/"): value for name, value in made.items() if name.startswith("now/")}
        self.counts: dict[str, int] = pending["counts"]
        self.since = time.perf_counter() - pending["seconds"]

    @property
    def tensors(self) -> dict[str, Tensor]:
        """What a checkpoint keeps of the steps since the last line; with `pending`, all that going on needs."""
        sums = checkpoint.pack("sum/", self.sums) | checkpoint.pack("now/", self.shares)
        return checkpoint.pack("log.", {"first_bad": self.first_bad, **sums})

    @property
    def pending(self) -> dict[str, Any]:
        """How often each loss was summed since the last line, and the seconds that it took."""
        return {"counts": self.counts, "seconds": time.perf_counter() - self.since}

    def add(self, step: int, values: dict[str, Tensor], shares: dict[str, Tensor]) -> None:
        for name, value in values.items():
            value = value.detach()
            self.sums[name] = self.sums[name] + value if name in self.sums else value.clone()
            self.counts[name] = self.counts.get(name, 0) + 1  # a term may enter between two lines
        bad = (self.first_bad == 0) & ~(torch.isfinite(values["loss"]) & torch.isfinite(values["grad_norm"]))
        self.first_bad = torch.where(bad, step, self.first_bad)
        self.shares |= shares

    def write(self, step: int, found: dict[str, float]) -> dict[str, float]:
        """Append the means since the last line, and what probes found; the one place where the host waits."""
        names = [*self.sums, *self.shares]
        means = [value / self.counts[name] for name, value in self.sums.items()]
        tensors = [value.float() for value in [*means, *self.shares.values()]]
        values = torch.stack([*tensors, self.first_bad.float()]).tolist()
        self.bad_step = int(values.pop())
        line = {
            name if name in self.shares else f"train/{name}": value for name, value in zip(names, values, strict=True)
        }
        now = time.perf_counter()
        line["train/steps_per_s"] = self.counts["loss"] / (now - self.since)
        line |= found
        with self.file.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **line}) + "\n")
        self.sums, self.counts, self.shares, self.since = {}, {}, {}, now
        return line
