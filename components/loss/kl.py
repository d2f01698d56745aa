"""Kullback-Leibler divergence of the posterior from the standard normal, in nats, under the reductions in use.

Kingma and Welling, "Auto-Encoding Variational Bayes", 2014 (arXiv 1312.6114, appendix B). A weight means nothing
without its reduction and that of the pixel loss beside it; papers and code differ by factors of thousands. The
canonical form here is the mean over b and all latent dimensions of (mean^2 + var - 1 - log var) / 2, beside a mean
pixel loss. To convert a weight from elsewhere, multiply it by the factor (latent of z channels, h x w, stride f; images
of 3 f^2 h w values):

    pixel loss   KL of one image                                    `reduction`     factor
    mean         mean over z h w                                    mean            1
    mean         sum over z h w                                     sum             z h w
    sum          sum over z h w                          (1)        sum_as_pixels   z / (3 f^2)
    mean         sum over z, mean over h w, no half      (2)        channel_sum     2 z

(1) Latent diffusion and diffusers' training example: their weight of 1e-6 at f = 8 is canonically 2.1e-8 with z = 4
and 8.3e-8 with z = 16. (2) stable-audio-tools. On video, both sums also run over all frames of a clip. If the KL
is summed over a clip but the pixel loss over a single frame (Open-Sora-Plan), multiply the weight for `sum_as_pixels`
by the number of frames: with t latent frames the factor is then t z / (3 f^2).
"""

from math import prod
from typing import Literal

from pydantic import NonNegativeInt
from torch import Tensor

from ablate.slots import LossSettings, Step, Term, added


class Config(LossSettings):
    """`weight`: the term's factor in the training loss.

    `reduction`: the convention that the weight is given in (table above); the term is scaled accordingly.
    `start`: the step of the trial, counted over all stages, after which the term enters. `ramp`: the number of
    further steps over which its weight rises linearly from 0.
    """

    reduction: Literal["mean", "sum", "sum_as_pixels", "channel_sum"] = added("mean", absent_means="mean")
    start: NonNegativeInt = added(0, absent_means=0)
    ramp: NonNegativeInt = added(0, absent_means=0)


def build(config: Config) -> Term:
    return KL(config)


def canonical_factor(reduction: str, latent_shape: tuple[int, ...], image_shape: tuple[int, ...]) -> float:
    """The factor that converts a weight under `reduction` to one of the canonical mean, beside a mean pixel loss.

    Shapes have the batch first: latents `b z h w` and images `b 3 h w`, or both with frames, `b z t h w`. Raises
    KeyError for an unknown reduction.
    """
    values = prod(latent_shape[1:])
    pixels = prod(image_shape[1:])
    return {
        "mean": 1.0,
        "sum": float(values),
        "sum_as_pixels": values / pixels,
        "channel_sum": 2.0 * latent_shape[1],
    }[reduction]


class KL(Term):
    of = "latent"

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.reduction = config.reduction

    def forward(self, step: Step) -> Tensor:
        """Computed in fp32 always; expm1 keeps digits that exp(logvar) - 1 loses near unit variance."""
        mean = step.posterior.mean.float()
        logvar = step.posterior.logvar.float()
        canonical = 0.5 * (mean.square() + logvar.expm1() - logvar).mean()
        return canonical * canonical_factor(self.reduction, mean.shape, step.x.shape)
