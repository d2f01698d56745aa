"""Droplet: spots of huge activation, from the latent through the decoder to the picture.

VIVAT (arXiv 2506.07863, figure 3) finds norms of activations that grow from one decoder layer to the next around a
spot. StyleGAN2 (arXiv 1912.04958, section 2) explains such spots: one spike sets the statistics of a normalisation
layer and thereby the size of everything else. A norm is Euclidean, over the channels at one position; "max over
median" compares the positions of one image.

In the picture, a droplet is a low-pass residual (Gaussian, sigma half a stride; reconstruction less source, mean of
the channels, less the image's median, which is a matter of colour). Strong blur raises that too, but everywhere: it
leaves the ratio to the residual's median.
"""

from contextlib import ExitStack

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ablate.registry import Metric, Settings
from ablate.slots import Findings, Probe, Subject
from components.measure import GREY_LEVELS, PICTURE_SIDE, Picture, enlarged, gaussian_blur

METRICS = (
    Metric("droplet/act_maxmed", "1", "down", "largest norm over the median norm, in the worst block of the decoder"),
    Metric("droplet/growth", "1", "down", "the same in the last block over that in the first"),
    Metric("droplet/z_maxmed", "1", "down", "largest norm over the median norm in the latent"),
    Metric("droplet/z_p999_med", "1", "down", "99.9th percentile over the median of all images' latent norms"),
    Metric("droplet/blob", "gl", "down", "highest or lowest point of the low-pass residual"),
    Metric("droplet/blob_over_median", "1", "down", "the same over the residual's median size"),
)
RESIDUAL_GAIN = 8
FLOOR = 0.01  # gl added to both sides of a ratio: where nothing differs, it reads 1
TINY = torch.finfo(torch.float32).tiny  # makes 0/0 one, and changes no other ratio


class Config(Settings):
    """No settings: numbers of all studies are comparable."""


def build(config: Config) -> Probe:
    return examine


def examine(subject: Subject) -> Findings:
    """Activations are reported of models that name their decoder's blocks, growth where there are two or more.

    Picture: the low-pass residual of the worst image, 8 times amplified around mid-grey.
    """
    latents, peaks = _norms(subject)
    low_pass = _low_pass(subject)
    size = low_pass.abs().flatten(1)
    highest = size.amax(1)
    per_image = {
        "droplet/z_maxmed": max_over_median(latents),
        "droplet/blob": highest,
        "droplet/blob_over_median": (highest + FLOOR) / (size.median(1).values + FLOOR),
    }
    if len(peaks):
        per_image["droplet/act_maxmed"] = peaks.amax(0)
    metrics = {name: values.mean().item() for name, values in per_image.items()}
    metrics["droplet/z_p999_med"] = _p999_over_median(latents)
    if len(peaks) > 1:
        metrics["droplet/growth"] = (peaks[-1].mean() / peaks[0].mean()).item()
    return Findings(
        metrics=metrics,
        per_image={name: values.tolist() for name, values in per_image.items()},
        pictures={f"droplet_worst_x{RESIDUAL_GAIN}": _picture(low_pass[highest.argmax()])},
    )


@torch.inference_mode()
def _norms(subject: Subject) -> tuple[Tensor, Tensor]:
    """Norms of the latents, `n h w`, and for each block of the decoder max over median, `blocks n`."""
    vae, latents = subject.vae, subject.posterior.mean
    blocks = vae.decoder_blocks
    peaks: list[list[Tensor]] = [[] for _ in blocks]

    def watch(block: nn.Module, seen: list[Tensor]) -> torch.utils.hooks.RemovableHandle:
        return block.register_forward_hook(lambda _, __, h: seen.append(max_over_median(h.norm(dim=1)).cpu()))

    with ExitStack() as hooks:
        for block, seen in zip(blocks, peaks, strict=True):
            hooks.enter_context(watch(block, seen))
        for z in latents.split(subject.batch) if blocks else ():
            vae.decode(z)
    return latents.norm(dim=1).cpu(), torch.stack([torch.cat(seen) for seen in peaks]) if blocks else torch.empty(0)


def max_over_median(norms: Tensor) -> Tensor:
    """Of each image, over its positions: `n ...` to `n`."""
    flat = norms.flatten(1)
    return (flat.amax(1) + TINY) / (flat.median(1).values + TINY)


def _p999_over_median(norms: Tensor) -> float:
    flat = norms.flatten()
    if flat.isnan().any():
        return torch.nan
    rank = -(-len(flat) * 999 // 1000)  # torch.quantile takes 16 million values at most
    return ((flat.kthvalue(rank).values + TINY) / (flat.median() + TINY)).item()


def _low_pass(subject: Subject) -> Tensor:
    """In grey levels, `n s s` on the CPU. Up to the border, by reflection: droplets like corners."""
    residual = GREY_LEVELS * (subject.reconstruction - subject.images).mean(1, keepdim=True).cpu()
    sigma = subject.vae.stride / 2
    radius = min(round(3 * sigma), residual.shape[-1] - 1)
    low = gaussian_blur(F.pad(residual, [radius] * 4, mode="reflect"), sigma, radius)[:, 0]
    return low - low.flatten(1).median(1).values[:, None, None]


def _picture(low_pass: Tensor) -> Picture:
    step = -(-low_pass.shape[-1] // PICTURE_SIDE)
    grey = 0.5 + RESIDUAL_GAIN / GREY_LEVELS * low_pass[::step, ::step]
    return enlarged(grey.expand(3, -1, -1), PICTURE_SIDE // grey.shape[-1])
