"""Zeros beyond the border: the default of most autoencoders.

VIVAT (arXiv 2506.07863, section 4) names it as the cause of its "corner artifact", a blurred frame around the picture.
"""

from torch import Tensor
from torch.nn import functional as F

from ablate.registry import Settings
from ablate.slots import Padding


class Config(Settings):
    """No settings."""


def build(config: Config) -> Padding:
    return pad


def pad(x: Tensor, pads: tuple[int, int, int, int]) -> Tensor:
    """Pad `b c h w` by (left, right, top, bottom) pixels."""
    return F.pad(x, pads)
