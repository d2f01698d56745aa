"""An examination of the trained model: here how far the mean brightness of reconstructions is off.

Say here what the probe measures, its formula, and what it is blind to.
"""

import torch

from ablate.slots import Metric, Probe, ProbeResult, ProbeSettings, Subject

# Each metric: name, unit ("gl": grey levels, 1/255 of the range), direction ("up", "down", "target", "none"), meaning.
METRICS = (
    Metric("starter/bias", "gl", "target", "mean of the reconstructions minus that of the pictures"),
    Metric("starter/worst", "gl", "down", "largest absolute difference of a picture's mean"),
)
# CHEAP = True would run the probe during training, every `probe_every` steps of a stage.


class Config(ProbeSettings):
    """No settings: numbers of all studies are comparable."""


def build(config: Config) -> Probe:
    return examine


def examine(subject: Subject) -> ProbeResult:
    """`subject.images` are held-out pictures `n 3 s s` in [0, 1]; `subject.vae` encodes and decodes others."""
    with torch.inference_mode():
        off = 255 * (subject.reconstruction - subject.images).mean((1, 2, 3))
    return ProbeResult(
        metrics={"starter/bias": off.mean().item(), "starter/worst": off.abs().max().item()},
        per_image={"starter/bias": off.tolist()},
    )
