"""Space-to-depth: a 3 x 3 convolution of the pixels of each 2 x 2 square as channels, plus the mean of the square.

The skip is that of Chen et al., "Deep Compression Autoencoder for Efficient High-Resolution Diffusion Models", 2024
(arXiv 2410.10733), and of LTX-Video (arXiv 2501.00103): the mean over groups of the rearranged channels. From c
channels to c, each group is one square. The papers convolve to a quarter of the channels first and then rearrange; here
it is the other way round, so that any number of channels works.
"""

from torch import Tensor, nn

from ablate.components.shared.layers import Conv2d
from ablate.slots import Padding, Settings


class Config(Settings):
    """No settings."""


def build(config: Config, channels: int, padding: Padding) -> nn.Module:
    return SpaceToDepth(channels, padding)


class SpaceToDepth(nn.Module):
    """`b c h w -> b c h/2 w/2` for even h and w."""

    def __init__(self, channels: int, padding: Padding) -> None:
        super().__init__()
        self.unshuffle = nn.PixelUnshuffle(2)
        self.conv = Conv2d(4 * channels, channels, 3, padding)

    def forward(self, h: Tensor) -> Tensor:
        squares = self.unshuffle(h)  # b 4c h/2 w/2
        out: Tensor = self.conv(squares) + squares.unflatten(1, (-1, 4)).mean(2)
        return out
