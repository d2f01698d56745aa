"""RMS normalisation of each pixel's channel vector; in two-half models, each half separately.

The vector is scaled to unit mean square (Zhang, Sennrich, 2019, arXiv 1910.07467), then multiplied by a learned gain.
The level does not look at other pixels or frames, so a clip may be cut into chunks anywhere. Each half is scaled by
itself as in IV-VAE (arXiv 2411.06449): a half that starts as a copy of an image VAE then computes the same as that
VAE, whatever the other half holds.
"""

from torch import nn

from ablate.components.shared.layers import RMSNorm
from ablate.slots import Settings


class Config(Settings):
    """No settings."""


def build(config: Config, channels: int, latent_channels: int | None, halves: int = 1) -> nn.Module:
    return RMSNorm(channels, halves)
