"""The weights before the first step: here those of `scratch`, with all weights of convolutions multiplied by a factor.

Say here where the initialisation comes from.
"""

import torch
from pydantic import PositiveFloat
from torch import nn

from ablate.components.init import scratch
from ablate.slots import Initializer, InitSettings, SeedOf


class Config(InitSettings):
    """`gain`: the factor."""

    gain: PositiveFloat = 0.7


def build(config: Config, seed_of: SeedOf) -> Initializer:
    """`seed_of` gives a seed for a layer's name: layers of one name then start equal in all treatments of a seed."""
    fresh = scratch.build(scratch.Config(), seed_of)

    def initialise(net: nn.Module) -> None:
        """Fill every weight of an autoencoder or a discriminator in place, on the CPU."""
        fresh(net)
        with torch.no_grad():
            for module in net.modules():
                if isinstance(module, nn.Conv2d | nn.Conv3d):
                    module.weight *= config.gain

    return initialise
