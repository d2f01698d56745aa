"""Fixed filters that halve or double the size of features, for levels of several slots.

A filter is a tuple of taps that sum to 1, applied along the width and then along the height. It is computed as a sum of
shifted features, not as a depthwise convolution. The terms are added in order of the taps' magnitude. For a symmetric
filter that is the same order in both phases of a doubling, so a constant is doubled to the same number everywhere, to
the last bit. On a GPU the sums are never in TF32, and gradients are added in a fixed order.
"""

import functools
import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ablate.slots import Padding

Taps = tuple[float, ...]


def binomial(count: int) -> Taps:
    """Binomial filter: [1 2 1] / 4 for 3 taps, [1 3 3 1] / 8 for 4, [1 4 6 4 1] / 16 for 5."""
    return tuple(math.comb(count - 1, k) / 2 ** (count - 1) for k in range(count))


def half_band() -> Taps:
    """Low-pass filter of 12 taps with its cutoff (-6 dB) at half of the band: a sinc under a Kaiser window.

    This is StyleGAN3's filter for a factor of 2 (Karras et al., 2021, arXiv 2106.12423, section 3): six taps for each
    pixel of the coarse grid, and a transition band from f_h = (sqrt 2 - 1) s / 2 below the cutoff s / 2 to as much
    above it, where s is the rate of the coarse grid. The window's shape follows from both by Kaiser's rule: 41 dB, beta
    3.47.
    """
    count = 12
    transition = math.sqrt(2) - 1  # 2 f_h as a share of s, the band of the fine grid
    attenuation = 2.285 * (count - 1) * math.pi * transition + 7.95
    beta = 0.5842 * (attenuation - 21) ** 0.4 + 0.07886 * (attenuation - 21)  # between 21 and 50 dB
    taps = np.sinc((np.arange(count) - (count - 1) / 2) / 2) * np.kaiser(count, beta)
    return tuple((taps / taps.sum()).tolist())


def halve(x: Tensor, taps: Taps, padding: Padding) -> Tensor:
    """Filter `b c h w`, then keep every other pixel, starting with the first: `b c h/2 w/2`, rounded up.

    Output i is centred on pixel 2i for an odd number of taps, and between 2i and 2i + 1 for an even number, which keeps
    the two grids concentric for even sizes.
    """
    before = (len(taps) - 1) // 2
    after = len(taps) // 2
    x = padding(x, (before, after, before, after))
    for dim in (3, 2):
        size = (x.shape[dim] - len(taps)) // 2 + 1
        x = _weighted_sum(x, dim, taps, 0, size, step=2)
    return x


def double(x: Tensor, taps: Taps, padding: Padding) -> Tensor:
    """Insert a zero beside each pixel of `b c h w`, then filter with gain 2 along each axis: `b c 2h 2w`.

    The filter must be symmetric with a multiple of 4 taps, so that both grids are concentric. The zeros are never
    multiplied: each of the two output phases uses the half of the taps that falls on pixels.
    """
    reach = len(taps) // 4
    x = padding(x, (reach, reach, reach, reach))
    for dim in (3, 2):
        size = x.shape[dim] - 2 * reach
        phases = [_weighted_sum(x, dim, [2 * tap for tap in taps[p::2]], p, size) for p in (0, 1)]
        x = torch.stack(phases, dim + 1).flatten(dim, dim + 1)
    return x


def filtered_silu(x: Tensor, padding: Padding) -> Tensor:
    """SiLU of `b c h w` computed on a grid twice as fine, so that detail above the band is filtered, not aliased.

    As in StyleGAN3 (Karras et al., 2021, arXiv 2106.12423, section 3), with `half_band` both ways. Pads by up to 6 px.
    """
    taps = half_band()
    return halve(F.silu(double(x, taps, padding)), taps, padding)


def pad_replicate(x: Tensor, pads: tuple[int, int, int, int]) -> Tensor:
    """Pad `b c h w` by (left, right, top, bottom) pixels by repeating the border pixel.

    Slices are used instead of `F.pad`, whose CUDA backward adds in no fixed order.
    """
    left, right, top, bottom = pads
    return _repeat_border(_repeat_border(x, 3, left, right), 2, top, bottom)


def _repeat_border(x: Tensor, dim: int, before: int, after: int) -> Tensor:
    first = x.narrow(dim, 0, 1)
    last = x.narrow(dim, x.shape[dim] - 1, 1)
    return torch.cat([first] * before + [x] + [last] * after, dim)


def _weighted_sum(x: Tensor, dim: int, weights: Taps | list[float], start: int, size: int, step: int = 1) -> Tensor:
    """Sum over k of weights[k] times the `size` pixels along `dim` from `start + k` on, every `step`-th."""

    def shifted(k: int) -> Tensor:
        window = slice(start + k, start + k + step * (size - 1) + 1, step)
        return x[:, :, :, window] if dim == 3 else x[:, :, window]

    order = sorted(range(len(weights)), key=lambda k: abs(weights[k]))
    return functools.reduce(torch.add, (shifted(k) * weights[k] for k in order))
