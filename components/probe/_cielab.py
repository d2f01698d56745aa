"""CIELAB and the CIEDE2000 colour difference, in torch.

Sharma, Wu & Dalal, "The CIEDE2000 color-difference formula", Color Research and Application 30(1), 2005.
Channels are on dimension -3 throughout, so that images `n 3 h w` and colours `n 3 1 1` both fit.
"""

import math

import torch
from torch import Tensor

# matrix from linear sRGB (IEC 61966-2-1) to XYZ
XYZ_OF_RGB = ((0.412453, 0.357580, 0.180423), (0.212671, 0.715160, 0.072169), (0.019334, 0.119193, 0.950227))


WHITE = (0.95047, 1.0, 1.08883)  # D65, 2 degree observer


def srgb_to_lab(rgb: Tensor) -> Tensor:
    """Convert sRGB in [0, 1], `... 3 h w`, to CIELAB, `... 3 h w` (L in 0-100)."""
    linear = torch.where(rgb > 0.04045, ((rgb.clamp(min=0) + 0.055) / 1.055) ** 2.4, rgb / 12.92)
    matrix = rgb.new_tensor(XYZ_OF_RGB) / rgb.new_tensor(WHITE)[:, None]
    xyz = (matrix[:, :, None, None] * linear.unsqueeze(-4)).sum(-3)  # not a matmul, which may run in TF32
    root = torch.where(xyz > 0.008856, xyz.clamp(min=0.008856) ** (1 / 3), 7.787 * xyz + 16 / 116)
    x, y, z = root.unbind(-3)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], -3)


def ciede2000(lab1: Tensor, lab2: Tensor) -> Tensor:
    """CIEDE2000 between CIELAB colours `... 3 h w`, with all three weights 1: `... h w`. About 1 is just noticeable."""
    # chroma and hue, with a* stretched
    l1, a1, b1 = lab1.unbind(-3)
    l2, a2, b2 = lab2.unbind(-3)
    stretch = 0.5 * (1 - _saturation((torch.hypot(a1, b1) + torch.hypot(a2, b2)) / 2))
    a1 = a1 * (1 + stretch)
    a2 = a2 * (1 + stretch)
    c1 = torch.hypot(a1, b1)
    c2 = torch.hypot(a2, b2)
    h1 = _hue(a1, b1)
    h2 = _hue(a2, b2)

    # difference and mean of hue, the shorter way round; the hue of a grey is arbitrary, but its chroma is 0
    far = h2 - h1
    turn = far - 360 * far.gt(180) + 360 * far.lt(-180)
    hue = (h1 + h2) / 2 + torch.where(far.abs() > 180, torch.where(h1 + h2 < 360, 180.0, -180.0), 0.0)

    # weighted differences
    light = (l1 + l2) / 2
    chroma = (c1 + c2) / 2
    dl = l2 - l1
    dc = c2 - c1
    dh = 2 * (c1 * c2).sqrt() * _sin(turn / 2)
    t = 1 - 0.17 * _cos(hue - 30) + 0.24 * _cos(2 * hue) + 0.32 * _cos(3 * hue + 6) - 0.20 * _cos(4 * hue - 63)
    sl = 1 + 0.015 * (light - 50).square() / (20 + (light - 50).square()).sqrt()
    sc = 1 + 0.045 * chroma
    sh = 1 + 0.015 * chroma * t
    rotation = -2 * _saturation(chroma) * _sin(60 * torch.exp(-((hue - 275) / 25).square()))
    square = (dl / sl).square() + (dc / sc).square() + (dh / sh).square() + rotation * (dc / sc) * (dh / sh)
    return square.clamp(min=0).sqrt()


def _saturation(chroma: Tensor) -> Tensor:
    seventh = (chroma / 25) ** 7
    return (seventh / (seventh + 1)).sqrt()


def _hue(a: Tensor, b: Tensor) -> Tensor:
    return torch.rad2deg(torch.atan2(b, a)) % 360


def _sin(degrees: Tensor) -> Tensor:
    return torch.sin(degrees * (math.pi / 180))


def _cos(degrees: Tensor) -> Tensor:
    return torch.cos(degrees * (math.pi / 180))
