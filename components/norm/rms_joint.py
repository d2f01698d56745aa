"""As `rms`, but over all channels of a pixel at once, whatever halves they belong to."""

from torch import nn

from ablate.registry import Settings
from components.layers import RMSNorm


class Config(Settings):
    """No settings."""


def build(config: Config, channels: int, latent_channels: int | None, halves: int = 1) -> nn.Module:
    return RMSNorm(channels, 1)
