"""A 3 x 3 convolution, then a windowed-sinc low-pass filter before every other pixel is dropped.

The down-sampling of StyleGAN3 (Karras et al., "Alias-Free Generative Adversarial Networks", 2021, arXiv 2106.12423):
hardly any detail that the coarser grid cannot hold is left to alias. StyleGAN3's filtering around each non-linearity is
not part of this slot.
"""

from torch import Tensor, nn

from ablate.components.shared.layers import Conv2d
from ablate.components.shared.resample import half_band, halve
from ablate.slots import Padding, Settings


class Config(Settings):
    """No settings."""


def build(config: Config, channels: int, padding: Padding) -> nn.Module:
    return AliasFree(channels, padding)


class AliasFree(nn.Module):
    """`b c h w -> b c h/2 w/2`, odd sizes rounded up. Pads by up to 6 px, so reflection needs h and w of at least 7."""

    def __init__(self, channels: int, padding: Padding) -> None:
        super().__init__()
        self.pad = padding
        self.taps = half_band()
        self.conv = Conv2d(channels, channels, 3, padding)

    def forward(self, h: Tensor) -> Tensor:
        return halve(self.conv(h), self.taps, self.pad)
