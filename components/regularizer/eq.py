"""EQ-VAE: in a share of the steps, latents and target are reduced and turned alike before the latents are decoded.

Kouzelis et al., "EQ-VAE: Equivariance Regularized Latent Space for Improved Generative Image Modeling", 2025 (arXiv
2502.09509). No term is added: with tau such a transformation, those steps hold D(tau z) against tau x, by every term of
the loss and the discriminator too; the KL divergence is of the untransformed picture. The authors' code differs from
the paper (in brackets): it resamples bilinearly without antialiasing (bicubic), and reconstructs, in a quarter of the
other steps, a reduced picture from its own latents, so that small pictures still decode well (no such branch). With
`strength` 0.5, the paper's, that makes 50 % transformed, 12.5 % small and 37.5 % plain steps. For the paper's version
set `resample: bicubic` and `prior: 0`.

The transformation reduces and turns always, by one of 90, 180 and 270 degrees, and is the same for the whole batch. The
new side of the latents is uniform from `least` of the old one to one less than it, in whole places: 8 to 31 of 32
in the authors' setting. Their discriminator draws its own transformation; here it sees the autoencoder's pictures.
"""

import math
from typing import Literal

from pydantic import Field
from torch import Tensor

from ablate.components.regularizer._rescale import rescale, turn
from ablate.components.regularizer._transformation import Transformation
from ablate.slots import Alteration, Autoencoder, RegularizerSettings, SeedOf


class Config(RegularizerSettings):
    """`strength`: the share of transformed steps, 1 - p_alpha of the paper; 0 is the same as `none`.

    `prior`: the share of the other steps that reconstruct a reduced picture. `resample`: the filter.
    `least`: the smallest scale. A discriminator may need more than the quarter of a small crop.
    """

    strength: float = Field(ge=0, le=1)
    prior: float = Field(0.25, ge=0, le=1)
    resample: Literal["bilinear", "bicubic"] = "bilinear"
    least: float = Field(0.25, gt=0, lt=1)

    def smallest_latent(self, side: int) -> int:
        """The least side of latents that the decoder is given, as `Transformation` draws it."""
        return max(1, math.ceil(self.least * side))


def build(config: Config) -> Alteration:
    return Equivariance(config)


class Equivariance(Alteration):
    """Both hooks of a step draw the same transformation and the same branch."""

    def __init__(self, config: Config) -> None:
        self.config = config

    def before_encoding(self, vae: Autoencoder, x: Tensor, seed_of: SeedOf) -> Tensor:
        """Pictures `b 3 h w`, reduced in the steps of the prior branch."""
        side = x.shape[-1] // vae.stride
        drawn = Transformation.draw(side, self.config.least, seed_of)
        transformed, small = drawn.chances[0] < self.config.strength, drawn.chances[1] < self.config.prior
        return rescale(x, drawn.side, side, self.config.resample) if small and not transformed else x

    def before_decoding(self, vae: Autoencoder, x: Tensor, z: Tensor, seed_of: SeedOf) -> tuple[Tensor, Tensor]:
        """Target and latents, both reduced and turned in the transformed steps."""
        drawn = Transformation.draw(z.shape[-1], self.config.least, seed_of)
        if drawn.chances[0] >= self.config.strength:
            return x, z
        x, z = (turn(rescale(v, drawn.side, z.shape[-1], self.config.resample), drawn.quarters) for v in (x, z.float()))
        return x, z
