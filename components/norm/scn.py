"""Spatially conditional normalisation: the decoder's norms take scale and shift from the latent at the same place.

Zheng et al., "MoVQ: Modulating Quantized Vectors for High-Fidelity Image Generation", 2022 (arXiv 2209.09002).
VIVAT (arXiv 2506.07863, section 5.2) proposes it against droplets. Parameter names as in diffusers' `SpatialNorm`.
"""

from pydantic import PositiveInt
from torch import Tensor, nn

from ablate.registry import Settings
from components.layers import GroupNorm


class Config(Settings):
    """`groups`: how many groups the channels are split into; must divide the channels of every level of the model."""

    groups: PositiveInt = 32


def build(config: Config, channels: int, latent_channels: int | None) -> nn.Module:
    """Module `forward(h, z)`; plain group normalisation where there is no latent to look at (the encoder).

    Raises ValueError when the channels do not divide into the groups.
    """
    if latent_channels is None:
        return GroupNorm(config.groups, channels)
    return SpatialNorm(config.groups, channels, latent_channels)


class SpatialNorm(nn.Module):
    """GroupNorm(h) * S(z) + B(z), S and B being 1 x 1 convolutions of the latent, resized by nearest neighbour."""

    def __init__(self, groups: int, channels: int, latent_channels: int) -> None:
        super().__init__()
        self.norm_layer = GroupNorm(groups, channels)
        self.conv_y = nn.Conv2d(latent_channels, channels, 1)
        self.conv_b = nn.Conv2d(latent_channels, channels, 1)

    def forward(self, h: Tensor, z: Tensor) -> Tensor:
        """Features `b c h w` and latent `b z h' w'`, whose size divides that of the features, to `b c h w`."""
        # A 1 x 1 convolution and a nearest resize commute, so the convolutions run at the latent's size. The resize by
        # a whole factor is then a broadcast over the pixels of each cell, and no full-size copy is made.
        rows, columns = z.shape[-2:]
        cells = self.norm_layer(h).unflatten(3, (columns, -1)).unflatten(2, (rows, -1))  # b c h' f w' f
        scale, shift = (conv(z)[:, :, :, None, :, None] for conv in (self.conv_y, self.conv_b))
        out: Tensor = cells * scale + shift
        return out.reshape(h.shape)
