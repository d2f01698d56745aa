"""Group normalisation, blind to the latent (Wu and He, "Group Normalization", 2018, arXiv 1803.08494)."""

from pydantic import PositiveInt
from torch import nn

from ablate.registry import Settings
from components.layers import GroupNorm


class Config(Settings):
    """`groups`: how many groups the channels are split into; must divide the channels of every level of the model."""

    groups: PositiveInt = 32


def build(config: Config, channels: int, latent_channels: int | None) -> nn.Module:
    """Module `forward(h, z)`. Raises ValueError when the channels do not divide into the groups."""
    return GroupNorm(config.groups, channels)
