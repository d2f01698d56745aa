"""Group normalisation, which ignores the latent (Wu and He, "Group Normalization", 2018, arXiv 1803.08494)."""

from pydantic import PositiveInt
from torch import nn

from ablate.components.shared.layers import GroupNorm
from ablate.slots import Settings


class Config(Settings):
    """`groups`: number of groups that the channels are split into; must divide the channels of every model level."""

    groups: PositiveInt = 32


def build(config: Config, channels: int, latent_channels: int | None, halves: int = 1) -> nn.Module:
    """Module `forward(h, z)`; on clips the statistics of a group are over all frames.

    Raises ValueError when the channels do not divide into the groups, or a group would span both halves.
    """
    if config.groups % halves:
        raise ValueError(f"norm: {config.groups} groups do not divide into {halves} halves; set norm.groups")
    return GroupNorm(config.groups, channels)
