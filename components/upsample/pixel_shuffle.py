"""Sub-pixel convolution: a 3 x 3 convolution to four times the channels, which become the pixels of 2 x 2 squares.

Shi et al., "Real-Time Single Image and Video Super-Resolution Using an Efficient Sub-Pixel Convolutional Neural
Network", 2016 (arXiv 1609.05158). Each of the four pixels has its own weights, so a grid appears unless they agree.
"""

from torch import Tensor, nn

from ablate.components.shared.layers import Conv2d
from ablate.slots import Padding, Settings


class Config(Settings):
    """No settings."""


def build(config: Config, channels: int, padding: Padding) -> nn.Module:
    return SubPixelConv(channels, padding)


class SubPixelConv(nn.Module):
    """`b c h w -> b c 2h 2w`."""

    def __init__(self, channels: int, padding: Padding) -> None:
        super().__init__()
        self.conv = Conv2d(channels, 4 * channels, 3, padding)
        self.shuffle = nn.PixelShuffle(2)

    def forward(self, h: Tensor) -> Tensor:
        out: Tensor = self.shuffle(self.conv(h))
        return out
