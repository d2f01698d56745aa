"""How the encoder halves the size: here a 3 x 3 convolution, then the mean of each square of four pixels.

Say here where the layer comes from.
"""

from torch import Tensor, nn
from torch.nn import functional as F

from ablate.components.shared.layers import Conv2d
from ablate.slots import Padding, Settings


class Config(Settings):
    """No settings."""


def build(config: Config, channels: int, padding: Padding) -> nn.Module:
    return Downsample(channels, padding)


class Downsample(nn.Module):
    """`b c h w -> b c h/2 w/2` for even h and w."""

    def __init__(self, channels: int, padding: Padding) -> None:
        super().__init__()
        self.conv = Conv2d(channels, channels, 3, padding)  # pads by the study's padding; nn.Conv2d would pad by zeros

    def forward(self, h: Tensor) -> Tensor:
        return F.avg_pool2d(self.conv(h), 2)
