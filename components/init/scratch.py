"""Fresh random weights; each layer is drawn from a seed of its own.

The initial weights of a layer then depend only on the trial's seed and the layer's name. Layers of the same name and
shape start equal in every treatment of one seed, whatever else the architectures hold, so that differences between
treatments are paired.
"""

from collections.abc import Callable

import torch
from torch import nn

from ablate.slots import Initializer, InitSettings


class Config(InitSettings):
    """No settings."""


def build(config: Config, seed_of: Callable[[str], int]) -> Initializer:
    """`seed_of` gives a seed for a layer's name."""

    def initialize(net: nn.Module) -> None:
        """Redraw every layer in place, on the CPU; torch's global generators are left as they were.

        Raises ValueError for parameters that are not on the CPU or that no `reset_parameters` draws.
        """
        with torch.random.fork_rng(devices=[]):
            for name, module in net.named_modules():
                own = list(module.parameters(recurse=False))
                if any(parameter.device.type != "cpu" for parameter in own):
                    raise ValueError(f"init: {name} is on {own[0].device}; initialise first, then move it")
                reset = getattr(module, "reset_parameters", None)
                if reset is not None:
                    torch.default_generator.manual_seed(seed_of(name))  # torch.manual_seed would seed the GPUs as well
                    reset()
                elif own:
                    raise ValueError(f"init: {name} ({type(module).__name__}) has parameters but no reset_parameters")

    return initialize
