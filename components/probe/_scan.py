"""A scan for waves of any period from 2 to 32 px in the residuals of images.

A decoder may draw a pattern whose period is none of its strides. Waves along x, along y and along both diagonals are
tried, at every whole period that the images resolve. A wave shows as power that stands out at its frequency. The power
is that of each image, under a Hann window, so the phase does not matter and may differ from image to image.

The null is each picture's own spectrum nearby, in the same direction: a straight line through the logarithm of its
power over the logarithm of the frequency, fitted 2 to 5 bins away on both sides, where a wave does not reach (Harris,
"On the use of windows for harmonic analysis", Proc. IEEE 66(1), 1978: the main lobe of a Hann window is +-2 bins). The
excess of the logarithm over that line is 0 on average without a wave, whatever the texture's slope. It is averaged over
images, so that one striped photograph among many counts once and not by its power.

How far it strays by chance is taken from the data as well: from the spread of the excess over the images, or over all
lines that are scanned, whichever is larger. Of K lines the strongest is compared with the level that one of them would
exceed by chance once in 1000 times (Bonferroni). Waves longer than a quarter of the side are left out: they cannot be
told from a gradient. A droplet, or another strong defect with a bent spectrum, makes the scan less sensitive.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ablate.components.shared.measure import GREY_LEVELS

PERIODS = range(2, 33)


SMALLEST = 32
"""Smallest side in px of images to scan."""


NEIGHBOURS = (2, 3, 4, 5)  # bins of 1/side


CHANCE = 0.001


ROUNDING = 1e-9


NEPER = 10 / math.log(10)  # dB


@dataclass(frozen=True)
class Wave:
    """The strongest wave; all three are 0 if none exceeds chance.

    `db`: its power above what the strongest wave reaches by chance. `period`: in px. `gl`: its amplitude in grey
    levels, root mean square over images and channels, less what lies around it in the spectrum.
    """

    db: float = 0.0
    period: float = 0.0
    gl: float = 0.0


def longest_period(side: int) -> int:
    """Longest period in px that images of this side resolve: four fit, so that it differs from a gradient."""
    return min(max(PERIODS), side // 4)


def strongest_wave(residual: Tensor) -> Wave:
    """The strongest wave in residuals `n c s s` in [0, 1], s at least 32; NaN where one is not finite."""
    if not residual.isfinite().all():
        return Wave(math.nan, math.nan, math.nan)
    side = residual.shape[-1]
    periods = torch.arange(PERIODS.start, longest_period(side) + 1)

    # levels (log powers) of each image at each period, a bin below it and around it, in each direction
    steps = torch.tensor([0, -1, *NEIGHBOURS, *(-k for k in NEIGHBOURS)]) / side
    frequency = 1 / periods.double()[:, None] + steps  # periods m
    around = (frequency <= 0.5) & (frequency >= 1.5 / side)
    around[:, :2] = False
    power = _power(residual, frequency)  # directions n periods m
    level = (power + torch.finfo(torch.float64).tiny).log()

    # excess over the line through the levels around, and how far its mean over images strays by chance
    weights = _line_weights(frequency, around)
    expected = torch.einsum("dnpm,pmk->dnpk", level, weights)  # k: at the period, a bin below it
    excess = level[..., 0] - expected[..., 0]
    spread = (1 + weights[..., 0].square().sum(1)).sqrt()
    strayed = excess / spread
    mean = strayed.mean(1)
    over_lines = 1.4826 * (mean - mean.median()).abs().median()
    over_images = strayed.var(1).median().sqrt() / len(residual) ** 0.5 if len(residual) > 1 else over_lines
    limit = -torch.special.ndtri(torch.tensor(CHANCE / mean.numel(), dtype=torch.float64))
    above = excess.mean(1) - limit * spread * torch.maximum(over_lines, over_images)

    # the strongest line; the slope of a wave that is too long to be resolved is not one
    too_long = ((level[..., 1] - expected[..., 1]).mean(1) > excess.mean(1)) & (frequency[:, 1] < frequency[-1, 0])
    above = above.where(~too_long, -torch.inf)
    direction, best = divmod(int(above.argmax()), len(periods))
    if not above[direction, best] > ROUNDING:
        return Wave()
    db = NEPER * above[direction, best].item()

    # its period: the highest point of the peak, or a longer one of which it is a harmonic
    peak = (frequency[:, 0] - frequency[best, 0]).abs() < 1 / side
    height = level[direction, :, :, 0].mean(0) - _extended(level[direction, :, best].mean(0), frequency, around, best)
    best = int(height.where(peak, -torch.inf).argmax())
    multiples = (periods % periods[best] == 0) & (above[direction] > ROUNDING)
    best = int(multiples.nonzero()[-1]) if multiples.any() else best
    beyond = power[direction, :, best, 0].mean() - power[direction, :, best, around[best]].mean()
    return Wave(db, float(periods[best]), GREY_LEVELS * beyond.clamp(min=0).sqrt().item())


def _power(residual: Tensor, frequency: Tensor) -> Tensor:
    """Squared amplitude of waves of these frequencies along x, y, x + y and x - y, mean over channels.

    `n c s s` and frequencies `p m` to `4 n p m`. A wave of amplitude a that fills the image has a^2.
    """
    side = residual.shape[-1]
    taper = torch.hann_window(side, periodic=False, dtype=torch.float64)
    window = taper * taper[:, None]
    values = residual.cpu().double()
    values = (values - (values * window).sum((-2, -1), keepdim=True) / window.sum()) * window
    place = torch.arange(side)
    along = (place + place[:, None], place - place[:, None] + side - 1)
    profiles = [values.sum(-2), values.sum(-1), *(_sums(values, index) for index in along)]
    found = []
    for profile in profiles:
        angle = 2 * math.pi * torch.arange(profile.shape[-1], dtype=torch.float64)[:, None] * frequency.flatten()
        waves = (profile @ angle.cos()).square() + (profile @ angle.sin()).square()
        found.append(waves.mean(1).unflatten(-1, frequency.shape))
    both_sides = torch.where(frequency == 0.5, 1.0, 4.0)  # the frequencies f and -f are one at 1/2
    return torch.stack(found) * both_sides / window.sum() ** 2


def _sums(values: Tensor, index: Tensor) -> Tensor:
    """Sums of `... s s` over the pixels of equal index `s s`: `... k`."""
    sums = values.new_zeros(*values.shape[:-2], int(index.max()) + 1)
    return sums.index_add_(-1, index.flatten(), values.flatten(-2))


def _line_weights(frequency: Tensor, around: Tensor) -> Tensor:
    """Weights `p m 2` of the levels around each period: their sum is the value of the line through them.

    The line is over the logarithm of the frequency; its values are those at the first two of the frequencies `p m`.
    """
    weights = around.double()
    logs = frequency.clamp(min=torch.finfo(torch.float64).tiny).log()
    total = weights.sum(1, keepdim=True)
    centre = (weights * logs).sum(1, keepdim=True) / total
    centred = weights * (logs - centre)
    slope = centred / (centred * (logs - centre)).sum(1, keepdim=True)
    return (weights / total)[..., None] + slope[..., None] * (logs[:, None, :2] - centre[..., None])


def _extended(level: Tensor, frequency: Tensor, around: Tensor, row: int) -> Tensor:
    """The line through the levels `m` around the period `row`, at all periods: `p`."""
    logs = frequency[row, around[row]].log()
    values = level[around[row]]
    centred = logs - logs.mean()
    return values.mean() + (centred * values).sum() / centred.square().sum() * (frequency[:, 0].log() - logs.mean())
