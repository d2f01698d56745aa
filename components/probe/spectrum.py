"""Spectrum: how fast the latent's spectrum falls, beside that of the pictures brought to the same size.

"Improving the Diffusability of Autoencoders" (arXiv 2502.14831, figures 2 to 4) finds latents whose high frequencies
are too strong for a diffusion model, which makes the low ones first. A profile is computed as in the script that came
out with a re-implementation (Latent Wavelet Diffusion, ICLR 2026) and is evidently its authors': 8 x 8 blocks without
overlap, orthonormal DCT, mean size of each coefficient over pictures and blocks, divided by that of the blocks' mean,
logarithm, zigzag order; then the mean over channels. The pictures are averaged down to the latent's size. The ratio is
one of means; a mean of ratios would have no expectation, since a block's mean may be 0.

Two profiles are made. The authors' own takes the latent as it is, so that a constant offset, which weighs on the
blocks' means alone, passes for smoothness: an offset of one sd lowers the tail of a 1/f^2 field from -2.4 to -3.2. All
other numbers here are of latents without their channels' means. White noise reads 0 in both.

What the numbers do not tell: whether a diffusion model learns the latent. A blurred or collapsed latent has a steep
spectrum as well, so read them with PSNR and `health/active_dims`. A profile does not depend on the latent's scale.
"Latent" is the posterior mean; `spec/kl_*` say what the posterior's noise adds, which is white (figure 3).
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ablate.components.probe._chart import Line, chart
from ablate.components.probe._latents import factor, fixed_noise
from ablate.components.shared.dct import blocks_dct, zigzag
from ablate.components.shared.measure import Picture
from ablate.slots import Metric, Probe, ProbeResult, ProbeSettings, Subject

METRICS = (
    Metric("spec/hf_tail", "1", "down", "log profile, mean of the 16 highest of 64 coefficients; 0 for white noise"),
    Metric("spec/gap_to_rgb", "1", "down", "mean distance of the log profile from that of the pictures"),
    Metric(
        "spec/gap_signed", "1", "target", "the same with its sign; above 0: more high frequencies than the pictures"
    ),
    Metric("spec/slope", "1", "none", "log amplitude over log frequency; -a/2 for power f^-a, a little less steep"),
    Metric("spec/sec50", "1", "down", "share of energy in the upper half of the diagonals of a DCT of all", decimals=3),
    Metric("spec/sec25", "1", "down", "the same above the lowest quarter", decimals=3),
    Metric("spec/kl_rise", "1", "down", "rise of hf_tail when the latent is drawn from its posterior"),
    Metric("spec/kl_floor", "1", "down", "where the posterior's noise alone lies in the log profile of the draw"),
    Metric("spec/hf_tail_draw", "1", "down", "hf_tail of a draw from the posterior, which is what is diffused"),
    Metric("spec/hf_tail_rgb", "1", "none", "hf_tail of the pictures at the latent's size"),
    Metric("spec/hf_tail_authors", "1", "down", "hf_tail as the authors compute it, which offsets lower"),
)


BLOCK = 8


TAIL = 48


TINY = torch.finfo(torch.float64).tiny  # makes 0/0 one, and changes no other ratio


class Config(ProbeSettings):
    """No settings: numbers of all studies are comparable."""

    def smallest(self, stride: int) -> int:
        """Side in px from which on the first metric is reported, for a model of that stride."""
        return 8 * stride  # a block


def build(config: Config) -> Probe:
    return examine


def examine(subject: Subject) -> ProbeResult:
    """Reports nothing for latents under 8 x 8.

    The values per image are profiles, 64 numbers in zigzag order: of the latent (mean and sd over channels), of a draw
    from the posterior and of the pictures, without their channels' means; then the authors' of both. The picture shows
    the former.
    """
    posterior = subject.posterior
    if posterior.mean.shape[-1] < BLOCK:
        return ProbeResult({})
    raw = posterior.mean.cpu().double()
    raw_rgb = F.avg_pool2d(subject.images.cpu().double() * 2 - 1, factor(subject))
    mean, rgb = _centred(raw), _centred(raw_rgb)
    draw = _centred(posterior.sample(fixed_noise(posterior.mean)).cpu().double())
    profile, drawn, pictures = (log_profile(x) for x in (mean, draw, rgb))
    authors, authors_rgb = log_profile(raw), log_profile(raw_rgb)
    gap = (profile.mean(0) - pictures.mean(0))[1:]  # all begin at 0
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
    """Mean size of each coefficient over the 8 x 8 blocks of `n c h w`, in zigzag order: `c 64`."""
    height, width = (size // BLOCK * BLOCK for size in x.shape[-2:])
    size = blocks_dct(x[..., :height, :width], BLOCK).abs().mean((0, 2, 3))
    return size.flatten(1)[:, zigzag(BLOCK, x.device)]


def log_profile(x: Tensor) -> Tensor:
    """Natural logarithm of `amplitudes` over that of the blocks' mean: `n c h w` to `c 64`, the first of each 0."""
    size = amplitudes(x) + TINY
    return (size / size[:, :1]).log()


def _centred(x: Tensor) -> Tensor:
    return x - x.mean((0, 2, 3), keepdim=True)


def _tail(profile: Tensor) -> Tensor:
    return profile[:, TAIL:].mean()


def _energy(x: Tensor) -> Tensor:
    """Mean square of each coefficient of a DCT of the whole of `n c s s`: `c s s`."""
    return blocks_dct(x, x.shape[-1])[:, :, 0, 0].square().mean(0) + TINY


def _slope(energy: Tensor) -> Tensor:
    """Least squares over all coefficients but the mean, each of equal weight; mean of the channels."""
    waves = torch.arange(energy.shape[-1], dtype=torch.float64)
    log_frequency = torch.hypot(waves, waves[:, None]).flatten()[1:].log()
    centred = log_frequency - log_frequency.mean()
    log_amplitude = energy.flatten(1)[:, 1:].log().mean(0) / 2
    return (centred * log_amplitude).sum() / centred.square().sum()


def _share_above(energy: Tensor, rho: float) -> Tensor:
    """Share of energy with u + v > rho times the largest u + v; mean of the channels. SEC of arXiv 2606.03578."""
    waves = torch.arange(energy.shape[-1])
    high = waves + waves[:, None] > rho * 2 * (energy.shape[-1] - 1)
    return (energy[:, high].sum(1) / energy.sum((1, 2))).mean()


def _floor(logvar: Tensor, draw: Tensor) -> Tensor:
    """Log of the size that noise has in each coefficient, sd sqrt(2/pi), over that of the draw's blocks' means."""
    noise = logvar.exp().mean((0, 2, 3)).sqrt() * math.sqrt(2 / math.pi)
    return ((noise + TINY) / (amplitudes(draw)[:, 0] + TINY)).log().mean()


def _picture(curves: dict[str, Tensor]) -> Picture:
    place = torch.arange(BLOCK * BLOCK)
    lines = (
        Line("latent ± sd of channels", place, curves["spec/profile"], curves["spec/profile_sd"]),
        Line("RGB at its size", place, curves["spec/profile_rgb"]),
        Line("drawn from posterior", place, curves["spec/profile_draw"]),
    )
    return chart(lines, "DCT coefficient, zigzag order", "log amplitude over DC")
