"""Measurements of patterns that repeat every few pixels and stay in place from image to image.

Residuals are `n c s s`, reconstruction minus source. They are measured in float64 on the CPU: the pattern left by a
decoder that draws none must come out as exactly 0, not as the rounding of a mean.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from components.measure import GREY_LEVELS

TINY = torch.finfo(torch.float64).tiny  # makes 0/0 one, and changes no other ratio


def interior(residual: Tensor, period: int) -> Tensor:
    """The part of `n c s s` away from the border, float64 on the CPU, a whole number of periods wide (0 if none fits).

    At least an eighth of the side is dropped (32 px from 256 on), and it begins at a multiple of the period, so that
    phases keep their meaning.
    """
    side = residual.shape[-1]
    margin = min(32, side // 8)
    start = -(-margin // period) * period
    window = slice(start, start + max(0, side - margin - start) // period * period)
    return residual[..., window, window].cpu().double()


def fold(residual: Tensor, period: int) -> Tensor:
    """The repeating pattern of each image: mean at each phase, less the overall mean; `n c m m` -> `n c p p`."""
    *leading, size, _ = residual.shape
    blocks = residual.reshape(*leading, size // period, period, size // period, period)
    pattern = blocks.mean((-4, -2))
    return pattern - pattern.mean((-2, -1), keepdim=True)


def amplitude(patterns: Tensor) -> Tensor:
    """Root mean square over channels and phases of patterns `... c p p`, in grey levels."""
    return GREY_LEVELS * patterns.square().mean((-3, -2, -1)).sqrt()


def chance_amplitude(patterns: Tensor, draws: int = 50) -> Tensor:
    """The amplitude of the mean of `n c p p` if the images did not agree on where the pattern lies, in grey levels.

    Root mean square over `draws` in which each image is rolled by a random offset (rolling an image and rolling its
    pattern is the same). For white residuals it is sd * sqrt((p^2 - 1) / p^2 / blocks); unlike that formula it also
    holds for residuals with detail in them. A pattern shared by all images exceeds it sqrt(n) times at most.
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
    "Blind measurement of blocking artifacts in images", ICIP 2000. "Around" is 11 x 11 bins less 5 x 5 about every
    harmonic, so it needs 6 periods: fewer give NaN.
    """
    size = residual.shape[-1]
    if size < 6 * period:
        return torch.full((period * period - 1,), torch.nan, dtype=torch.float64)
    window = torch.hann_window(size, dtype=torch.float64)
    centred = residual - residual.mean((-2, -1), keepdim=True)
    power = torch.fft.fft2(centred * window * window[:, None]).abs().square().mean((0, 1))

    step = size // period
    bins = torch.arange(size)
    near = (bins + 2) % step < 5
    around = (~(near[:, None] & near)).double()
    floor = _box_sum(power * around, 11) / _box_sum(around, 11)
    ratios = (power + TINY) / (floor + TINY)
    harmonics: Tensor = ratios[::step, ::step].flatten()[1:]
    return harmonics


def _box_sum(x: Tensor, width: int) -> Tensor:
    padded = F.pad(x[None, None], [width // 2] * 4, mode="circular")
    return F.avg_pool2d(padded, width, stride=1)[0, 0] * width * width
