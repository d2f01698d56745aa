"""A normalisation layer: here each pixel's channel vector is divided by its root mean square.

Say here where the norm comes from. This one: Zhang and Sennrich, "Root Mean Square Layer Normalization", 2019 (arXiv
1910.07467).
"""

import torch
from pydantic import PositiveFloat
from torch import Tensor, nn

from ablate.slots import Settings


# Each field is a setting that a study can name, `norm: {level: starter, floor: 1e-4}`, and vary, `norm.floor: [...]`.
class Config(Settings):
    """`floor`: added to the mean square, so that flat features stay finite."""

    floor: PositiveFloat = 1e-6


def build(config: Config, channels: int, latent_channels: int | None) -> nn.Module:
    """`latent_channels`: of the latent in the decoder; None in the encoder, where there is no latent."""
    return Norm(channels, config.floor)


class Norm(nn.Module):
    """`b c h w -> b c h w`."""

    def __init__(self, channels: int, floor: float) -> None:
        super().__init__()
        self.floor = floor
        self.gain = nn.Parameter(torch.empty(channels))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the parameters; `init` calls this after it has seeded torch."""
        nn.init.ones_(self.gain)

    def forward(self, h: Tensor, z: Tensor | None = None) -> Tensor:
        """`z`: the latent, in the decoder. What is delicate is computed in fp32, since h may be bf16."""
        size = h.float().square().mean(1, keepdim=True) + self.floor
        out: Tensor = h * size.rsqrt() * self.gain.view(-1, 1, 1)
        return out
