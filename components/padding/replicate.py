"""Replication padding: the border pixel is repeated outward (`aaa|abc`).

KVAE-2D-1.0, a later autoencoder from VIVAT's laboratory, uses it in its residual blocks. It fits any size, even 1 x 1.
"""

from typing import Literal

from torch import Tensor
from torch.nn import functional as F

from ablate.slots import Padding, Settings, added


class Config(Settings):
    """`where`: the half of the model that uses this padding; the other half pads with zeros."""

    where: Literal["both", "encoder", "decoder"] = added("both", absent_means="both")


def build(config: Config) -> Padding:
    return pad


def pad(x: Tensor, pads: tuple[int, int, int, int]) -> Tensor:
    """Pad `b c h w` by (left, right, top, bottom) pixels."""
    return F.pad(x, pads, mode="replicate")
