"""Nearest-neighbour doubling, then a 3 x 3 convolution ("resize-conv").

Odena et al., "Deconvolution and Checkerboard Artifacts", 2016 (Distill). The up-sampler of latent diffusion's and
MoVQGAN's autoencoders; on a constant picture it draws no grid, whatever its weights.
"""

from torch import Tensor, nn
from torch.nn import functional as F

from ablate.components.shared.layers import Conv2d
from ablate.slots import Padding, Settings


class Config(Settings):
    """No settings."""


def build(config: Config, channels: int, padding: Padding) -> nn.Module:
    return NearestConv(channels, padding)


class NearestConv(nn.Module):
    """`b c h w -> b c 2h 2w`."""

    def __init__(self, channels: int, padding: Padding) -> None:
        super().__init__()
        self.conv = Conv2d(channels, channels, 3, padding)

    def forward(self, h: Tensor) -> Tensor:
        out: Tensor = self.conv(F.interpolate(h, scale_factor=2.0, mode="nearest"))
        return out
