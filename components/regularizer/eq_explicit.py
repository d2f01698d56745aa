"""Explicit equivariance, a negative control: latents of transformed pictures are pulled to the transformed latents.

Kouzelis et al., "EQ-VAE", 2025 (arXiv 2502.09509, table 7), with tau a downscaling and a rotation as in `eq`:

    strength * mean |tau E(x) - E(tau x)|^2

The cheapest way to lower it is to make latents small or constant, at the decoder's expense: with the paper's strength
of 0.1, the lowest equivariance error of its table comes with the worst pictures. E is the posterior's mean.
"""

from typing import Literal

from pydantic import Field, NonNegativeFloat
from torch import Tensor
from torch.nn import functional as F

from ablate.components.regularizer._rescale import rescale, turn
from ablate.components.regularizer._transformation import Transformation
from ablate.slots import Autoencoder, Regularizer, RegularizerSettings, Step


class Config(RegularizerSettings):
    """`strength`: the term's factor in the training loss; 0 is the same as `none`.

    `resample`: the filter. `least`: the smallest scale.
    """

    strength: NonNegativeFloat
    resample: Literal["bilinear", "bicubic"] = "bilinear"
    least: float = Field(0.25, gt=0, lt=1)


def build(config: Config) -> Regularizer:
    def penalty(vae: Autoencoder, step: Step) -> Tensor:
        """The weighted loss, a scalar, in fp32. The gradient passes through both sides."""
        side = step.z.shape[-1]
        drawn = Transformation.draw(side, config.least, step.seed_of)

        def transformed(v: Tensor) -> Tensor:
            return turn(rescale(v, drawn.side, side, config.resample), drawn.quarters)

        with step.precision():
            encoded = vae.encode(transformed(step.x)).mean
        return config.strength * F.mse_loss(encoded.float(), transformed(step.posterior.mean.float()))

    return penalty
