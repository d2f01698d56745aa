"""Resizing of latents and pictures by the same filter, as products with small matrices.

An equivariance term needs the same filter and factor for latents and pictures, whatever their sizes. The matrices are
the identity resized by `F.interpolate`; unlike its own gradients on a GPU, theirs add in a fixed order, and never in
TF32.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

MODES: dict[str, dict[str, Any]] = {
    "mean": {"mode": "area"},
    "bilinear": {"mode": "bilinear", "align_corners": False},
    "bilinear_ac": {"mode": "bilinear", "align_corners": True},
    "bicubic": {"mode": "bicubic", "align_corners": False},
    "bicubic_aa": {"mode": "bicubic", "align_corners": False, "antialias": True},
}
"""`mean` averages blocks, so the factor must be whole. All but `mean` and `bicubic_aa` alias when they reduce."""


def rescale(x: Tensor, to: int, of: int, resample: str) -> Tensor:
    """Resize `b c h w` to `b c h*to/of w*to/of`, in the input's precision.

    Raises ValueError if a side would not be whole, or if `mean` would have to split a pixel.
    """
    return _matrix(x, x.shape[-2], to, of, resample) @ x @ _matrix(x, x.shape[-1], to, of, resample).T


def turn(x: Tensor, quarters: int) -> Tensor:
    """Rotate `b c h w` by `quarters` right angles."""
    return torch.rot90(x, quarters, (-2, -1))


def _matrix(x: Tensor, side: int, to: int, of: int, resample: str) -> Tensor:
    if side * to % of or (resample == "mean" and of % to):
        raise ValueError(f"a side of {side} cannot be reduced to {to}/{of} of it by `{resample}`")
    identity = torch.eye(side, dtype=x.dtype, device=x.device)[None, None]
    # the other axis keeps its size, at which each of the filters is the identity
    return F.interpolate(identity, (side * to // of, side), **MODES[resample])[0, 0]
