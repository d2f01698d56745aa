"""Measures what each kind of training step in a study costs, by running a few steps and the probes once."""

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import torch

from ablate.data.prepare import prepare
from ablate.engine.build import build_parts, split_level
from ablate.engine.examine import examine
from ablate.engine.memory import OutOfMemory, device_name, micro_batches, within_memory
from ablate.engine.run import reset_process
from ablate.engine.train import train
from ablate.plan.cost import StepKind, StepKinds
from ablate.plan.footprint import Footprint, write
from ablate.store.folders import Store
from ablate.store.record import Record
from ablate.store.stage import StageFolder

STEPS = 3
"""Steps that are timed. One step before them is not: it also measures the gradient of each loss term."""


def measure(kinds: StepKinds, store: Store, threads: int, report: Callable[[str], None]) -> dict[str, Footprint]:
    """Measure the footprint of each kind of step on this machine's device, and store it. `report` gets progress."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    measured = {}
    for i, (key, kind) in enumerate(kinds.items(), 1):
        report(f"measuring {i} of {len(kinds)}: {kind.trial.name}, stage '{kind.stage.name}'")
        if kind.stage.is_external:
            report(f"stage '{kind.stage.name}' runs a command, whose cost is not measured")
            measured[key] = Footprint()
            continue
        while key not in measured:
            try:
                measured[key] = _measure(key, kind, store, device, threads)
            except OutOfMemory as error:
                report(str(error))
        write(store, key, device_name(device), measured[key])
    return measured


def _measure(key: str, kind: StepKind, store: Store, device: torch.device, threads: int) -> Footprint:
    # Set-up: all terms active, every step logged
    reset_process(threads)
    order = kind.trial.order()
    order |= {"recipe": _without_late_starts(kind.recipe.plain()), "probe_keys": dict.fromkeys(order["probe_keys"], "")}
    corpus = prepare(*split_level(order["recipe"]["data"]), store.data)
    log_all = {"log_every": 1, "checkpoint_every": kind.stage.settings.steps, "probe_every": 0}
    stage = replace(kind.stage, settings=kind.stage.settings.model_copy(update=log_all), before=0)
    until = min(1 + STEPS, stage.settings.steps)
    _reset_peak(device)
    with within_memory(store, key, stage, device) as footprint, tempfile.TemporaryDirectory() as scratch:
        # Train
        folder = StageFolder(Path(scratch))
        parts = build_parts(order, corpus, device, regularize=stage.settings.regularize)
        with micro_batches(parts.vae, footprint.micro_batch(stage)):
            ended = train(
                parts, stage, order["seed"], folder, None, lambda step, losses: None, {}, lambda ema: {}, until
            )
        seconds = [1 / line["train/steps_per_s"] for line in ended.lines]
        memory = _peak(device)
        checkpoint = folder.checkpoint.stat().st_size

        # Probe, if a trial ends here
        record = Record(key, 0, "done", "", 0)
        if kind.trials:
            examine(record, order, parts.vae, ended.saved, corpus, folder, device)
    step_s = median(seconds[1:] or seconds)
    return replace(footprint, step_s=step_s, probe_s=record.probe_s, memory=memory, checkpoint=checkpoint)


def _without_late_starts(recipe: dict[str, Any]) -> dict[str, Any]:
    """The recipe with every loss term and the discriminator active at full weight from the first step."""
    losses = {name: {**term, **{k: 0 for k in ("start", "ramp") if k in term}} for name, term in recipe["loss"].items()}
    discriminator = {**recipe["discriminator"], **({"start": 0} if "start" in recipe["discriminator"] else {})}
    return {**recipe, "loss": losses, "discriminator": discriminator}


def _reset_peak(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif (clear := Path("/proc/self/clear_refs")).exists():
        clear.write_text("5")  # resets the peak of the resident set; see proc(5)


def _peak(device: torch.device) -> int:
    """The most bytes that the process held: of the GPU's memory if it trains on one, else of the host's."""
    if device.type == "cuda":
        return torch.cuda.max_memory_reserved(device)
    import resource

    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
