"""Bilinear doubling, then a 3 x 3 convolution.

The smoother of the two resize-convolutions of Odena et al., "Deconvolution and Checkerboard Artifacts", 2016 (Distill).
On a constant picture it draws no grid, whatever its weights. Pixel centres stay in place (`align_corners=False`). As
usual, the border pixel is repeated for the resize; the padding level applies to the convolution only.
"""

from torch import Tensor, nn

from ablate.components.shared.layers import Conv2d
from ablate.components.shared.resample import binomial, double, pad_replicate
from ablate.slots import Padding, Settings


class Config(Settings):
    """No settings."""


def build(config: Config, channels: int, padding: Padding) -> nn.Module:
    return BilinearConv(channels, padding)


class BilinearConv(nn.Module):
    """`b c h w -> b c 2h 2w`."""

    def __init__(self, channels: int, padding: Padding) -> None:
        super().__init__()
        self.taps = binomial(4)  # between two pixels: 3/4 of the nearer, 1/4 of the other
        self.conv = Conv2d(channels, channels, 3, padding)

    def forward(self, h: Tensor) -> Tensor:
        out: Tensor = self.conv(double(h, self.taps, pad_replicate))
        return out
