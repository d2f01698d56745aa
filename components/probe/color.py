"""Colour shift: is there a tint, do the images share it, and would one see it?

VIVAT (arXiv 2506.07863) shows the artifact as a yellow tint. Colour differences are CIEDE2000 (Sharma, Wu & Dalal,
2005), where about 1 is just noticeable. Biases are of the raw reconstruction, colour differences of what is displayed.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from ablate.registry import Metric, Settings
from ablate.slots import Findings, Probe, Subject
from components.cielab import ciede2000, srgb_to_lab
from components.measure import GREY_LEVELS, displayed, gaussian_blur

METRICS = (
    Metric("color/dE00", "dE00", "down", "colour difference between an image's mean colours"),
    Metric("color/bias_r", "gl", "target", "mean of reconstruction minus source, red"),
    Metric("color/bias_g", "gl", "target", "the same, green"),
    Metric("color/bias_b", "gl", "target", "the same, blue"),
    Metric("color/bias_norm", "gl", "down", "length of the three"),
    Metric("color/coherence", "1", "none", "1: all images share one tint, n^-1/2: each has its own; idle below 0.2 gl"),
    Metric("color/db", "b*", "target", "change of the mean colour towards yellow (+) or blue (-)"),
    Metric("color/dE00_low_p95", "dE00", "down", "95th percentile over pixels after a blur of 8 px: local casts"),
)
LOW_SIGMA = 8.0


class Config(Settings):
    """No settings: numbers of all studies are comparable."""


def build(config: Config) -> Probe:
    return examine


def examine(subject: Subject) -> Findings:
    x, raw = subject.images, subject.reconstruction
    biases = GREY_LEVELS * (raw - x).mean((2, 3))
    bias = biases.mean(0)
    lengths = biases.norm(dim=1)

    y = displayed(raw)
    mean_x, mean_y = (srgb_to_lab(image.mean((2, 3), keepdim=True)) for image in (x, y))
    shift = ciede2000(mean_x, mean_y).flatten()
    casts = ciede2000(srgb_to_lab(_low_pass(x)), srgb_to_lab(_low_pass(y))).flatten(1).quantile(0.95, dim=1)
    red, green, blue = bias.tolist()
    return Findings(
        metrics={
            "color/bias_r": red,
            "color/bias_g": green,
            "color/bias_b": blue,
            "color/bias_norm": bias.norm().item(),
            "color/coherence": (bias.norm() / lengths.mean().clamp(min=torch.finfo(bias.dtype).tiny)).item(),
            "color/dE00": shift.mean().item(),
            "color/db": (mean_y - mean_x)[:, 2].mean().item(),
            "color/dE00_low_p95": casts.mean().item(),
        },
        per_image={"color/dE00": shift.tolist(), "color/dE00_low_p95": casts.tolist()},
    )


def _low_pass(x: Tensor) -> Tensor:
    """Blurred, and sampled every 4 px: after this blur nothing lies between."""
    radius = min(round(3 * LOW_SIGMA), x.shape[-1] - 1)
    return gaussian_blur(F.pad(x, [radius] * 4, mode="reflect"), LOW_SIGMA, radius)[..., ::4, ::4]
