"""What is said of a trained VAE: what the probes find, and by what it was made."""

import copy
import functools
import importlib.metadata
import json
import platform
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode

from ablate import __version__, checkpoint, registry
from ablate.corpus import Corpus
from ablate.identity import derive
from ablate.probe import Examination, run_probes
from ablate.slots import Autoencoder
from ablate.store import Record, StageFolder, Store, whole, write_json
from ablate.trials import Order

PEEK_PICTURES = 16
INPUTS = 64
"""How many training crops a probe may look at; the same in every trial."""


@dataclass(frozen=True)
class Outcome:
    """How training ended: after `steps` steps, `diverged` with the reason or not."""

    steps: int
    diverged: bool = False
    reason: str = ""


def look_in(
    order: Order, model: Autoencoder, corpus: Corpus, device: torch.device, ema: dict[str, torch.Tensor]
) -> dict[str, float]:
    """The study's quick probes on averaged weights and the first held-out pictures, as `during/<metric>`."""
    quick = [probe for probe in order["probes"] if registry.level("probe", probe["level"]).cheap]
    vae = copy.deepcopy(model)
    vae.load_state_dict(ema, strict=False)
    found = run_probes(vae, corpus.heldout[:PEEK_PICTURES], quick, device)
    return {f"during/{name}": value for name, value in found.metrics.items()}


def examine(
    record: Record, order: Order, vae: Autoencoder, corpus: Corpus, folder: StageFolder, device: torch.device
) -> None:
    """Run the probes that the record lacks, on the averaged weights of the checkpoint and, unless costly, the raw ones.

    Pictures and per-image values are those of the averaged weights.
    """
    missing = [
        probe for probe in order["probes"] if record.probes.get(probe["level"]) != order["probe_keys"][probe["level"]]
    ]
    begun = time.perf_counter()
    training = corpus.batch(INPUTS, np.random.default_rng(derive(0, "inputs")))
    examination = functools.partial(
        run_probes, vae, corpus.heldout, device=device, training=training, motion=corpus.motion, batch=corpus.batch
    )
    vae.load_state_dict(checkpoint.load(folder.checkpoint, "model.", device))
    quick = [probe for probe in missing if not registry.level("probe", probe["level"]).costly]
    record.raw |= examination(quick).metrics
    vae.load_state_dict(checkpoint.load(folder.checkpoint, "ema.", device), strict=False)
    found = examination(missing)
    keep(found, folder)
    record.metrics |= found.metrics
    record.info |= found.info
    record.probes |= {probe["level"]: order["probe_keys"][probe["level"]] for probe in missing}
    sources = {f"probe/{probe['level']}": registry.level("probe", probe["level"]).fingerprint for probe in missing}
    record.code["components"] = {**record.code.get("components", {}), **sources}
    record.probe_s += time.perf_counter() - begun


def keep(found: Examination, folder: StageFolder) -> None:
    """Store pictures and per-image values beside the record."""
    for name, pixels in found.pictures.items():
        with whole(folder.pictures / f"{name.replace('/', '_')}.png") as temporary:
            Image.fromarray(pixels).save(temporary, "PNG")
    known = json.loads(folder.per_image.read_text()) if folder.per_image.exists() else {}
    write_json(folder.per_image, known | found.per_image)


def describe(
    order: Order, outcome: Outcome, store: Store, vae: Autoencoder, corpus: Corpus, device: torch.device
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
    root = Path(__file__).resolve().parent.parent

    def git(*arguments: str) -> str | None:
        done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=False)
        return done.stdout.strip() if done.returncode == 0 else None

    commit = git("rev-parse", "HEAD") if (root / ".git").exists() else None
    return {"version": __version__, "commit": commit, "dirty": bool(git("status", "--porcelain")) if commit else None}


def component_sources(order: Order) -> dict[str, str]:
    """`slot/level` -> content hash of the source of each level that the trial used."""
    used = [("probe", probe["level"]) for probe in order["probes"]]
    for levels in (order["recipe"], *(stage for stage in order["recipe"]["stages"] if "model" in stage)):
        used += [(slot, levels[slot]["level"]) for slot in registry.SLOTS if slot in levels and slot != "loss"]
        used += [("loss", term) for term in levels["loss"]]
    return {f"{slot}/{name}": registry.level(slot, name).fingerprint for slot, name in used}
