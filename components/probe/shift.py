"""Shift: does the reconstruction move with the image, or does detail change as it passes over the model's grid?

Crops of each held-out image, moved along the diagonal px by px through a stride, are reconstructed alone and compared
where they show the same pixels, away from their borders. A sampler that drops pixels without a blur lets high
frequencies through as low ones, which then depend on the position (Zhang, "Making Convolutional Networks
Shift-Invariant Again", 2019, arXiv 1904.11486). A move by a whole stride changes nothing but what is in view, which
normalisation and attention feel: it is the control.
"""

import torch
from torch import Tensor

from ablate.components.shared.measure import GREY_LEVELS
from ablate.slots import Metric, Probe, ProbeResult, ProbeSettings, Subject

METRICS = (
    Metric("shift/error", "gl", "down", "change of the reconstruction, moved back, by moves of 1 to stride - 1 px"),
    Metric("shift/psnr", "dB", "up", "the same as peak signal-to-noise ratio, mean over images and moves"),
    Metric("shift/error_stride", "gl", "down", "the change by a move of a whole stride, as a control"),
)


class Config(ProbeSettings):
    """No settings: numbers of all studies are comparable."""

    def smallest(self, stride: int) -> int:
        """Side in px from which on the first metric is reported, for a model of that stride."""
        return 4 * stride


def build(config: Config) -> Probe:
    return examine


def examine(subject: Subject) -> ProbeResult:
    """Reports nothing for images under four strides. A model of stride 1 knows moves by a whole stride only.

    Reconstructions are not clamped.
    """
    stride, side = subject.vae.stride, subject.images.shape[-1]
    if side < 4 * stride:
        return ProbeResult({})
    size = side - stride
    first, last = size // 4 + stride, size - size // 4  # seen by all crops, a quarter of their size from the border

    def moved(by: int) -> Tensor:
        crops = subject.images[..., by : by + size, by : by + size]
        seen = slice(first - by, last - by)
        return subject.reconstruct(crops)[..., seen, seen]

    still = moved(0)
    changes = [(moved(by) - still).cpu().double() for by in range(1, stride + 1)]
    error = torch.stack([GREY_LEVELS * change.abs().mean((1, 2, 3)) for change in changes])  # moves n
    psnr = torch.stack([-10 * change.square().mean((1, 2, 3)).log10() for change in changes])
    within = slice(max(1, stride - 1))
    values = {
        "shift/error": error[within].mean(0),
        "shift/psnr": psnr[within].mean(0),
        "shift/error_stride": error[-1],
    }
    return ProbeResult(
        metrics={name: value.mean().item() for name, value in values.items()},
        per_image={name: value.tolist() for name, value in values.items()},
    )
