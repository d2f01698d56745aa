"""Adversarial term of the autoencoder: the discriminator's `generator_loss` of the reconstruction.

Esser et al., "Taming Transformers for High-Resolution Image Synthesis", 2021 (arXiv 2012.09841, section 3.1).
"""

from typing import Literal

from pydantic import NonNegativeInt, PositiveFloat
from torch import Tensor

from ablate.slots import LossSettings, Step, Term, added


class Config(LossSettings):
    """`weight`: the term's factor in the training loss.

    `mode`: `constant` uses the weight as it is; `adaptive` multiplies it at every step by
    clamp(|grad R| / (|grad G| + 1e-4), 0, `clamp`), the gradients of the reconstruction terms R and of this term G with
    respect to the decoder's last weight (Esser et al., equation 7). `clamp`: the largest such factor.
    `start`: the step of the trial, counted over all stages, after which the term enters. A start later than the
    discriminator's own gives the discriminator time to learn alone.
    `ramp`: the number of further steps over which the weight rises linearly from 0.
    """

    mode: Literal["constant", "adaptive"] = added("constant", absent_means="constant")
    clamp: PositiveFloat = added(1e4, absent_means=1e4)
    start: NonNegativeInt = added(0, absent_means=0)
    ramp: NonNegativeInt = added(0, absent_means=0)


def build(config: Config) -> Term:
    return Adversarial()


class Adversarial(Term):
    of = "realism"

    def forward(self, step: Step) -> Tensor:
        """Raises ValueError when there is no discriminator."""
        if step.discriminator is None:
            raise ValueError("loss.adversarial needs an opponent: set `discriminator: patchgan`, or the weight to 0")
        logits: Tensor = step.discriminator(step.y)
        return step.discriminator.generator_loss(logits.float())
