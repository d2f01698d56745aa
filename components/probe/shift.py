"""Shift: how much the reconstruction changes, apart from moving along, when the image is shifted.

Crops of each held-out image, shifted along the diagonal by 0 to one stride in steps of 1 px, are reconstructed
separately and compared where they show the same pixels, away from their borders. A down-sampler that drops pixels
without a blur aliases high frequencies to low ones, which then depend on the position on the model's grid (Zhang,
"Making Convolutional Networks Shift-Invariant Again", 2019, arXiv 1904.11486). A shift by a whole stride changes only
the content in view, to which normalisation and attention respond: it is the control. Changes are divided by the
contrast gain of each image (`_tone`; at least 5 %), since a faded picture changes less.
"""

import torch
from torch import Tensor

from ablate.components.probe._tone import LEAST_GAIN, tones
from ablate.components.shared.measure import GREY_LEVELS
from ablate.slots import Metric, Probe, ProbeResult, ProbeSettings, Subject

METRICS = (
    Metric(
        "shift/error",
        "gl",
        "down",
        "change under shifts of 1 to stride - 1 px, moved back, over the contrast gain",
        interest=0.5,
    ),
    Metric(
        "shift/psnr", "dB", "up", "the same as peak signal-to-noise ratio, mean over images and shifts", interest=0.5
    ),
    Metric(
        "shift/error_stride", "gl", "down", "the change under a shift by a whole stride, as a control", interest=0.5
    ),
)


class Config(ProbeSettings):
    """No settings, so that the numbers of all studies are comparable."""

    def smallest(self, stride: int) -> int:
        """Smallest side in px at which the first metric is reported, for a model of this stride."""
        return 4 * stride


def build(config: Config) -> Probe:
    return examine


def examine(subject: Subject) -> ProbeResult:
    """Reports nothing for images under four strides. For a model of stride 1 every shift is by whole strides.

    Reconstructions are not clamped.
    """
    stride = subject.vae.stride
    side = subject.images.shape[-1]
    if side < 4 * stride:
        return ProbeResult({})
    size = side - stride
    # the pixels that all crops show, at least a quarter of their size from the border
    first = size // 4 + stride
    last = size - size // 4

    def shifted(by: int) -> Tensor:
        """The part of the reconstruction that all crops show, from crops shifted by `by` px."""
        crops = subject.images[..., by : by + size, by : by + size]
        seen = slice(first - by, last - by)
        return subject.reconstruct(crops)[..., seen, seen]

    unshifted = shifted(0)
    gain = tones(subject).gain.clamp(min=LEAST_GAIN)[:, None, None, None]
    changes = [(shifted(by) - unshifted).cpu().double() / gain for by in range(1, stride + 1)]
    error = torch.stack([GREY_LEVELS * change.abs().mean((1, 2, 3)) for change in changes])  # shifts n
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
