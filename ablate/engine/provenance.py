"""The provenance of a record: how training ended, the code, the machine, the model's size and cost."""

import functools
import importlib.metadata
import platform
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from ablate import __version__
from ablate.data.content import merge_contents
from ablate.data.corpus import Corpus
from ablate.engine.build import split_level
from ablate.engine.causes import find_cause
from ablate.engine.checkpoint import Checkpoint
from ablate.engine.flops import flops
from ablate.engine.train import EndedStage
from ablate.plan.trials import Order
from ablate.slots import registry
from ablate.slots.targets import Target
from ablate.slots.training import Autoencoder
from ablate.store.record import Record

MIXED = "mixed"
"""Stands for the fingerprint of a level whose code changed while it was used; no code has this fingerprint."""


@dataclass(frozen=True)
class TrainingResult:
    """How the training of a trial ended: steps over all stages, and the reason if it diverged.

    `stages`: the stages that were trained, here or before, in order.
    """

    stages: tuple[EndedStage, ...]
    steps: int
    diverged: bool = False
    reason: str = ""


def describe(order: Order, result: TrainingResult, vae: Autoencoder, corpus: Corpus, device: torch.device) -> Record:
    """The record of a trained trial before it is probed: how training ended, with which code, on which machine.

    `train_s` is the time of all stages, including those shared with other trials. Liveness is that of the last stage.
    """
    status: Literal["done", "diverged"] = "diverged" if result.diverged else "done"
    record = Record(order["last"], order["seed"], status, result.reason, result.steps)
    record.role = order["role"]
    last = result.stages[-1]
    record.cause = last.saved.header.get("cause", "") if result.diverged else find_cause(last.lines, None)

    # Training
    record.train_s = sum(training_seconds(stage.lines) for stage in result.stages)
    record.parts = max(stage.saved.header.get("parts", 1) for stage in result.stages)
    is_last = len(result.stages) == len(order["signatures"])  # not if an earlier stage diverged
    lines = result.stages[-1].lines if is_last else []
    for name in sorted({key for line in lines for key in line if key.startswith("share/")}):
        values = [line[name] for line in lines if name in line]
        record.liveness[name] = sum(values) / len(values)
    active = [line["active_parameters"] for line in lines if "active_parameters" in line]
    record.active_parameters = int(max(active, default=0))

    # Model and data
    record.parameters = sum(p.numel() for p in vae.parameters())
    record.flops = flops(vae, corpus.heldout.shape[1:])
    record.data = corpus.fingerprint
    record.content = content_of(result)

    # Code and machine
    record.code = {**code_version(), "components": {**component_sources(order), **trained_by(result)}}
    if own := own_files(record.code["components"]):
        record.code |= {"own": own, "copy": order.get("code", "")}
    record.machine = {
        "device": torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": importlib.metadata.version("torch"),
    }
    return record


def training_seconds(lines: list[dict[str, Any]]) -> float:
    """Seconds that the logged steps of a stage took, by whichever worker."""
    total = 0.0
    last = 0
    for line in lines:
        total += (line["step"] - last) / line["train/steps_per_s"]
        last = line["step"]
    return total


@functools.cache
def code_version() -> dict[str, Any]:
    """Version; for a git checkout also the commit, and `dirty`: whether there are uncommitted changes."""
    root = Path(__file__).resolve().parents[2]

    def git(*arguments: str) -> str | None:
        done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=False)
        return done.stdout.strip() if done.returncode == 0 else None

    commit = git("rev-parse", "HEAD") if (root / ".git").exists() else None
    return {"version": __version__, "commit": commit, "dirty": bool(git("status", "--porcelain")) if commit else None}


def own_files(components: Iterable[str]) -> dict[str, str]:
    """Of levels, given as `slot/level`, the file of each that is an own one."""
    levels = {path: registry.level(*path.split("/", 1)) for path in components}
    return {path: str(level.path) for path, level in levels.items() if level.folder or isinstance(level, Target)}


def stage_sources(recipe: dict[str, Any], own: Checkpoint | None) -> dict[str, str]:
    """Fingerprint by `slot/level` of each level that trains a stage; `own`: the checkpoint that it goes on from.

    A level that other code had before that checkpoint is `MIXED`, which makes the record stale for good.
    """
    now = component_sources({"recipe": {**recipe, "stages": []}, "probes": []})
    return merge_sources([now, own.header.get("code", {}) if own else {}])


def trained_by(result: TrainingResult) -> dict[str, str]:
    """Fingerprint by `slot/level` of the levels that trained the stages, by their checkpoints."""
    return merge_sources([stage.saved.header.get("code", {}) for stage in result.stages])


def content_of(result: TrainingResult) -> dict[str, str]:
    """Content hashes of what the levels have read that trained the stages, by their checkpoints."""
    return merge_contents(stage.saved.header.get("content", {}) for stage in result.stages)


def merge_sources(parts: Iterable[dict[str, str]]) -> dict[str, str]:
    """Fingerprints from several places as one; `MIXED` where they differ."""
    merged: dict[str, str] = {}
    for part in parts:
        for level, fingerprint in part.items():
            merged[level] = fingerprint if merged.get(level, fingerprint) == fingerprint else MIXED
    return merged


def component_sources(order: Order) -> dict[str, str]:
    """Fingerprint by `slot/level` of each level that the trial used.

    The levels are those of the recipe and of stages that have levels of their own.
    """
    used = [("probe", probe["level"]) for probe in order["probes"]]
    for levels in (order["recipe"], *(stage for stage in order["recipe"]["stages"] if "model" in stage)):
        used += [(slot, level) for slot, level, _ in used_levels(levels)]
        used += [("model", levels["model"]["target"])] if levels["model"]["level"] == "python" else []
    return {f"{slot}/{name}": registry.level(slot, name).fingerprint for slot, name in used}


def used_levels(recipe: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    """Slot, name and settings of each level that a recipe uses.

    Terms of weight 0, and levels that only they need, are left out.
    """
    terms = [term for term, settings in recipe["loss"].items() if settings["weight"]]
    idle = {"loss"} if "adversarial" in terms else {"loss", "discriminator"}
    slots = [slot for slot in registry.SLOTS if slot in recipe and slot not in idle]
    levels = [(slot, *split_level(recipe[slot])) for slot in slots]
    return [*levels, *(("loss", name, recipe["loss"][name]) for name in terms)]
