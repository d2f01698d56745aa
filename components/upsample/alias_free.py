"""Alias-free doubling (zero insertion and a windowed-sinc filter), then a 3 x 3 convolution.

The up-sampling of StyleGAN3 (Karras et al., "Alias-Free Generative Adversarial Networks", 2021, arXiv 2106.12423): the
spectral copies that zero insertion makes are damped, by 35 dB or more above 0.7 of the new band. StyleGAN3's filtering
around each non-linearity is not part of this slot.
"""

from torch import Tensor, nn

from ablate.components.shared.layers import Conv2d
from ablate.components.shared.resample import double, half_band
from ablate.slots import Padding, Settings


class Config(Settings):
    """No settings."""


def build(config: Config, channels: int, padding: Padding) -> nn.Module:
    return AliasFree(channels, padding)


class AliasFree(nn.Module):
    """`b c h w -> b c 2h 2w`. Pads by 3 px, so reflection needs h and w of at least 4."""

    def __init__(self, channels: int, padding: Padding) -> None:
        super().__init__()
        self.pad = padding
        self.taps = half_band()
        self.conv = Conv2d(channels, channels, 3, padding)

    def forward(self, h: Tensor) -> Tensor:
        out: Tensor = self.conv(double(h, self.taps, self.pad))
        return out
