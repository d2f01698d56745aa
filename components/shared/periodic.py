"""Measurements of patterns that repeat every few pixels and stay in place from image to image.

Residuals are `n c s s`, reconstruction minus source. They are measured in float64 on the CPU: a decoder that draws no
pattern must give exactly 0, not the rounding error of a mean. `worst_polyphase` examines weights instead: how
differently they treat the output phases.
"""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ablate.components.shared.measure import GREY_LEVELS

TINY = torch.finfo(torch.float64).tiny  # makes 0/0 one, and changes no other ratio


def interior(residual: Tensor, period: int) -> Tensor:
    """The part of `n c s s` away from the border, float64 on the CPU, a whole number of periods wide (0 if none fits).

    At least an eighth of the side is dropped on each side (32 px for sides of 256 px and more), and the part begins at
    a multiple of the period, so that phases keep their meaning.
    """
    side = residual.shape[-1]
    margin = min(32, side // 8)
    start = -(-margin // period) * period
    window = slice(start, start + max(0, side - margin - start) // period * period)
    return residual[..., window, window].cpu().double()


def fold(residual: Tensor, period: int) -> Tensor:
    """The repeating pattern of each image: mean at each phase minus the overall mean; `n c m m` -> `n c p p`."""
    *leading, size, _ = residual.shape
    blocks = residual.reshape(*leading, size // period, period, size // period, period)
    pattern = blocks.mean((-4, -2))
    return pattern - pattern.mean((-2, -1), keepdim=True)


def amplitude(patterns: Tensor) -> Tensor:
    """Root mean square over channels and phases of patterns `... c p p`, in grey levels."""
    return GREY_LEVELS * patterns.square().mean((-3, -2, -1)).sqrt()


def repeated_energy(residual: Tensor, period: int) -> Tensor:
    """Energy in squared grey levels of what repeats in each image, without what noise adds: `n c m m` to `n`.

    The energy of `fold` is too large by the noise of a mean over b blocks. Without bias it is the mean product of two
    different blocks, (b |mean|^2 - mean |block|^2) / (b - 1), each block less its own mean, so that structure larger
    than a block hardly counts; it may be negative. It is that of `fold` where there is one block only.
    """
    count = residual.shape[-1] // period
    blocks = residual.unflatten(-1, (count, period)).unflatten(-3, (count, period)).transpose(-3, -2)  # n c b b p p
    blocks = blocks - blocks.mean((-2, -1), keepdim=True)
    energy = amplitude(blocks.mean((2, 3))).square()
    of_blocks = GREY_LEVELS**2 * blocks.square().mean((1, 2, 3, 4, 5))
    return (count**2 * energy - of_blocks) / (count**2 - 1) if count > 1 else energy


def shared_amplitude(patterns: Tensor) -> Tensor:
    """Root mean square in grey levels of the pattern that images share, from their patterns `n c p p`.

    The energy of the mean pattern is too large by 1/n of what the images do not share. Without bias it is
    (n |mean|^2 - mean |pattern|^2) / (n - 1), the mean product of two different images; 0 if that is negative.
    """
    n = len(patterns)
    energy = amplitude(patterns.mean(0)).square()
    if n > 1:
        energy = ((n * energy - amplitude(patterns).square().mean()) / (n - 1)).clamp(min=0)
    return energy.sqrt()


def chance_amplitude(patterns: Tensor, draws: int = 50) -> Tensor:
    """The amplitude, in grey levels, that the mean of patterns `n c p p` would have if their positions were random.

    Root mean square over `draws` in which each image is rolled by a random offset (rolling an image is the same as
    rolling its pattern). For white residuals it is sd * sqrt((p^2 - 1) / p^2 / blocks); unlike that formula it also
    holds for residuals that contain detail. A pattern shared by all images exceeds it at most sqrt(n) times.
    """
    n, _, period, _ = patterns.shape
    generator = torch.Generator().manual_seed(0)
    offsets = torch.randint(period, (draws, 2, n, 1), generator=generator)
    rows, columns = (torch.arange(period) - offsets).remainder(period).unbind(1)  # draws n p each
    images = torch.arange(n)[:, None, None]
    rolled = [patterns[images, :, r[:, :, None], c[:, None, :]].mean(0) for r, c in zip(rows, columns, strict=True)]
    return amplitude(torch.stack(rolled).permute(0, 3, 1, 2)).square().mean().sqrt()


def comb(residual: Tensor, period: int) -> Tensor:
    """Power at the harmonics of the period over the power around them: `n c m m` -> `p*p - 1` ratios, 1 for no pattern.

    Unlike `fold` it also sees a grid whose sign or strength follows the image. The idea is that of Wang, Bovik & Evans,
    "Blind measurement of blocking artifacts in images", ICIP 2000. "Around" means the 11 x 11 bins about a harmonic
    without the 5 x 5 about every harmonic, so at least 6 periods are needed. The power is divided by its mean over the
    ring of equal frequency first, without those 5 x 5: the steep spectrum of a picture would raise what lies around.
    The power of rounding to 8 bits is added, since detail below it is invisible. Raises ValueError for fewer periods.
    """
    size = residual.shape[-1]
    if size < 6 * period:
        raise ValueError(f"a comb of period {period} needs {6 * period} px, found {size}")
    # power spectrum under a Hann window
    window = torch.hann_window(size, dtype=torch.float64)
    centred = residual - residual.mean((-2, -1), keepdim=True)
    power = torch.fft.fft2(centred * window * window[:, None]).abs().square().mean((0, 1))
    power = power + window.square().sum().square() / 12 / GREY_LEVELS**2

    # each harmonic over the mean power of its neighbourhood
    step = size // period
    bins = torch.arange(size)
    near = (bins + 2) % step < 5
    around = (~(near[:, None] & near)).double()
    power = power / _ring_mean(power, around)
    floor = _box_sum(power * around, 11) / _box_sum(around, 11)
    harmonics: Tensor = (power / floor)[::step, ::step].flatten()[1:]
    return harmonics


def worst_polyphase(model: nn.Module) -> Tensor:
    """The largest `polyphase` among a model's layers that enlarge by learned phases, 0 if there is none.

    Those layers are transposed convolutions, and convolutions followed by `nn.PixelShuffle` among the children of one
    module. `F.pixel_shuffle` is not detected: a sub-pixel convolution must hold its shuffle as a module.
    """
    spreads = [
        polyphase(transposed_phases(layer)) for layer in model.modules() if isinstance(layer, nn.ConvTranspose2d)
    ]
    for parent in model.modules():
        for layer, shuffle in pairwise(parent.children()):
            if isinstance(layer, nn.Conv2d) and isinstance(shuffle, nn.PixelShuffle):
                spreads.append(polyphase(subpixel_phases(layer, shuffle.upscale_factor)))
    return torch.stack(spreads).max() if spreads else torch.zeros((), dtype=torch.float64)


def polyphase(phases: Tensor) -> Tensor:
    """Standard deviation over phases of the responses `phases ...` to a constant, over their rms: 0 (no grid) to 1.

    Odena, Dumoulin & Olah, "Deconvolution and Checkerboard Artifacts", Distill 2016, call this uneven overlap.
    """
    spread = (phases - phases[0]).var(0, correction=0)  # exactly 0 where all are equal
    return spread.mean().sqrt() / (phases.square().mean().sqrt() + TINY)


def transposed_phases(layer: nn.ConvTranspose2d) -> Tensor:
    """Sum of the weights that reach an output of each phase, `phases i o`. The bias is the same for all phases."""
    weight = layer.weight.detach().cpu().double()
    rows, columns = (
        (torch.arange(size) * dilation % stride == torch.arange(stride)[:, None]).double()
        for size, dilation, stride in zip(layer.kernel_size, layer.dilation, layer.stride, strict=True)
    )
    sums: Tensor = torch.einsum("iohw,ph,qw->pqio", weight, rows, columns).flatten(0, 1)
    return sums


def subpixel_phases(layer: nn.Conv2d, factor: int) -> Tensor:
    """Sum of the kernel of each phase of the pixel shuffle, `phases o i`; the bias counts as an input of 1."""
    sums = layer.weight.detach().cpu().double().sum((2, 3))
    if layer.bias is not None:
        sums = torch.cat([sums, layer.bias.detach().cpu().double()[:, None]], 1)
    phases: Tensor = sums.unflatten(0, (-1, factor * factor)).transpose(0, 1)
    return phases


def _ring_mean(power: Tensor, at: Tensor) -> Tensor:
    """Mean of `h h` over the bins of its ring of equal frequency that are marked; of all where none is: `h h`."""
    steps = torch.fft.fftfreq(len(power), dtype=torch.float64) * len(power)
    ring = torch.hypot(steps, steps[:, None]).round().long().flatten()
    marked, of_marked, count, total = (
        torch.bincount(ring, weights.flatten()) for weights in (at, power * at, torch.ones_like(at), power)
    )
    mean = torch.where(marked > 0, of_marked / marked.clamp(min=1), total / count.clamp(min=1))
    return mean[ring].view_as(power)


def _box_sum(x: Tensor, width: int) -> Tensor:
    """Sum over a box of `width` x `width` bins around each bin of `h w`, with wrap-around."""
    padded = F.pad(x[None, None], [width // 2] * 4, mode="circular")
    return F.avg_pool2d(padded, width, stride=1)[0, 0] * width * width
