"""Reflection padding: the picture is mirrored at its border pixel, which is not repeated (`dcb|abcd`).

VIVAT's cure for the "corner artifact" (arXiv 2506.07863, section 5.2).
"""

from typing import Literal

import torch
from torch import Tensor

from ablate.slots import Padding, Settings, added


class Config(Settings):
    """`where`: the half of the model that uses this padding; the other half pads with zeros."""

    where: Literal["both", "encoder", "decoder"] = added("both", absent_means="both")


def build(config: Config) -> Padding:
    return pad


def pad(x: Tensor, pads: tuple[int, int, int, int]) -> Tensor:
    """Pad `b c h w` by (left, right, top, bottom) pixels, each less than the size.

    Slices are used instead of `F.pad`, whose CUDA backward adds in no fixed order and refuses to run under
    `torch.use_deterministic_algorithms`. Raises ValueError when a pad does not fit.
    """
    left, right, top, bottom = pads
    height, width = x.shape[-2:]
    if max(left, right) >= width or max(top, bottom) >= height:
        raise ValueError(
            f"padding: reflect by {pads} (left, right, top, bottom) does not fit {height} x {width} (h x w): "
            "each pad must be less than the size; use larger pictures, a smaller stride or `padding: replicate`"
        )
    return _mirror(_mirror(x, 3, left, right), 2, top, bottom)


def _mirror(x: Tensor, dim: int, before: int, after: int) -> Tensor:
    size = x.shape[dim]
    pieces = [x.narrow(dim, 1, before).flip(dim), x, x.narrow(dim, size - 1 - after, after).flip(dim)]
    return torch.cat([piece for piece in pieces if piece.shape[dim]], dim)
