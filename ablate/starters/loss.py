"""A term of the training loss: here the Charbonnier penalty, an absolute difference that is smooth at 0.

Say here where the term comes from. This one: Charbonnier et al., "Two deterministic half-quadratic regularization
algorithms for computed imaging", 1994; here minus its smallest value, so that a perfect reconstruction costs nothing.
"""

from pydantic import PositiveFloat
from torch import Tensor

from ablate.slots import LossSettings, Step, Term


# LossSettings brings `weight`. Optional fields that every term means alike: `start` and `ramp`, in steps.
class Config(LossSettings):
    """`weight`: the term's factor in the training loss. `width`: differences below it count as squares, in [-1, 1]."""

    width: PositiveFloat = 0.01


def build(config: Config) -> Term:
    return Charbonnier(config.width)


class Charbonnier(Term):
    of = "reconstruction"  # or "latent": only the posterior or z; "realism": only y, by the discriminator

    def __init__(self, width: float) -> None:
        super().__init__()
        self.width = width

    def forward(self, step: Step) -> Tensor:
        """A scalar, without the weight. `step.x`: the target, `step.y`: its reconstruction, in [-1, 1], fp32."""
        difference = step.y - step.x
        return (difference.square() + self.width**2).sqrt().mean() - self.width
