"""A study whose only stage is a script of the user's, and the script: it writes weights that the test knows."""

from pathlib import Path

from tests.support import own_vae
from tests.support.studies import write_study

MODEL = "{level: image_kl, channels: [8, 8], latent_channels: 4, blocks: 1}"

STAGE = "- train: {steps: 6, batch: 2, lr: 3e-3, log_every: 2, checkpoint_every: 3}"

COMMAND = (
    '- external: {command: [python, train.py, "{settings}"], checkpoint: out.safetensors, metrics: log.jsonl, '
    "steps: 4, gain: 1.0}"
)

REPLACED = (
    (MODEL, "{level: python, target: my_pkg.vae:Pair}"),
    ("  loss: {l2: 1.0, kl: 1e-4}\n", ""),
    ("loss.kl: [1, 1e-4]", "stages.external.gain: [1.0, 2.0]"),
)

SCRIPT = '''\
"""Trains: weights are drawn from the seed, times a gain."""

import json
import sys

import numpy as np
from safetensors.numpy import save_file

import shapes

settings = json.load(open(sys.argv[1]))
rng = np.random.default_rng(settings["seed"])
gain = settings["options"]["gain"]
log = open(settings["metrics"], "w")
for step in range(1, settings["steps"] + 1):
    log.write(json.dumps({"step": step, "loss": 1 / step, "note": "text"}) + "\\n")
    log.flush()
weights = {name: (gain * 0.1 * rng.standard_normal(shape)).astype(np.float32) for name, shape in shapes.SHAPES.items()}
save_file(weights, settings["checkpoint"])
'''


def write_script(folder: Path, text: str = SCRIPT) -> Path:
    """Write the script with the module that it imports, and the model beside them; gives the script's path."""
    shapes = {name: tuple(tensor.shape) for name, tensor in own_vae.Pair().state_dict().items()}
    (folder / "shapes.py").write_text(f"SHAPES = {shapes!r}\n", encoding="utf-8")
    (folder / "my_pkg").mkdir(exist_ok=True)
    source = Path(own_vae.__file__).read_text(encoding="utf-8")
    (folder / "my_pkg" / "vae.py").write_text(source, encoding="utf-8")
    (folder / "train.py").write_text(text, encoding="utf-8")
    return folder / "train.py"


def write_external(folder: Path, *more: tuple[str, str], stage: str = COMMAND) -> Path:
    """Write the study; `more` replaces further texts of the tiny study."""
    return write_study(folder, *REPLACED, (STAGE, stage), *more)
