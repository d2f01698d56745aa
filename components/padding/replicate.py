"""The border pixel repeated outward (`cba|abc` reads `aaa|abc`).

Used by the later autoencoder of VIVAT's laboratory, KVAE-2D-1.0, in its residual blocks. Fits any size, 1 x 1 included.
"""

from typing import Literal

from torch import Tensor
from torch.nn import functional as F

from ablate.slots import Padding, Settings, added


class Config(Settings):
    """`where`: which half of the model pads so; the other pads with zeros."""

    where: Literal["both", "encoder", "decoder"] = added("both", absent_means="both")


def build(config: Config) -> Padding:
    return pad


def pad(x: Tensor, pads: tuple[int, int, int, int]) -> Tensor:
    """Pad `b c h w` by (left, right, top, bottom) pixels."""
    return F.pad(x, pads, mode="replicate")
