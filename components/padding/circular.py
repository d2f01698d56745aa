"""Circular padding: the picture continues with its opposite border, as on a torus.

The network has no border to detect, so a model of convolutions and norms alone commutes with shifts by its stride: a
control for the effects of the other paddings.
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
    """Pad `b c h w` by (left, right, top, bottom) pixels, each at most the size.

    Slices are used instead of `F.pad`, which would turn channels_last tensors into contiguous ones.
    """
    left, right, top, bottom = pads
    return _wrap(_wrap(x, 3, left, right), 2, top, bottom)


def _wrap(x: Tensor, dim: int, before: int, after: int) -> Tensor:
    size = x.shape[dim]
    pieces = [x.narrow(dim, size - before, before), x, x.narrow(dim, 0, after)]
    return torch.cat([piece for piece in pieces if piece.shape[dim]], dim)
