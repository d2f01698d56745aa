"""RMS normalisation as in `rms`, but over all channels of a pixel together, across the halves of the model."""

from torch import nn

from ablate.components.shared.layers import RMSNorm
from ablate.slots import Settings


class Config(Settings):
    """No settings."""


def build(config: Config, channels: int, latent_channels: int | None, halves: int = 1) -> nn.Module:
    return RMSNorm(channels, 1)
