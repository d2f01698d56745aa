"""A study that trains in seconds on procedural pictures, written to a file with some of its text replaced."""

import shutil
from collections.abc import Callable
from pathlib import Path

from ablate.plan.trials import Trial, expand
from ablate.study.study import load_study

ROOT = Path(__file__).parents[2]
"""The repository."""

TINY = """\
study: tiny
question: Does a strong KL weight cost PSNR?
base:
  data: {level: leaves, crop: 16, resize: none, heldout_size: 32, heldout_count: 4}
  model: {level: image_kl, channels: [8, 8], latent_channels: 4, blocks: 1}
  norm: {level: group, groups: 4}
  padding: reflect
  loss: {l2: 1.0, kl: 1e-4}
factors:
  loss.kl: [1, 1e-4]
seeds: 2
stages:
  - train: {steps: 6, batch: 2, lr: 3e-3, log_every: 2, checkpoint_every: 3}
probes: [reconstruction]
primary: psnr
"""

FEW = ("{level: leaves, crop: 16,", "{level: leaves, count: 8, size: 48, crop: 16,")
"""Few and small pictures, which every new store draws: the default ones would take longer than all else."""

LONG = (
    ("steps: 6", "steps: 80"),
    ("log_every: 2, checkpoint_every: 3", "log_every: 5, checkpoint_every: 20"),
)
"""Replacements that make trials of the tiny study last long enough to be interrupted after a checkpoint."""

Write = Callable[..., Path]
"""The fixture `write_study`: replacements `(old, new)...` and `name=` of the file -> its path."""


def write_study(folder: Path, *replacements: tuple[str, str], name: str = "tiny.yaml") -> Path:
    """Write the tiny study with each `old` text replaced by `new`; an `old` that is not there is an error."""
    text = TINY
    for old, new in replacements:
        assert old in text, old
        text = text.replace(old, new)
    text = text.replace(*FEW)
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def trial_of(path: Path, index: int = 0) -> Trial:
    """One trial of a study's file; the first is the baseline with seed 0."""
    return expand(load_study(path))[index]


def copy_package(folder: Path) -> None:
    """Copy the package to `folder/ablate`, levels included, so that a test can change its source."""
    shutil.copytree(ROOT / "ablate", folder / "ablate", ignore=shutil.ignore_patterns("__pycache__"))
