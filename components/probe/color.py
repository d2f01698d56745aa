"""Colour shift: the size of a tint, whether the images share it, and whether a viewer would see it.

VIVAT (arXiv 2506.07863) shows the artifact as a yellow tint. Colour differences are CIEDE2000 (Sharma, Wu & Dalal,
2005), where about 1 is just noticeable. Biases, gains and offsets are measured on the unclamped reconstruction, colour
differences on what is displayed. A shift may depend on the colour: constant pictures add colours that are rare in
photographs.

A gain is the contrast that is left: the slope of y over x by least squares, sum (x - m_x)(y - m_y) / sum (x - m_x)^2,
with the means m of each image and after a blur of 8 px, so that neither blur nor images of different brightness count.
A model that returns mean colours has a gain of 0.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from ablate.components.probe._cielab import ciede2000, srgb_to_lab
from ablate.components.shared.measure import GREY_LEVELS, displayed, gaussian_blur
from ablate.slots import Metric, Probe, ProbeResult, ProbeSettings, Subject

METRICS = (
    Metric("color/dE00", "dE00", "down", "colour difference between an image's mean colours", interest=1),
    Metric("color/bias_r", "gl", "target", "mean of reconstruction minus source, red", interest=1),
    Metric("color/bias_g", "gl", "target", "the same, green", interest=1),
    Metric("color/bias_b", "gl", "target", "the same, blue", interest=1),
    Metric("color/bias_norm", "gl", "down", "length of the vector of the three biases", interest=1),
    Metric(
        "color/coherence",
        "1",
        "none",
        "1: all images share one tint, n^-1/2: each has its own; no meaning below 0.2 gl",
    ),
    Metric("color/db", "b*", "target", "change of the mean colour towards yellow (+) or blue (-)", interest=1),
    Metric(
        "color/dE00_low_p95",
        "dE00",
        "down",
        "colour difference after a blur of 8 px, 95th percentile over pixels: local casts",
        interest=1,
    ),
    Metric(
        "color/gain_r",
        "1",
        "target",
        "contrast left: slope of reconstruction over source within images, red",
        1.0,
        3,
        interest=0.02,
    ),
    Metric("color/gain_g", "1", "target", "the same, green", 1.0, 3, interest=0.02),
    Metric("color/gain_b", "1", "target", "the same, blue", 1.0, 3, interest=0.02),
    Metric("color/offset_r", "gl", "target", "reconstruction of black on that line, red", interest=2),
    Metric("color/offset_g", "gl", "target", "the same, green", interest=2),
    Metric("color/offset_b", "gl", "target", "the same, blue", interest=2),
    Metric(
        "color/dE00_const", "dE00", "down", "colour difference on constant pictures, mean of 28 colours", interest=1
    ),
)


CHEAP = True


LOW_SIGMA = 8.0  # px, of the blur before local casts are measured


class Config(ProbeSettings):
    """No settings, so that the numbers of all studies are comparable."""


def build(config: Config) -> Probe:
    return examine


def examine(subject: Subject) -> ProbeResult:
    """Reports all metrics for every model. Values per image: the two colour differences of held-out images."""
    # bias of each image, in grey levels
    x = subject.images
    raw = subject.reconstruction
    biases = GREY_LEVELS * (raw - x).mean((2, 3))
    bias = biases.mean(0)
    lengths = biases.norm(dim=1)

    # visible colour differences: of mean colours, of local colours, of constant pictures
    y = displayed(raw)
    mean_x, mean_y = (srgb_to_lab(image.mean((2, 3), keepdim=True)) for image in (x, y))
    shift = ciede2000(mean_x, mean_y).flatten()
    low_x = _low_pass(x)
    casts = ciede2000(srgb_to_lab(low_x), srgb_to_lab(_low_pass(y))).flatten(1).quantile(0.95, dim=1)
    means = displayed(subject.constants).mean((2, 3), keepdim=True)
    constant = ciede2000(srgb_to_lab(subject.colours), srgb_to_lab(means))

    gain, offset = _line(low_x, _low_pass(raw))
    per_channel = {"bias": bias, "gain": gain, "offset": offset}
    return ProbeResult(
        metrics={
            **{
                f"color/{name}_{c}": values[i].item()
                for name, values in per_channel.items()
                for i, c in enumerate("rgb")
            },
            "color/bias_norm": bias.norm().item(),
            "color/coherence": (bias.norm() / lengths.mean().clamp(min=torch.finfo(bias.dtype).tiny)).item(),
            "color/dE00": shift.mean().item(),
            "color/db": (mean_y - mean_x)[:, 2].mean().item(),
            "color/dE00_low_p95": casts.mean().item(),
            "color/dE00_const": constant.mean().item(),
        },
        per_image={"color/dE00": shift.tolist(), "color/dE00_low_p95": casts.tolist()},
    )


def _line(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Gain, and offset in gl, of each channel of images `n 3 h w`: least squares y = gain x + offset within images.

    The offset is that of the mean over images. NaN if all pixels of each source are equal.
    """
    x, y = (image.double() for image in (x, y))
    mean_x = x.mean((2, 3), keepdim=True)
    mean_y = y.mean((2, 3), keepdim=True)
    centred = x - mean_x
    gain = (centred * (y - mean_y)).sum((0, 2, 3)) / centred.square().sum((0, 2, 3))
    return gain, GREY_LEVELS * (mean_y.mean((0, 2, 3)) - gain * mean_x.mean((0, 2, 3)))


def _low_pass(x: Tensor) -> Tensor:
    """Blur and keep every 4th pixel, which loses nothing after this blur."""
    radius = min(round(3 * LOW_SIGMA), x.shape[-1] - 1)
    return gaussian_blur(F.pad(x, [radius] * 4, mode="reflect"), LOW_SIGMA, radius)[..., ::4, ::4]
