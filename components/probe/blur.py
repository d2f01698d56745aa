"""Blur: how much detail of the sources survives, and how much detail is made up.

The modulation transfer function (MTF) is computed from the cross spectrum of source and reconstruction, so that noise
or invented texture does not pass for sharpness, as it does in a comparison of powers. A Gaussian blur of sigma px has
its MTF50 at sqrt(ln 2 / 2) / (pi sigma) = 0.1874 / sigma. The artifact is one of those in VIVAT (arXiv 2506.07863).

Everything is measured on the luma of reconstructions that are not clamped, against the source in the reconstruction's
own tones (`_tone`), both divided by the contrast gain of the image: a faded or tinted picture is not blurred. Where
less than 5 % of the contrast is left, the rest counts as lost detail: a model that returns mean colours has an MTF50
of 0, and no NaN, which would drop the trial from comparisons. The edge is measured as in ISO 12233: a slanted edge
passes the pixels at many distances, which together sample its profile more finely than a pixel.
"""

import math

import torch
from torch import Tensor

from ablate.components.probe._spectrum import Spectra, luma, radial_spectra
from ablate.components.probe._tone import LEAST_GAIN, tones
from ablate.components.shared.measure import GREY_LEVELS
from ablate.slots import Metric, Probe, ProbeResult, ProbeSettings, Subject

METRICS = (
    Metric(
        "blur/mtf50",
        "cycles/px",
        "up",
        "frequency at which half the modulation is left; 0.5 at most",
        decimals=3,
        interest=0.02,
    ),
    Metric(
        "blur/coherence",
        "1",
        "up",
        "share of the detail about 1/4 cycles/px that comes from the source",
        decimals=3,
        interest=0.02,
    ),
    Metric("blur/hf_lo", "1", "target", "power in 1/8 to 1/4 cycles/px over the source's", target=1.0, interest=0.05),
    Metric("blur/hf_hi", "1", "target", "the same in 1/4 to 1/2 cycles/px", target=1.0, interest=0.05),
    Metric(
        "blur/slope", "1", "target", "slope of the log-log spectrum minus the source's; negative: blur", interest=0.1
    ),
    Metric(
        "blur/edge_px",
        "px",
        "target",
        "10-90 % rise of a slanted edge minus the source's; images of 32 px or more",
        interest=0.25,
    ),
)


SLANT = math.radians(5)  # of the edge, off the vertical


EDGE_SIGMA = 0.5  # px


CONTRAST = 0.5  # of the edge, which goes from 1/4 to 3/4


PER_PIXEL = 4  # samples of the edge's profile


class Config(ProbeSettings):
    """No settings, so that the numbers of all studies are comparable."""

    def smallest(self, stride: int) -> int:
        """Smallest side in px at which the first metric is reported, for a model of this stride."""
        return -(-32 // stride) * stride  # a smaller image has too few rings, and too short an edge


def build(config: Config) -> Probe:
    return examine


def examine(subject: Subject) -> ProbeResult:
    """Reports nothing for images under 32 px."""
    x = subject.images
    side = x.shape[-1]
    if side < Config().smallest(subject.vae.stride):
        return ProbeResult({})
    spectra = radial_spectra(*_of_equal_contrast(subject))
    low = spectra.band(1 / 8, 1 / 4)
    high = spectra.band(1 / 4, 1 / 2)
    middle = spectra.band(3 / 16, 5 / 16)
    edges = slanted_edges(side)
    reconstructed_edges = luma(subject.reconstruct(edges[:, None].expand(-1, 3, -1, -1).to(x)))
    return ProbeResult(
        {
            "blur/mtf50": mtf50(spectra),
            "blur/coherence": spectra.coherence()[middle].mean().item(),
            "blur/hf_lo": (spectra.reconstruction[low].sum() / spectra.source[low].sum()).item(),
            "blur/hf_hi": (spectra.reconstruction[high].sum() / spectra.source[high].sum()).item(),
            "blur/slope": _slope(spectra),
            "blur/edge_px": rise(reconstructed_edges) - rise(edges),
        }
    )


def _of_equal_contrast(subject: Subject) -> tuple[Tensor, Tensor]:
    """Sources in the tones of the reconstructions, and reconstructions, with the contrast of the sources."""
    x = subject.images
    toned = tones(subject)
    lost = (LEAST_GAIN - toned.gain).clamp(min=0)[:, None, None, None].to(x)
    scale = toned.gain.clamp(min=LEAST_GAIN)[:, None, None, None].to(x)
    return (toned.image + lost * (x - x.mean((2, 3), keepdim=True))) / scale, subject.reconstruction / scale


def mtf50(spectra: Spectra) -> float:
    """Frequency in cycles/px at which the transfer first falls below 1/2, interpolated; 0.5 where it never does."""
    transfer = torch.cat([torch.ones(1), spectra.transfer()])
    frequency = torch.cat([torch.zeros(1), spectra.frequency])
    if not transfer.isfinite().all():
        return math.nan
    below = (transfer < 0.5).nonzero().flatten()
    if len(below) == 0:
        return 0.5
    after = int(below[0])
    share = (transfer[after - 1] - 0.5) / (transfer[after - 1] - transfer[after])
    return torch.lerp(frequency[after - 1], frequency[after], share).item()


def _slope(spectra: Spectra) -> float:
    """Slope of the log ratio of the spectra by least squares over log frequency, from 1/32 to 1/4 cycles/px.

    Every octave has equal weight. The noise of rounding to 8 bits is added to both spectra, because detail below it is
    invisible.
    """
    rounding = spectra.white / 12 / GREY_LEVELS**2
    ratio = ((spectra.reconstruction + rounding) / (spectra.source + rounding)).log()
    band = spectra.band(1 / 32, 1 / 4)
    ratio = ratio[band]
    log_frequency = spectra.frequency[band].log()
    weight = 1 / spectra.frequency[band]
    centred = log_frequency - (weight * log_frequency).sum() / weight.sum()
    return ((weight * centred * ratio).sum() / (weight * centred.square()).sum()).item()


def slanted_edges(side: int) -> Tensor:
    """An edge from dark to bright, from bright to dark, and both transposed: `4 s s` in [1/4, 3/4], float64.

    It runs through the centre, 5 degrees off the vertical; its profile is a Gaussian step of sigma 0.5 px.
    """
    step = torch.special.ndtr(_distance(side) / EDGE_SIGMA) * CONTRAST + (1 - CONTRAST) / 2
    return torch.stack([step, 1 - step, step.T, 1 - step.T])


def rise(edges: Tensor) -> float:
    """10-90 % rise in px, across the edge, of images like `slanted_edges`; NaN if they are not finite.

    The profile is sampled every quarter of a pixel in the middle half of the edge's length, up to 3/8 of the side away
    from it. Dark and bright are the means of its outer quarters. With less than a twentieth of the contrast the edge is
    lost: it rises over the whole width of the profile.
    """
    # average the four edges, sample the profile
    up, down, up_across, down_across = edges
    edge = (up + (1 - down) + up_across.T + (1 - down_across).T) / 4
    side = edge.shape[-1]
    reach = 3 * side // 8
    middle = slice(side // 4, side - side // 4)
    distance = _distance(side)[middle]
    values = edge[middle]
    inside = distance.abs() < reach
    distance = distance[inside]
    values = values[inside]
    sample = ((distance + reach) * PER_PIXEL).long()
    count = torch.bincount(sample)
    position = torch.bincount(sample, distance) / count
    profile = torch.bincount(sample, values) / count

    # normalise it to 0 and 1, find where it crosses 0.1 and 0.9
    dark = profile[position < -reach / 2].mean()
    bright = profile[position > reach / 2].mean()
    if not profile.isfinite().all():
        return math.nan
    if bright - dark < CONTRAST * LEAST_GAIN:
        return float(2 * reach)
    profile = (profile - dark) / (bright - dark)
    above = (profile >= 0.9).nonzero().flatten()
    below = (profile[: int(above[0])] <= 0.1).nonzero().flatten() if len(above) else above
    if len(below) == 0:
        return float(2 * reach)
    return _crossing(position, profile, int(above[0]), 0.9) - _crossing(position, profile, int(below[-1]) + 1, 0.1)


def _crossing(position: Tensor, profile: Tensor, after: int, height: float) -> float:
    """Where a profile passes a height between samples `after - 1` and `after`, interpolated."""
    first_position, second_position = position[after - 1 : after + 1]
    first, second = profile[after - 1 : after + 1]
    return torch.lerp(first_position, second_position, (height - first) / (second - first)).item()


def _distance(side: int) -> Tensor:
    """Signed distance in px of each pixel to the edge: `s s`, float64."""
    steps = torch.arange(side, dtype=torch.float64) - (side - 1) / 2
    return steps * math.cos(SLANT) + steps[:, None] * math.sin(SLANT)
