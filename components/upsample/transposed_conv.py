"""A transposed convolution of stride 2, the classic source of checkerboards: the control that should draw a grid.

Dumoulin and Visin, "A guide to convolution arithmetic for deep learning", 2016 (arXiv 1603.07285); Odena et al.,
"Deconvolution and Checkerboard Artifacts", 2016 (Distill). Torch's own layer can pad with zeros only. Here one pixel is
added by the padding level and what it makes beyond the border is cut off: with zeros the same numbers as torch's.
"""

from typing import Literal

from torch import Tensor, nn

from ablate.slots import Padding, Settings


class Config(Settings):
    """`kernel`: 4 overlaps evenly (four weights meet at each output); 3 does not (one, two or four do)."""

    kernel: Literal[3, 4] = 4


def build(config: Config, channels: int, padding: Padding) -> nn.Module:
    return TransposedConv(config.kernel, channels, padding)


class TransposedConv(nn.Module):
    """`b c h w -> b c 2h 2w`."""

    def __init__(self, kernel: int, channels: int, padding: Padding) -> None:
        super().__init__()
        self.pad = padding
        # cuts 1 px, as is usual, and the 2 px that the pixel beyond the border would make
        self.conv = nn.ConvTranspose2d(channels, channels, kernel, stride=2, padding=1 + 2, output_padding=kernel % 2)

    def forward(self, h: Tensor) -> Tensor:
        out: Tensor = self.conv(self.pad(h, (1, 1, 1, 1)))
        return out
