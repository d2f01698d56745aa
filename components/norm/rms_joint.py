"""RMS normalisation of each pixel's channel vector; in two-half models, over both halves together.

Otherwise the same as `rms`.
"""

from torch import nn

from ablate.components.shared.layers import RMSNorm
from ablate.slots import Settings


class Config(Settings):
    """No settings."""


def build(config: Config, channels: int, latent_channels: int | None, halves: int = 1) -> nn.Module:
    return RMSNorm(channels, 1)
