"""Where a record comes from: code, machine, sizes and costs."""

import copy
import functools
import importlib.metadata
import platform
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from ablate import __version__
from ablate.data.corpus import Corpus
from ablate.engine import checkpoint
from ablate.plan.trials import Order
from ablate.slots import registry
from ablate.slots.training import Autoencoder
from ablate.store.folders import Store
from ablate.store.record import Record


@dataclass(frozen=True)
class Ending:
    """How training ended: after `steps` steps, `diverged` with the reason or not."""

    steps: int
    diverged: bool = False
    reason: str = ""


def describe(
    order: Order, outcome: Ending, store: Store, vae: Autoencoder, corpus: Corpus, device: torch.device
) -> Record:
    """The record of a trained trial, not probed yet: how it ended, by which code, on which machine.

    `train_s` is the time of all its stages, of those too that other trials share; liveness is that of the last stage.
    """
    record = Record(
        order["last"], order["seed"], "diverged" if outcome.diverged else "done", outcome.reason, outcome.steps
    )
    record.role = order["role"]
    record.train_s = sum(seconds(store.stage(signature).read_steps()) for signature in order["signatures"])
    headers = (checkpoint.header(store.stage(signature).checkpoint) or {} for signature in order["signatures"])
    record.parts = max(header.get("parts", 1) for header in headers)
    lines = store.stage(order["last"]).read_steps()
    for name in sorted({key for line in lines for key in line if key.startswith("share/")}):
        values = [line[name] for line in lines if name in line]
        record.liveness[name] = sum(values) / len(values)
    active = [line["active_parameters"] for line in lines if "active_parameters" in line]
    record.active_parameters = int(max(active, default=0))
    record.parameters = sum(p.numel() for p in vae.parameters())
    record.flops = flops(vae, corpus.heldout.shape[1:])
    record.data = corpus.fingerprint
    record.code = {**code_version(), "components": component_sources(order)}
    record.machine = {
        "device": torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": importlib.metadata.version("torch"),
    }
    return record


def flops(vae: Autoencoder, shape: tuple[int, ...]) -> int:
    """Floating point operations of one round trip of `3 h w` or `3 t h w`, counted without computing anything.

    Of a clip, those frames that make whole groups count.
    """
    channels, *time, height, width = shape
    whole = [vae.whole(frames) for frames in time]
    hollow = copy.deepcopy(vae).to("meta")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        hollow.decode(hollow.encode(torch.empty(1, channels, *whole, height, width, device="meta")).mean)
    return int(counter.get_total_flops())


def seconds(lines: list[dict[str, Any]]) -> float:
    """The time that the logged steps of a stage took, whoever made them."""
    total, last = 0.0, 0
    for line in lines:
        total += (line["step"] - last) / line["train/steps_per_s"]
        last = line["step"]
    return total


@functools.cache
def code_version() -> dict[str, Any]:
    """Version, commit and whether the checkout has uncommitted changes, where the code is a git checkout."""
    root = Path(__file__).resolve().parents[2]

    def git(*arguments: str) -> str | None:
        done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=False)
        return done.stdout.strip() if done.returncode == 0 else None

    commit = git("rev-parse", "HEAD") if (root / ".git").exists() else None
    return {"version": __version__, "commit": commit, "dirty": bool(git("status", "--porcelain")) if commit else None}


def component_sources(order: Order) -> dict[str, str]:
    """`slot/level` -> fingerprint of each level that the trial used: terms of weight 0 and what only they need did not.

    The levels are those of the recipe and of stages that have levels of their own.
    """
    used = [("probe", probe["level"]) for probe in order["probes"]]
    for levels in (order["recipe"], *(stage for stage in order["recipe"]["stages"] if "model" in stage)):
        terms = [term for term, settings in levels["loss"].items() if settings["weight"]]
        idle = {"loss"} if "adversarial" in terms else {"loss", "discriminator"}
        used += [(slot, levels[slot]["level"]) for slot in registry.SLOTS if slot in levels and slot not in idle]
        used += [("loss", term) for term in terms]
    return {f"{slot}/{name}": registry.level(slot, name).fingerprint for slot, name in used}
