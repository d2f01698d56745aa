"""Droplets: spots of huge activation in the latent, in the decoder and in the picture.

VIVAT (arXiv 2506.07863, figure 3) finds norms of activations that grow from one decoder layer to the next around a
spot. StyleGAN2 (arXiv 1912.04958, section 2) explains such spots: one spike sets the statistics of a normalisation
layer and thereby the magnitude of everything else. A norm is Euclidean, over the channels at one position; "max over
median" compares the positions of one image.

In the picture, a droplet shows in the low-pass residual: reconstruction minus source in the reconstruction's own tones
(`_tone`), averaged over channels, blurred (Gaussian, sigma s of half a stride), minus the image's median. Lost
contrast, tints and clipping are therefore no droplets. Blur leaves a trace in it, b (G_2s - G_s) * source to first
order, which is fitted to each image and subtracted. What blur leaves beyond that, it leaves everywhere, and so hardly
changes the ratio of the largest value to the median. An image counts as having a droplet if both exceed 25; that
threshold is ours, and no other defect of the calibration test crosses it. A model that returns mean colours has none.

Its position is given as the distance to the nearest border over half the side: 1/3 on average for random positions,
since a share (1 - t)^2 of a square is further than t from its border. VIVAT's droplets sat in corners until the padding
was fixed. In an image without a droplet, the position is that of the worst reconstructed detail.
"""

from contextlib import ExitStack

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ablate.components.probe._tone import lines, tones
from ablate.components.shared.measure import GREY_LEVELS, PICTURE_SIDE, Picture, enlarged, gaussian_blur
from ablate.slots import Metric, Probe, ProbeResult, ProbeSettings, Subject

METRICS = (
    Metric(
        "droplet/act_maxmed",
        "1",
        "down",
        "largest norm over the median norm, in the worst block of the decoder",
        interest=1,
    ),
    Metric("droplet/growth", "1", "down", "the same in the last block over that in the first", interest=0.5),
    Metric("droplet/z_maxmed", "1", "down", "largest norm over the median norm in the latent", interest=0.5),
    Metric(
        "droplet/z_p999_med", "1", "down", "99.9th percentile over the median of all images' latent norms", interest=0.5
    ),
    Metric("droplet/blob", "gl", "down", "largest absolute value of the low-pass residual", interest=2),
    Metric("droplet/blob_over_median", "1", "down", "the same over the residual's median absolute value", interest=2),
    Metric("droplet/act_absmax", "1", "down", "largest activation between blocks of the decoder; fp16 ends at 65504"),
    Metric(
        "droplet/blob_border",
        "1",
        "none",
        "position of that value: 0 at the border, 1 at the centre, 1/3 by chance",
        interest=0.1,
    ),
    Metric(
        "droplet/incidence",
        "1",
        "down",
        "share of images with a droplet: blob and blob_over_median above 25",
        interest=0.1,
    ),
)


ALARM = 25  # threshold on the residual in gl, and on its ratio to the median


RESIDUAL_GAIN = 8  # amplification of the residual in the picture


BINS = 8  # along each side of the histogram of positions


FLOOR = 0.01  # gl added to both sides of a ratio, so that it is 1 where nothing differs


TINY = torch.finfo(torch.float32).tiny  # makes 0/0 one, and changes no other ratio


class Config(ProbeSettings):
    """No settings, so that the numbers of all studies are comparable."""

    def smallest(self, stride: int) -> int:
        """Smallest side in px at which a model of this stride that names its blocks gets the first metric."""
        return stride


def build(config: Config) -> Probe:
    return examine


def examine(subject: Subject) -> ProbeResult:
    """Reports activations for models that name their decoder's blocks, and growth if there are two or more blocks.

    Pictures: the low-pass residual of the worst image, amplified 8 times around mid-grey; and the positions of the
    blobs in the images, as a histogram of 8 x 8 bins, the fullest of which is white.
    """
    latents, peaks, largest = _norms(subject)

    # the largest spot of each image's low-pass residual
    low_pass = _low_pass(subject)
    size = low_pass.abs().flatten(1)
    highest, index = size.max(1)
    position = torch.stack([index // low_pass.shape[-1], index % low_pass.shape[-1]], 1)
    over_median = (highest + FLOOR) / (size.median(1).values + FLOOR)
    has_droplet = (highest > ALARM) & (over_median > ALARM)

    # metrics per image, then those of all images
    per_image = {
        "droplet/z_maxmed": max_over_median(latents),
        "droplet/blob": highest,
        "droplet/blob_over_median": over_median,
        "droplet/blob_border": _inwards(position, low_pass.shape[-1]).where(highest.isfinite(), torch.nan),
        "droplet/incidence": has_droplet.float().where(highest.isfinite(), torch.nan),
    }
    if len(peaks):
        per_image["droplet/act_maxmed"] = peaks.amax(0)
    metrics = {name: values.mean().item() for name, values in per_image.items()}
    metrics["droplet/z_p999_med"] = _p999_over_median(latents)
    if len(peaks):
        metrics["droplet/act_absmax"] = largest.max().item()
    if len(peaks) > 1:
        metrics["droplet/growth"] = (peaks[-1].mean() / peaks[0].mean()).item()
    return ProbeResult(
        metrics=metrics,
        per_image={name: values.tolist() for name, values in per_image.items()},
        pictures={
            f"droplet_worst_x{RESIDUAL_GAIN}": _picture(low_pass[highest.argmax()]),
            "droplet_positions": _histogram(position * BINS // low_pass.shape[-1]),
        },
    )


@torch.inference_mode()
def _norms(subject: Subject) -> tuple[Tensor, Tensor, Tensor]:
    """Norms of the latents `n h w`, and of each decoder block's output max over median `blocks n` and largest value."""
    latents = subject.posterior.mean
    blocks = subject.vae.decoder_blocks
    peaks: list[list[Tensor]] = [[] for _ in blocks]
    largest: list[Tensor] = []

    def watch(block: nn.Module, seen: list[Tensor]) -> torch.utils.hooks.RemovableHandle:
        def record(_: nn.Module, __: tuple[Tensor, ...], h: Tensor) -> None:
            seen.append(max_over_median(h.norm(dim=1)).cpu())
            largest.append(h.abs().max().cpu())

        return block.register_forward_hook(record)

    with ExitStack() as hooks:
        for block, seen in zip(blocks, peaks, strict=True):
            hooks.enter_context(watch(block, seen))
        if blocks:
            subject.decode(latents)
    norms = latents.norm(dim=1).cpu()
    if not blocks:
        return norms, torch.empty(0), torch.empty(0)
    return norms, torch.stack([torch.cat(seen) for seen in peaks]), torch.stack(largest)


def max_over_median(norms: Tensor) -> Tensor:
    """The largest over the median norm of each image's positions: `n ...` to `n`."""
    flat = norms.flatten(1)
    return (flat.amax(1) + TINY) / (flat.median(1).values + TINY)


def _p999_over_median(norms: Tensor) -> float:
    flat = norms.flatten()
    if flat.isnan().any():
        return torch.nan
    rank = -(-len(flat) * 999 // 1000)  # torch.quantile takes 16 million values at most
    return ((flat.kthvalue(rank).values + TINY) / (flat.median() + TINY)).item()


def _low_pass(subject: Subject) -> Tensor:
    """The low-pass residual in grey levels without the trace of blur, `n s s` on the CPU."""
    sigma = subject.vae.stride / 2
    toned = tones(subject)
    source = toned.image.mean(1, keepdim=True).cpu()
    low = _blurred(toned.residual(subject.reconstruction).mean(1, keepdim=True).cpu(), sigma)
    trace = _blurred(source, 2 * sigma) - _blurred(source, sigma)
    thinned = (values[..., ::4, ::4].flatten(2).double() for values in (trace, low))
    blur = lines(*thinned).slope[..., None, None].to(low)
    low = GREY_LEVELS * (low - blur * trace)[:, 0]
    return low - low.flatten(1).median(1).values[:, None, None]


def _blurred(x: Tensor, sigma: float) -> Tensor:
    """Blur `n 1 s s`, padded by reflection, since droplets sit in corners."""
    radius = min(round(3 * sigma), x.shape[-1] - 1)
    return gaussian_blur(F.pad(x, [radius] * 4, mode="reflect"), sigma, radius)


def _inwards(position: Tensor, side: int) -> Tensor:
    """Distance of pixels `n 2` to the nearest border over half the side, `n`."""
    return (torch.minimum(position, side - 1 - position).amin(1) + 0.5) / (side / 2)


def _histogram(bins: Tensor) -> Picture:
    """A picture of how many of the `n 2` rows and columns of bins fall into each bin."""
    counts = torch.bincount(bins[:, 0] * BINS + bins[:, 1], minlength=BINS * BINS).view(1, BINS, BINS)
    return enlarged((counts / counts.max()).expand(3, -1, -1), PICTURE_SIDE // BINS)


def _picture(low_pass: Tensor) -> Picture:
    step = -(-low_pass.shape[-1] // PICTURE_SIDE)
    grey = 0.5 + RESIDUAL_GAIN / GREY_LEVELS * low_pass[::step, ::step]
    return enlarged(grey.expand(3, -1, -1), PICTURE_SIDE // grey.shape[-1])
