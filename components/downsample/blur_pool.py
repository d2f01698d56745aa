"""A 3 x 3 convolution, then a fixed blur before every other pixel is dropped (BlurPool).

Zhang, "Making Convolutional Networks Shift-Invariant Again", 2019 (arXiv 1904.11486, section 3). The blur removes part
of the detail that would alias because the coarser grid cannot hold it.
"""

from typing import Literal

from torch import Tensor, nn

from ablate.components.shared.layers import Conv2d
from ablate.components.shared.resample import binomial, halve
from ablate.slots import Padding, Settings


class Config(Settings):
    """`taps`: length of the binomial filter along each axis; 3 is the paper's "triangle", 5 its "binomial".

    With 4 taps the coarser grid stays concentric with the finer one. With 3 and 5 it moves by half a pixel of the finer
    grid towards the first pixel; `strided_conv` moves it as far towards the last.
    """

    taps: Literal[3, 4, 5] = 3


def build(config: Config, channels: int, padding: Padding) -> nn.Module:
    return BlurPool(config.taps, channels, padding)


class BlurPool(nn.Module):
    """`b c h w -> b c h/2 w/2`, odd sizes rounded up."""

    def __init__(self, taps: int, channels: int, padding: Padding) -> None:
        super().__init__()
        self.pad = padding
        self.taps = binomial(taps)
        self.conv = Conv2d(channels, channels, 3, padding)

    def forward(self, h: Tensor) -> Tensor:
        return halve(self.conv(h), self.taps, self.pad)
