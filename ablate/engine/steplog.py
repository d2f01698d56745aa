"""The log of a stage: `steps.jsonl`, one line of mean losses every few steps."""

import time
from typing import Any

import torch
from torch import Tensor

from ablate.engine import checkpoint
from ablate.engine.checkpoint import Checkpoint
from ablate.store.checksum import seal_line
from ablate.store.files import atomic_write, sync
from ablate.store.stage import StageFolder
from ablate.store.steps import read_lines

FAULT = ("loss", "grad_norm", "peak")
"""What is kept of the first step that is not finite: its loss, its gradient norm, and the largest finite norm since the
last line."""


class StepLog:
    """Sums losses on the device and reads their means back once per line.

    Resumes from the folder's checkpoint `saved` as if training had never stopped: the sums since the last line are part
    of the checkpoint, and lines after the checkpoint's step are dropped. `lines`: all lines of the stage, as they were
    written here or stood before the checkpoint, whatever becomes of the file.
    """

    def __init__(self, folder: StageFolder, saved: Checkpoint | None, device: torch.device):
        header: dict[str, Any] = saved.header if saved else {"step": 0}

        # Lines up to the checkpoint's step
        last = header.get("log", {}).get("last")
        lines = read_lines(folder.steps, last) or []
        self.lines = [line for line in lines if line["step"] <= header["step"]]
        self.last = ""
        """The checksum of the last line; empty if there is none."""
        texts = []
        for line in self.lines:
            text, self.last = seal_line(line, self.last)
            texts.append(text)
        with atomic_write(folder.steps) as file:  # a kill at this point must not lose the lines
            file.write_text("".join(texts), encoding="utf-8")
        self.file = folder.steps

        # Sums since the last of them
        pending = header.get("log", {"counts": {}, "seconds": 0.0})
        tensors = saved.part("log.", device) if saved and "log" in header else {}
        self.bad_step = 0
        self.first_bad = tensors.pop("first_bad", torch.zeros((), dtype=torch.long, device=device))
        self.fault_values = tensors.pop("fault", torch.zeros(len(FAULT), device=device))
        self.fault: dict[str, float] = {}
        """What is known of the first step that was not finite: see `ablate.engine.causes`."""
        self.sums = {name.removeprefix("sum/"): value for name, value in tensors.items() if name.startswith("sum/")}
        self.latest = {name.removeprefix("now/"): value for name, value in tensors.items() if name.startswith("now/")}
        self.counts: dict[str, int] = pending["counts"]
        self.since = time.perf_counter() - pending["seconds"]

    @property
    def tensors(self) -> dict[str, Tensor]:
        """Tensors of the steps since the last line. A checkpoint keeps them, and `pending` in its header."""
        sums = checkpoint.pack("sum/", self.sums) | checkpoint.pack("now/", self.latest)
        return checkpoint.pack("log.", {"first_bad": self.first_bad, "fault": self.fault_values, **sums})

    @property
    def pending(self) -> dict[str, Any]:
        """How often each loss was added since the last line, the seconds since then, and that line's checksum."""
        return {"counts": self.counts, "seconds": time.perf_counter() - self.since, "last": self.last}

    def sync(self) -> None:
        """Wait until all lines are on the disk: a checkpoint must not outlive the lines before it."""
        sync(self.file)

    def add(self, step: int, values: dict[str, Tensor], latest: dict[str, Tensor]) -> None:
        """Add the values of a step to the sums, and keep those in `latest` as they are for the next line.

        `values` must hold "loss" and "grad_norm". The first step at which either is not finite is noted.
        """
        for name, value in values.items():
            value = value.detach()
            self.sums[name] = self.sums[name] + value if name in self.sums else value.clone()
            self.counts[name] = self.counts.get(name, 0) + 1  # counted per name: a term may enter between two lines
        pair = torch.stack([values["loss"].detach().float(), values["grad_norm"].detach().float()])
        finite = torch.isfinite(pair)
        is_sound = self.first_bad == 0
        bad = is_sound & ~finite.all()
        self.first_bad = torch.where(bad, step, self.first_bad)
        peak = torch.maximum(self.fault_values[2], torch.where(finite[1], pair[1], 0.0))
        self.fault_values = torch.where(is_sound, torch.cat([pair, peak[None]]), self.fault_values)
        self.latest |= latest

    def write(self, step: int, metrics: dict[str, float]) -> dict[str, float]:
        """Append a line: the means since the last one, the latest values, and the probes' `metrics`.

        Sets `bad_step` to the first step that was not finite, 0 if there is none. This is the only place where training
        waits for the device.
        """
        names = [*self.sums, *self.latest]
        means = [value / self.counts[name] for name, value in self.sums.items()]
        tensors = [value.float() for value in [*means, *self.latest.values()]]
        values = torch.stack([*tensors, *self.fault_values, self.first_bad.float()]).tolist()
        self.bad_step = int(values.pop())
        self.fault = dict(zip(FAULT, values[-len(FAULT) :], strict=True))
        del values[-len(FAULT) :]
        line = {
            name if name in self.latest else f"train/{name}": value for name, value in zip(names, values, strict=True)
        }
        now = time.perf_counter()
        line["train/steps_per_s"] = self.counts["loss"] / (now - self.since)
        line |= metrics
        self.lines.append({"step": step, **line})
        text, self.last = seal_line(self.lines[-1], self.last)
        with self.file.open("a", encoding="utf-8") as file:
            file.write(text)
        self.sums = {}
        self.counts = {}
        self.latest = {}
        self.fault_values = torch.zeros_like(self.fault_values)
        self.since = now
        return line
