"""Temporal motion perception enhancement (TMPE): parallel atrous convolutions, and attention after every block.

Wu et al., "Improved Video VAE for Latent Video Diffusion Model", 2025 (IV-VAE, arXiv 2411.06449, section 3). The
encoder's last convolution is replaced by a 1 x 1 and several dilated 3 x 3 convolutions in parallel, joined by a 1 x 1
convolution, as in ASPP (Chen et al., 2017, arXiv 1706.05587). The larger the picture, the more pixels a movement spans;
the coarsest level should see far enough to contain both ends of it.
"""

from pydantic import Field, PositiveInt
from torch import nn

from ablate.components.shared.frames import AtrousConvs
from ablate.slots import Context, Padding, Settings


class Config(Settings):
    """`rates`: dilations of the 3 x 3 convolutions; IV-VAE's are for latents of 32 px and more. They pad with zeros.

    `attend_everywhere`: attention after every block of the coarsest level: 8 instead of 2 with two blocks per level.
    """

    rates: tuple[PositiveInt, ...] = Field((1, 3, 6, 9, 12), min_length=1)
    attend_everywhere: bool = True


def build(config: Config, padding: Padding) -> Context:
    def head(before: int, after: int) -> nn.Module:
        return AtrousConvs(before, after, config.rates)

    return Context(head, config.attend_everywhere)
