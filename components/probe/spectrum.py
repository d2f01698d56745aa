"""Spectrum: how fast the latent's spectrum falls, compared with that of the pictures at the same size.

"Improving the Diffusability of Autoencoders" (arXiv 2502.14831, figures 2 to 4) finds that some latents have high
frequencies that are too strong for a diffusion model, which generates the low ones first. A profile is computed as in a
script that was published with a re-implementation (Latent Wavelet Diffusion, ICLR 2026) and is evidently the authors'
own: 8 x 8 blocks without overlap, orthonormal DCT, mean magnitude of each coefficient over pictures and blocks, divided
by that of the blocks' mean, logarithm, zigzag order; then the mean over channels. The pictures are averaged down to the
latent's size. The ratio is one of means; a mean of ratios would have no expectation, since a block's mean may be 0.

There are two profiles. The authors' own uses the latent as it is, so a constant offset, which affects only the blocks'
means, passes for smoothness: an offset of one sd lowers the tail of a 1/f^2 field from -2.4 to -3.2. All other numbers
here are of latents without the means of their channels. White noise gives 0 in both.

The numbers do not show whether a diffusion model learns the latent. A blurred or collapsed latent has a steep spectrum
as well, so read them together with PSNR and `health/active_dims`. A profile does not depend on the latent's scale.
"Latent" is the posterior mean; `spec/kl_*` measure what the posterior's noise adds, which is white (figure 3).
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ablate.components.probe._chart import Line, chart
from ablate.components.probe._latents import fixed_noise, pixels_per_position
from ablate.components.shared.dct import blocks_dct, zigzag
from ablate.components.shared.measure import Picture
from ablate.slots import Metric, Probe, ProbeResult, ProbeSettings, Subject

METRICS = (
    Metric(
        "spec/hf_tail",
        "1",
        "down",
        "log profile, mean of the 16 highest of 64 coefficients; 0 for white noise",
        interest=0.1,
    ),
    Metric("spec/gap_to_rgb", "1", "down", "mean distance of the log profile from that of the pictures", interest=0.1),
    Metric(
        "spec/gap_signed",
        "1",
        "target",
        "the same with its sign; above 0: more high frequencies than the pictures",
        interest=0.1,
    ),
    Metric(
        "spec/slope",
        "1",
        "none",
        "log amplitude over log frequency; -a/2 for power f^-a, a little less steep",
        interest=0.1,
    ),
    Metric(
        "spec/sec50",
        "1",
        "down",
        "share of energy in the upper half of the diagonals of a DCT of the whole latent",
        decimals=3,
        interest=0.02,
    ),
    Metric("spec/sec25", "1", "down", "the same above the lowest quarter", decimals=3, interest=0.02),
    Metric("spec/kl_rise", "1", "down", "rise of hf_tail when the latent is drawn from its posterior", interest=0.1),
    Metric(
        "spec/kl_floor",
        "1",
        "down",
        "level of the posterior's noise alone in the log profile of the draw",
        interest=0.1,
    ),
    Metric(
        "spec/hf_tail_draw",
        "1",
        "down",
        "hf_tail of a draw from the posterior, which is what is diffused",
        interest=0.1,
    ),
    Metric("spec/hf_tail_rgb", "1", "none", "hf_tail of the pictures at the latent's size", interest=0.1),
    Metric(
        "spec/hf_tail_authors",
        "1",
        "down",
        "hf_tail as the authors compute it; lowered by offsets of the channels",
        interest=0.1,
    ),
)


BLOCK = 8


TAIL = 48  # index of the first coefficient of the tail, in zigzag order


TINY = torch.finfo(torch.float64).tiny  # makes 0/0 one, and changes no other ratio


class Config(ProbeSettings):
    """No settings, so that the numbers of all studies are comparable."""

    def smallest(self, stride: int) -> int:
        """Smallest side in px at which the first metric is reported, for a model of this stride."""
        return 8 * stride  # one block


def build(config: Config) -> Probe:
    return examine


def examine(subject: Subject) -> ProbeResult:
    """Reports nothing for latents under 8 x 8.

    Instead of values per image: profiles, 64 numbers each in zigzag order. First those without the channels' means, of
    the latent (mean and sd over channels), of a draw from the posterior and of the pictures; then the authors' profiles
    of latent and pictures. The picture shows the first kind.
    """
    posterior = subject.posterior
    if posterior.mean.shape[-1] < BLOCK:
        return ProbeResult({})

    # profiles, without and with the means of the channels
    raw = posterior.mean.cpu().double()
    raw_rgb = F.avg_pool2d(subject.images.cpu().double() * 2 - 1, pixels_per_position(subject))
    mean = _centred(raw)
    rgb = _centred(raw_rgb)
    draw = _centred(posterior.sample(fixed_noise(posterior.mean)).cpu().double())
    profile, drawn, pictures = (log_profile(x) for x in (mean, draw, rgb))
    authors = log_profile(raw)
    authors_rgb = log_profile(raw_rgb)

    # metrics and curves
    gap = (profile.mean(0) - pictures.mean(0))[1:]  # the first value is always 0
    energy = _energy(mean)
    metrics = {
        "spec/hf_tail": _tail(profile),
        "spec/gap_to_rgb": gap.abs().mean(),
        "spec/gap_signed": gap.mean(),
        "spec/slope": _slope(energy),
        "spec/sec50": _share_above(energy, 0.5),
        "spec/sec25": _share_above(energy, 0.25),
        "spec/kl_rise": _tail(drawn) - _tail(profile),
        "spec/kl_floor": _floor(posterior.logvar.cpu().double(), draw),
        "spec/hf_tail_draw": _tail(drawn),
        "spec/hf_tail_rgb": _tail(pictures),
        "spec/hf_tail_authors": _tail(authors),
    }
    curves = {
        "spec/profile": profile.mean(0),
        "spec/profile_sd": profile.std(0, correction=0),
        "spec/profile_draw": drawn.mean(0),
        "spec/profile_rgb": pictures.mean(0),
        "spec/profile_authors": authors.mean(0),
        "spec/profile_authors_rgb": authors_rgb.mean(0),
    }
    return ProbeResult(
        metrics={name: value.item() for name, value in metrics.items()},
        per_image={name: values.tolist() for name, values in curves.items()},
        pictures={"spectrum": _picture(curves)},
    )


def amplitudes(x: Tensor) -> Tensor:
    """Mean magnitude of each coefficient over the 8 x 8 blocks of `n c h w`, in zigzag order: `c 64`."""
    height, width = (size // BLOCK * BLOCK for size in x.shape[-2:])
    size = blocks_dct(x[..., :height, :width], BLOCK).abs().mean((0, 2, 3))
    return size.flatten(1)[:, zigzag(BLOCK, x.device)]


def log_profile(x: Tensor) -> Tensor:
    """Natural logarithm of `amplitudes` over that of the blocks' mean: `n c h w` to `c 64`; the first value is 0."""
    size = amplitudes(x) + TINY
    return (size / size[:, :1]).log()


def _centred(x: Tensor) -> Tensor:
    return x - x.mean((0, 2, 3), keepdim=True)


def _tail(profile: Tensor) -> Tensor:
    return profile[:, TAIL:].mean()


def _energy(x: Tensor) -> Tensor:
    """Mean square of each coefficient of a DCT of whole latents `n c s s`: `c s s`."""
    return blocks_dct(x, x.shape[-1])[:, :, 0, 0].square().mean(0) + TINY


def _slope(energy: Tensor) -> Tensor:
    """Slope of log amplitude (mean of the channels) over log frequency, by least squares without the mean."""
    waves = torch.arange(energy.shape[-1], dtype=torch.float64)
    log_frequency = torch.hypot(waves, waves[:, None]).flatten()[1:].log()
    centred = log_frequency - log_frequency.mean()
    log_amplitude = energy.flatten(1)[:, 1:].log().mean(0) / 2
    return (centred * log_amplitude).sum() / centred.square().sum()


def _share_above(energy: Tensor, rho: float) -> Tensor:
    """Share of energy with u + v > rho times the largest u + v, averaged over channels; SEC of arXiv 2606.03578."""
    waves = torch.arange(energy.shape[-1])
    high = waves + waves[:, None] > rho * 2 * (energy.shape[-1] - 1)
    return (energy[:, high].sum(1) / energy.sum((1, 2))).mean()


def _floor(logvar: Tensor, draw: Tensor) -> Tensor:
    """Log of the noise's mean magnitude in a coefficient, sd sqrt(2/pi), over that of the draw's block means."""
    noise = logvar.exp().mean((0, 2, 3)).sqrt() * math.sqrt(2 / math.pi)
    return ((noise + TINY) / (amplitudes(draw)[:, 0] + TINY)).log().mean()


def _picture(curves: dict[str, Tensor]) -> Picture:
    index = torch.arange(BLOCK * BLOCK)
    lines = (
        Line("latent ± sd of channels", index, curves["spec/profile"], curves["spec/profile_sd"]),
        Line("RGB at its size", index, curves["spec/profile_rgb"]),
        Line("drawn from posterior", index, curves["spec/profile_draw"]),
    )
    return chart(lines, "DCT coefficient, zigzag order", "log amplitude over DC")
