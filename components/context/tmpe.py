"""Temporal motion perception enhancement (TMPE): parallel atrous convolutions, and attention after every block.

Wu et al., "Improved Video VAE for Latent Video Diffusion Model", 2025 (IV-VAE, arXiv 2411.06449, section 3). In place
of the encoder's last convolution stand a 1 x 1 and several dilated 3 x 3 convolutions side by side, joined by a 1 x 1
convolution, as in ASPP (Chen et al., 2017, arXiv 1706.05587). The larger the picture, the more pixels a movement spans;
the coarsest level is to see so far that it finds both of its ends.
"""

from pydantic import Field, PositiveInt
from torch import nn

from ablate.components.shared.frames import AtrousConvs
from ablate.slots import Context, Padding, Settings


class Config(Settings):
    """`rates`: dilations of the 3 x 3 convolutions; IV-VAE's are for latents of 32 px and more. They pad with zeros.

    `attend_everywhere`: attention after every block of the coarsest level, 8 with two blocks a level, and not 2.
    """

    rates: tuple[PositiveInt, ...] = Field((1, 3, 6, 9, 12), min_length=1)
    attend_everywhere: bool = True


def build(config: Config, padding: Padding) -> Context:
    def head(before: int, after: int) -> nn.Module:
        return AtrousConvs(before, after, config.rates)

    return Context(head, config.attend_everywhere)
