"""Blur: how much of the detail of the sources survives, and how much detail is made up.

The modulation transfer function (MTF) is taken from the cross spectrum of source and reconstruction, so that noise or
invented texture does not pass as sharpness, as it does in a comparison of powers. A Gaussian blur of sigma px has its
MTF50 at sqrt(ln 2 / 2) / (pi sigma) = 0.1874 / sigma. The artifact is one of those in VIVAT (arXiv 2506.07863).

All on the luma of raw reconstructions. The edge is read as in ISO 12233: a slanted edge passes the pixels at many
distances, which together sample its profile more finely than a pixel.
"""

import math

import torch
from torch import Tensor

from ablate.components.probe._spectrum import Spectra, luma, radial_spectra
from ablate.components.shared.measure import GREY_LEVELS
from ablate.slots import Metric, Probe, ProbeResult, ProbeSettings, Subject

METRICS = (
    Metric("blur/mtf50", "cycles/px", "up", "frequency at which half the modulation is left; 0.5 at most", decimals=3),
    Metric("blur/coherence", "1", "up", "share of the detail about 1/4 cycles/px that is the source's", decimals=3),
    Metric("blur/hf_lo", "1", "target", "power in 1/8 to 1/4 cycles/px over the source's", target=1.0),
    Metric("blur/hf_hi", "1", "target", "the same in 1/4 to 1/2 cycles/px", target=1.0),
    Metric("blur/slope", "1", "target", "slope of the log-log spectrum, less the source's; negative: blur"),
    Metric("blur/edge_px", "px", "target", "10-90 % rise of a slanted edge, less its own; images of 32 px or more"),
)


SLANT = math.radians(5)


EDGE_SIGMA = 0.5  # px


CONTRAST = 0.5


PER_PIXEL = 4  # samples of the edge's profile


class Config(ProbeSettings):
    """No settings: numbers of all studies are comparable."""

    def smallest(self, stride: int) -> int:
        """Side in px from which on the first metric is reported, for a model of that stride."""
        return -(-32 // stride) * stride  # a smaller image has too few rings, and too short an edge


def build(config: Config) -> Probe:
    return examine


def examine(subject: Subject) -> ProbeResult:
    """Reports nothing for images under 32 px."""
    x = subject.images
    side = x.shape[-1]
    if side < Config().smallest(subject.vae.stride):
        return ProbeResult({})
    spectra = radial_spectra(x, subject.reconstruction)
    low, high = spectra.band(1 / 8, 1 / 4), spectra.band(1 / 4, 1 / 2)
    middle = spectra.band(3 / 16, 5 / 16)
    edges = slanted_edges(side)
    redrawn = luma(subject.reconstruct(edges[:, None].expand(-1, 3, -1, -1).to(x)))
    return ProbeResult(
        {
            "blur/mtf50": mtf50(spectra),
            "blur/coherence": spectra.coherence()[middle].mean().item(),
            "blur/hf_lo": (spectra.reconstruction[low].sum() / spectra.source[low].sum()).item(),
            "blur/hf_hi": (spectra.reconstruction[high].sum() / spectra.source[high].sum()).item(),
            "blur/slope": _slope(spectra),
            "blur/edge_px": rise(redrawn) - rise(edges),
        }
    )


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
    """Least squares over log frequency, every octave from 1/32 to 1/4 cycles/px of equal weight.

    Both spectra are raised by the noise of rounding to 8 bits: what is below it is not there to be seen.
    """
    rounding = spectra.white / 12 / GREY_LEVELS**2
    ratio = ((spectra.reconstruction + rounding) / (spectra.source + rounding)).log()
    band = spectra.band(1 / 32, 1 / 4)
    ratio, log_frequency, weight = ratio[band], spectra.frequency[band].log(), 1 / spectra.frequency[band]
    centred = log_frequency - (weight * log_frequency).sum() / weight.sum()
    return ((weight * centred * ratio).sum() / (weight * centred.square()).sum()).item()


def slanted_edges(side: int) -> Tensor:
    """The same edge dark to bright, bright to dark, and both transposed: `4 s s` in [1/4, 3/4], float64.

    It runs through the centre, 5 degrees off the vertical; its profile is a Gaussian step of sigma 0.5 px.
    """
    step = torch.special.ndtr(_distance(side) / EDGE_SIGMA) * CONTRAST + (1 - CONTRAST) / 2
    return torch.stack([step, 1 - step, step.T, 1 - step.T])


def rise(edges: Tensor) -> float:
    """10-90 % rise in px, across the edge, of images like `slanted_edges`; NaN where the edge is lost.

    Read in the middle half of its length, a quarter of a pixel at a time. Dark and bright are the means of the outer
    quarters of the profile, which ends at 3/8 of the side; with less than a tenth of the contrast the edge is lost.
    """
    up, down, up_across, down_across = edges
    edge = (up + (1 - down) + up_across.T + (1 - down_across).T) / 4
    side = edge.shape[-1]
    reach = 3 * side // 8
    middle = slice(side // 4, side - side // 4)
    distance, values = _distance(side)[middle], edge[middle]
    inside = distance.abs() < reach
    distance, values = distance[inside], values[inside]
    sample = ((distance + reach) * PER_PIXEL).long()
    count = torch.bincount(sample)
    place, profile = torch.bincount(sample, distance) / count, torch.bincount(sample, values) / count

    dark, bright = profile[place < -reach / 2].mean(), profile[place > reach / 2].mean()
    if not bright - dark >= CONTRAST / 10 or not profile.isfinite().all():
        return math.nan
    profile = (profile - dark) / (bright - dark)
    above = (profile >= 0.9).nonzero().flatten()
    below = (profile[: int(above[0])] <= 0.1).nonzero().flatten() if len(above) else above
    if len(below) == 0:
        return math.nan
    return _crossing(place, profile, int(above[0]), 0.9) - _crossing(place, profile, int(below[-1]) + 1, 0.1)


def _crossing(place: Tensor, profile: Tensor, after: int, height: float) -> float:
    """Where a profile passes a height between samples `after - 1` and `after`, interpolated."""
    (before_place, after_place), (before, behind) = place[after - 1 : after + 1], profile[after - 1 : after + 1]
    return torch.lerp(before_place, after_place, (height - before) / (behind - before)).item()


def _distance(side: int) -> Tensor:
    """Signed distance in px of each pixel to the edge: `s s`, float64."""
    steps = torch.arange(side, dtype=torch.float64) - (side - 1) / 2
    return steps * math.cos(SLANT) + steps[:, None] * math.sin(SLANT)
