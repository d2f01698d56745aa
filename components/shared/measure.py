"""Measurements shared by several probes: clamping for display, PSNR, SSIM, Gaussian blur, contact sheets.

Images are `n 3 h w` in [0, 1], fp32. One grey level (gl) is 1/255.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

GREY_LEVELS = 255.0


PICTURE_SIDE = 256
"""Largest side in px of a picture that a probe reports."""


Picture = np.ndarray[Any, np.dtype[np.uint8]]


def displayed(y: Tensor) -> Tensor:
    """A reconstruction as a viewer sees it, clamped to [0, 1]. Infinities become NaN, so as not to pass for white."""
    return torch.where(y.isfinite(), y.clamp(0, 1), torch.nan)


def psnr(x: Tensor, y: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of each image in dB, `n`; inf where the images are identical.

    Average it over images. Pooling the squared error first gives another quantity, several dB lower on mixed data.
    """
    return -10 * torch.log10((x - y).square().mean((1, 2, 3)))


def ssim(x: Tensor, y: Tensor) -> Tensor:
    """Structural similarity of each image, `n`: Wang, Bovik, Sheikh & Simoncelli, IEEE TIP 13(4), 2004.

    Their 11 x 11 Gaussian window (sigma 1.5), K = (0.01, 0.03), data range 1, population covariances; averaged over
    the positions where the whole window fits, then over channels. Raises ValueError below 11 px.
    """
    if min(x.shape[-2:]) < 11:
        raise ValueError(f"ssim needs images of at least 11 px, got {tuple(x.shape[-2:])}")
    c1 = 0.01**2
    c2 = 0.03**2
    mx, my, xx, yy, xy = (gaussian_blur(m, sigma=1.5, radius=5) for m in (x, y, x * x, y * y, x * y))
    luminance = (2 * mx * my + c1) / (mx * mx + my * my + c1)
    structure = (2 * (xy - mx * my) + c2) / (xx - mx * mx + yy - my * my + c2)
    return (luminance * structure).mean((1, 2, 3))


def per_frame(measure: Callable[[Tensor, Tensor], Tensor], x: Tensor, y: Tensor) -> Tensor:
    """Apply a measure of images to each frame of clips `n 3 t h w`; returns `n t`."""
    return torch.stack([measure(*pair) for pair in zip(x.unbind(2), y.unbind(2), strict=True)], 1)


def gaussian_blur(x: Tensor, sigma: float, radius: int) -> Tensor:
    """Blur `n c h w` with a Gaussian cut off at `radius` px, without padding: `n c h-2r w-2r`.

    Computed as a sum of shifted images: several times faster than a depthwise convolution on a CPU, and never in TF32.
    """
    offsets = torch.arange(-radius, radius + 1, dtype=torch.float64)
    weights = torch.softmax(-0.5 * (offsets / sigma).square(), 0).tolist()
    for dim in (-1, -2):
        size = x.shape[dim] - 2 * radius
        total = x.narrow(dim, 0, size) * weights[0]
        for shift, weight in enumerate(weights[1:], 1):
            total.add_(x.narrow(dim, shift, size), alpha=weight)
        x = total
    return x


def sheet(*columns: Tensor, rows: int = 4) -> Picture:
    """A contact sheet `h w 3` of at most 256 x 256 px: an image of each column (`n 3 s s` in [0, 1]) per row.

    Large images are cropped to their centre and small ones enlarged by a whole factor, because viewers such as MLflow's
    shrink larger pictures, which would hide a grid. NaN is black.
    """
    side = min(columns[0].shape[-1], PICTURE_SIDE // len(columns))
    first = (columns[0].shape[-1] - side) // 2
    rows = min(rows, PICTURE_SIDE // side)
    window = slice(first, first + side)
    strip = torch.cat([torch.cat(list(c[:rows, :, window, window]), -2) for c in columns], -1)
    return enlarged(strip, PICTURE_SIDE // max(strip.shape[-2:]))


def enlarged(image: Tensor, factor: int) -> Picture:
    """Convert an image `3 h w` in [0, 1] to `h w 3` uint8, each pixel enlarged to a square of `factor` px."""
    levels = (image.nan_to_num(nan=0.0).clamp(0, 1) * GREY_LEVELS).round().byte().permute(1, 2, 0).cpu().numpy()
    picture: Picture = levels.repeat(factor, 0).repeat(factor, 1)
    return picture
