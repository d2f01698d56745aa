"""What every convolution sees beyond the border of a picture: here the border pixel, repeated.

Say here where the padding comes from, and what it should cure.
"""

import torch
from torch import Tensor

from ablate.slots import Padding, Settings


class Config(Settings):
    """No settings. A field `where` ("both", "encoder" or "decoder") would choose the half that pads so."""


def build(config: Config) -> Padding:
    return pad


def pad(x: Tensor, pads: tuple[int, int, int, int]) -> Tensor:
    """Pad `b c h w` by (left, right, top, bottom) pixels."""
    left, right, top, bottom = pads
    x = torch.cat([x[..., :1].expand(-1, -1, -1, left), x, x[..., -1:].expand(-1, -1, -1, right)], 3)
    return torch.cat([x[:, :, :1].expand(-1, -1, top, -1), x, x[:, :, -1:].expand(-1, -1, bottom, -1)], 2)
