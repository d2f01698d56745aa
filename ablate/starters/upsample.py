"""How the decoder doubles the size: here each pixel becomes four, then a 3 x 3 convolution.

Say here where the layer comes from, and whether it draws a grid.
"""

from torch import Tensor, nn

from ablate.components.shared.layers import Conv2d
from ablate.slots import Padding, Settings


class Config(Settings):
    """No settings."""


def build(config: Config, channels: int, padding: Padding) -> nn.Module:
    return Upsample(channels, padding)


class Upsample(nn.Module):
    """`b c h w -> b c 2h 2w`."""

    def __init__(self, channels: int, padding: Padding) -> None:
        super().__init__()
        self.conv = Conv2d(channels, channels, 3, padding)  # pads by the study's padding; nn.Conv2d would pad by zeros

    def forward(self, h: Tensor) -> Tensor:
        out: Tensor = self.conv(h.repeat_interleave(2, 2).repeat_interleave(2, 3))
        return out
