"""Latent noise: how much noise on the latent the decoder tolerates.

A diffusion model never generates a latent exactly, and the decoder's response to small errors shows in every picture.
The authors of "Improving the Diffusability of Autoencoders" (arXiv 2502.14831) have such a test among the metrics of
their code: white noise of 10, 25, 50 and 100 % of the latent's own standard deviation (here of each channel, over
pictures and positions) is added to the posterior mean. PSNR is that of displayed pictures, averaged over pictures. All
models and all strengths get the same draw of noise.

The errors of a diffusion model are not white, so the numbers are only a hint. A decoder that ignores most of its latent
tolerates much and reconstructs little, so the levels depend on PSNR without noise. `znoise/sd_3db` is relative to that
PSNR, which in turn flatters a poor reconstruction, whose own error hides the effect of noise. Compare at similar PSNR.
"""

import math

from ablate.components.probe._latents import fixed_noise, subset
from ablate.components.shared.measure import displayed, psnr, sheet
from ablate.slots import Metric, Probe, ProbeResult, ProbeSettings, Subject

METRICS = (
    Metric(
        "znoise/sd_3db", "1", "up", "noise, in sds of the latent, that costs 3 dB; 1 at most", decimals=3, interest=0.05
    ),
    Metric("znoise/psnr_10", "dB", "up", "PSNR with noise of 10 % of the latent's sd", interest=0.5),
    Metric("znoise/psnr_25", "dB", "up", "the same with 25 %", interest=0.5),
    Metric("znoise/psnr_50", "dB", "up", "the same with 50 %", interest=0.5),
    Metric("znoise/psnr_100", "dB", "up", "the same with 100 %", interest=0.5),
)


SHARES = (0.1, 0.25, 0.5, 1.0)  # of the latent's standard deviation


LOSS_DB = 3.0  # loss of PSNR that `znoise/sd_3db` allows


class Config(ProbeSettings):
    """No settings, so that the numbers of all studies are comparable."""


def build(config: Config) -> Probe:
    return examine


def examine(subject: Subject) -> ProbeResult:
    """Uses up to 16 pictures.

    Picture: source | reconstruction | with 25 % noise | with 100 % noise, an image per row.
    """
    x, z, y = subset(subject)
    clean = displayed(y)
    noise = fixed_noise(z) * subject.posterior.mean.std((0, 2, 3), correction=0, keepdim=True)
    per_image: dict[str, list[float]] = {}
    columns = [x, clean]
    losses = []
    whole = psnr(x, clean).mean()
    for share in SHARES:
        noisy = displayed(subject.decode(z + share * noise))
        values = psnr(x, noisy)
        per_image[f"znoise/psnr_{100 * share:.0f}"] = values.tolist()
        losses.append((whole - values.mean()).item())
        if share in (0.25, 1.0):
            columns.append(noisy)
    metrics = {name: math.fsum(values) / len(values) for name, values in per_image.items()}
    metrics["znoise/sd_3db"] = tolerated_share(SHARES, losses)
    return ProbeResult(metrics=metrics, per_image=per_image, pictures={"latent_noise": sheet(*columns)})


def tolerated_share(shares: tuple[float, ...], losses: list[float]) -> float:
    """The share at which the loss reaches 3 dB, given losses in dB at rising shares; the last share if it never does.

    Between two shares, and from 0, the squared error is interpolated linearly in the power of the noise, as it grows
    for a linear decoder. NaN if a loss is NaN.
    """
    if any(math.isnan(loss) for loss in losses):
        return math.nan
    limit = 10 ** (LOSS_DB / 10)
    power = 0.0
    growth = 1.0
    for share, loss in zip(shares, losses, strict=True):
        grown = 10 ** (loss / 10)
        if grown >= limit:
            return math.sqrt(power + (share**2 - power) * (limit - growth) / (grown - growth))
        power = share**2
        growth = grown
    return shares[-1]
