"""Probe a trained VAE and write its record."""

import copy
import functools
import time
from typing import Any

import numpy as np
import torch
from PIL import Image

from ablate.data.corpus import Corpus
from ablate.engine.checkpoint import Checkpoint
from ablate.engine.probes import ProbeResults, run_probes
from ablate.engine.provenance import own_files
from ablate.identity import derive
from ablate.plan.trials import Order
from ablate.slots import registry
from ablate.slots.training import Autoencoder
from ablate.store.files import atomic_write, read_json, write_json
from ablate.store.names import file_name
from ablate.store.record import Record
from ablate.store.stage import StageFolder

QUICK_PROBE_PICTURES = 16
"""How many held-out pictures the quick probes use during training."""


TRAINING_CROPS = 64
"""How many training crops are given to probes; the same crops in every trial."""


def run_quick_probes(
    order: Order, model: Autoencoder, corpus: Corpus, device: torch.device, ema: dict[str, torch.Tensor]
) -> dict[str, float]:
    """Run the study's quick probes on averaged weights and the first held-out pictures; gives `during/<metric>`."""
    quick = [probe for probe in order["probes"] if registry.level("probe", probe["level"]).cheap]
    vae = copy.deepcopy(model)
    vae.load_state_dict(ema, strict=False)
    results = run_probes(vae, corpus.heldout[:QUICK_PROBE_PICTURES], quick, device)
    return {f"during/{name}": value for name, value in results.metrics.items()}


def examine(
    record: Record,
    order: Order,
    vae: Autoencoder,
    saved: Checkpoint,
    corpus: Corpus,
    folder: StageFolder,
    device: torch.device,
) -> None:
    """Run the probes that the record lacks, and add their results to the record.

    They run on the averaged weights of `saved` and, unless they are costly, on its raw ones too. Pictures and per-image
    values are those of the averaged weights. What lies in the folder meanwhile plays no part.
    """
    # Which probes, on which data
    keys = order["probe_keys"]
    missing = [
        settings for settings in order["probes"] if record.probes.get(settings["level"]) != keys[settings["level"]]
    ]
    begun = time.perf_counter()
    training = corpus.batch(TRAINING_CROPS, np.random.default_rng(derive(0, "inputs")))
    probe = functools.partial(
        run_probes, vae, corpus.heldout, device=device, training=training, motion=corpus.motion, batch=corpus.batch
    )

    # Raw weights, if the checkpoint has them
    vae.load_state_dict(saved.part("model.", device), strict=saved.has_raw)
    not_costly = [settings for settings in missing if not registry.level("probe", settings["level"]).costly]
    record.raw |= probe(not_costly).metrics if saved.has_raw else {}

    # Averaged weights
    vae.load_state_dict(saved.part("ema.", device), strict=False)
    results = probe(missing)
    save_pictures(results, folder)

    # Record
    record.protocol = protocol(order, corpus, saved)
    record.metrics |= results.metrics
    record.info |= results.info
    levels = [settings["level"] for settings in missing]
    record.probes |= {level: order["probe_keys"][level] for level in levels}
    sources = {f"probe/{level}": registry.level("probe", level).fingerprint for level in levels}
    record.code["components"] = {**record.code.get("components", {}), **sources}
    if own := own_files(sources):
        record.code |= {"own": {**record.code.get("own", {}), **own}, "copy": order.get("code", "")}
    record.probe_s += time.perf_counter() - begun


def protocol(order: Order, corpus: Corpus, saved: Checkpoint) -> dict[str, Any]:
    """How the metrics of a record are measured, as JSON values.

    `heldout`: data level, number and size of the held-out crops, frames of each (1 for pictures), the filter that
    reduces pictures to them, and the range of values. `weights`: of `metrics` and of `raw`. `probes`: the settings of
    each probe, such as the network whose features it takes.
    """
    stage = order["recipe"]["stages"][-1]
    count, _, *frames, _, size = corpus.heldout.shape
    return {
        "heldout": {
            "data": stage.get("data", order["recipe"]["data"])["level"],
            "count": count, "size": size, "frames": frames[0] if frames else 1,
            "filter": "bicubic, antialiased", "range": [0, 1],
        },
        "weights": {
            "metrics": f"averaged, decay {stage['ema']}" if "ema" in stage else "as the command wrote them",
            "raw": "as the optimiser left them" if saved.has_raw else "none",
        },
        "probes": {probe["level"]: {k: v for k, v in probe.items() if k != "level"} for probe in order["probes"]},
    }  # fmt: skip


def save_pictures(results: ProbeResults, folder: StageFolder) -> None:
    """Write pictures and per-image values beside the record; values of other metrics stay."""
    for name, pixels in results.pictures.items():
        with atomic_write(folder.pictures / f"{file_name(name)}.png") as temporary:
            Image.fromarray(pixels).save(temporary, "PNG")
    write_json(folder.per_image, (read_json(folder.per_image) or {}) | results.per_image)
