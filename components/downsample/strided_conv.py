"""A 3 x 3 convolution of stride 2 that pads on the right and the bottom only.

The down-sampler of latent diffusion's autoencoders (Rombach et al., 2022, arXiv 2112.10752): even sizes halve exactly,
and the grid moves by half a pixel.
"""

from torch import Tensor, nn

from ablate.components.shared.layers import Conv2d
from ablate.slots import Padding, Settings


class Config(Settings):
    """No settings."""


def build(config: Config, channels: int, padding: Padding) -> nn.Module:
    return StridedConv(channels, padding)


class StridedConv(nn.Module):
    """`b c h w -> b c h/2 w/2` for even h and w."""

    def __init__(self, channels: int, padding: Padding) -> None:
        super().__init__()
        self.conv = Conv2d(channels, channels, 3, padding, stride=2, pads=(0, 1, 0, 1))

    def forward(self, h: Tensor) -> Tensor:
        out: Tensor = self.conv(h)
        return out
