"""What is said of a trained VAE: what the probes find, and by what it was made."""

import copy
import functools
import json
import time

import numpy as np
import torch
from PIL import Image

from ablate.data.corpus import Corpus
from ablate.engine import checkpoint
from ablate.engine.probes import ProbeResults, run_probes
from ablate.identity import derive
from ablate.plan.trials import Order
from ablate.slots import registry
from ablate.slots.training import Autoencoder
from ablate.store.files import whole, write_json
from ablate.store.folders import StageFolder
from ablate.store.record import Record

PEEK_PICTURES = 16


INPUTS = 64
"""How many training crops a probe may look at; the same in every trial."""


def probe_during_training(
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


def keep(found: ProbeResults, folder: StageFolder) -> None:
    """Store pictures and per-image values beside the record."""
    for name, pixels in found.pictures.items():
        with whole(folder.pictures / f"{name.replace('/', '_')}.png") as temporary:
            Image.fromarray(pixels).save(temporary, "PNG")
    known = json.loads(folder.per_image.read_text()) if folder.per_image.exists() else {}
    write_json(folder.per_image, known | found.per_image)
