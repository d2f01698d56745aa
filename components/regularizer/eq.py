"""EQ-VAE: in a share of the steps, latents and target are downscaled and rotated alike before decoding.

Kouzelis et al., "EQ-VAE: Equivariance Regularized Latent Space for Improved Generative Image Modeling", 2025 (arXiv
2502.09509). No term is added. With tau such a transformation, those steps compare D(tau z) with tau x in every term of
the loss and in the discriminator; the KL divergence is that of the untransformed picture. The authors' code, followed
here, differs from the paper in two ways. It resamples bilinearly without antialiasing (paper: bicubic). And in a
quarter of the other steps it reconstructs a reduced picture from its own latents, so that small pictures still decode
well (paper: no such branch). With the paper's `strength` of 0.5 that makes 50 % transformed, 12.5 % small and 37.5 %
plain steps. For the paper's version set `resample: bicubic` and `prior: 0`.

The transformation always reduces and rotates, by 90, 180 or 270 degrees, and is the same for the whole batch. The new
side of the latents is a whole number, uniform from `least` of the old side to one less than it: 8 to 31 of 32 in the
authors' setting. Their discriminator draws its own transformation; here it sees the autoencoder's pictures.
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
    `least`: the smallest scale. A discriminator may need more than a quarter of a small crop.
    """

    strength: float = Field(ge=0, le=1)
    prior: float = Field(0.25, ge=0, le=1)
    resample: Literal["bilinear", "bicubic"] = "bilinear"
    least: float = Field(0.25, gt=0, lt=1)

    def smallest_latent(self, side: int) -> int:
        """The smallest side of latents that the decoder is given, as `Transformation` draws it."""
        return max(1, math.ceil(self.least * side))


def build(config: Config) -> Alteration:
    return Equivariance(config)


class Equivariance(Alteration):
    """Transforms the pictures or the latents of a step; both hooks draw the same transformation and branch."""

    def __init__(self, config: Config) -> None:
        self.config = config

    def before_encoding(self, vae: Autoencoder, x: Tensor, seed_of: SeedOf) -> Tensor:
        """The pictures `b 3 h w`, reduced in the steps of the prior branch."""
        side = x.shape[-1] // vae.stride
        drawn = Transformation.draw(side, self.config.least, seed_of)
        transformed = drawn.chances[0] < self.config.strength
        small = drawn.chances[1] < self.config.prior
        return rescale(x, drawn.side, side, self.config.resample) if small and not transformed else x

    def before_decoding(self, vae: Autoencoder, x: Tensor, z: Tensor, seed_of: SeedOf) -> tuple[Tensor, Tensor]:
        """Target and latents, both reduced and rotated in the transformed steps."""
        drawn = Transformation.draw(z.shape[-1], self.config.least, seed_of)
        if drawn.chances[0] >= self.config.strength:
            return x, z
        x, z = (turn(rescale(v, drawn.side, z.shape[-1], self.config.resample), drawn.quarters) for v in (x, z.float()))
        return x, z
