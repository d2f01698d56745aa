"""Outlier penalty loss (OPL): penalises latent vectors more than r deviations from the mean of their picture.

Polyak et al., "Movie Gen: A Cast of Media Foundation Models", 2024 (arXiv 2410.13720, section on the temporal
autoencoder), against bright spots in reconstructions, which come from single latent vectors of large norm. With z_p the
latent vector at position p of h w, and m and s the mean and standard deviation of each channel over the positions:

    OPL(z, r) = 1 / (h w) sum_p max(|z_p - m| - r |s|, 0)    (Euclidean norms over channels)

The paper uses r = 3 and a factor of 1e5, beside reconstruction losses whose reduction we do not know. If they were
summed over a 256 x 256 picture, as in latent diffusion, they would be 2e5 times the means used here, and the equivalent
factor would be 0.5. One vector can be at most sqrt(h w - 1) deviations away, so with r = 3 latents of 10 positions or
fewer have no penalty.

m and s are not detached, so the gradient is that of the formula. One of two public reimplementations detaches them:
outliers are then pulled in a little harder, and the other positions are not pushed apart to widen s. z is the posterior
draw that the decoder sees.
"""

from pydantic import NonNegativeFloat, PositiveFloat
from torch import Tensor
from torch.linalg import vector_norm

from ablate.slots import Autoencoder, Regularizer, RegularizerSettings, Step


class Config(RegularizerSettings):
    """`strength`: the penalty's factor in the training loss; 0 is the same as `none`.

    `r`: number of standard deviations without penalty.
    """

    strength: NonNegativeFloat
    r: PositiveFloat = 3.0


def build(config: Config) -> Regularizer:
    def penalty(vae: Autoencoder, step: Step) -> Tensor:
        """The weighted loss, a scalar, in fp32 whatever the model computes in."""
        return config.strength * outlier_penalty(step.z.float(), config.r)

    return penalty


def outlier_penalty(z: Tensor, r: float) -> Tensor:
    """OPL of latents `b c h w`, or `b c t h w` with each frame by itself; a scalar, the mean over pictures."""
    positions = z.shape[-2] * z.shape[-1]
    centred = z - z.mean((-2, -1), keepdim=True)
    distance = vector_norm(centred, dim=1)
    # |s|^2 is the sum of the variance over channels. A norm, unlike its square root, has a finite gradient if it is 0.
    deviation = vector_norm(centred, dim=(1, -2, -1))[..., None, None] / positions**0.5
    excess: Tensor = distance - r * deviation
    return excess.relu().mean()
