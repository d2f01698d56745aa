"""What shapes the latents beyond the loss: here the mean square of the differences between neighbouring latents.

Say here where the regularizer comes from.
"""

from pydantic import NonNegativeFloat
from torch import Tensor

from ablate.slots import Autoencoder, Regularizer, RegularizerSettings, Step


class Config(RegularizerSettings):
    """`strength`: the term's factor in the training loss; 0 is the same as `none`."""

    strength: NonNegativeFloat = 0.01


def build(config: Config) -> Regularizer:
    def roughness(vae: Autoencoder, step: Step) -> Tensor:
        """The weighted term, a scalar. What it draws must come from `step.seed_of("purpose")`."""
        z = step.z.float()  # in bf16 where the stage computes in it
        down = z.diff(dim=-2).square().mean()
        across = z.diff(dim=-1).square().mean()
        return config.strength * (down + across)

    return roughness
