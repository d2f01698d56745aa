"""A study of short trials on procedural pictures, for the benchmarks of overhead and tracking."""

from ablate.study.document import parse
from ablate.study.study import Study, read_study

STUDY = """\
study: tiny
question: Does a strong KL weight cost PSNR?
base:
  data: {{level: leaves, crop: 16, resize: none, heldout_size: 32, heldout_count: 4}}
  model: {{level: image_kl, channels: [8, 8], latent_channels: 4, blocks: 1}}
  norm: {{level: group, groups: 4}}
  loss: {{l2: 1.0, kl: 1e-4}}
factors:
  loss.kl: [{levels}]
seeds: 2
stages:
  - train: {{steps: {steps}, batch: 2, lr: 3e-3, log_every: 1}}
probes: [reconstruction]
primary: psnr
"""


def study(steps: int, treatments: int = 4) -> Study:
    """A study with two seeds per treatment that logs every step."""
    levels = ", ".join(f"{i}e-4" for i in range(1, treatments + 1))
    return read_study(parse(STUDY.format(steps=steps, levels=levels), "tiny.yaml"), None, (), gpu=False)
