"""Transposed convolution of stride 2, the classic source of checkerboard artifacts: a control that should draw a grid.

Dumoulin and Visin, "A guide to convolution arithmetic for deep learning", 2016 (arXiv 1603.07285); Odena et al.,
"Deconvolution and Checkerboard Artifacts", 2016 (Distill). Torch's own layer can only pad with zeros. Here the padding
level adds one pixel, and the extra outputs beyond the border are cut off: with zeros this gives torch's numbers.
"""

from typing import Literal

from torch import Tensor, nn

from ablate.slots import Padding, Settings


class Config(Settings):
    """`kernel`: its side. 4 overlaps evenly (four weights reach each output); 3 does not (one, two or four do)."""

    kernel: Literal[3, 4] = 4


def build(config: Config, channels: int, padding: Padding) -> nn.Module:
    return TransposedConv(config.kernel, channels, padding)


class TransposedConv(nn.Module):
    """`b c h w -> b c 2h 2w`."""

    def __init__(self, kernel: int, channels: int, padding: Padding) -> None:
        super().__init__()
        self.pad = padding
        # `padding` cuts 1 px, as usual, and the 2 px that come from the pixel beyond the border
        self.conv = nn.ConvTranspose2d(channels, channels, kernel, stride=2, padding=1 + 2, output_padding=kernel % 2)

    def forward(self, h: Tensor) -> Tensor:
        out: Tensor = self.conv(self.pad(h, (1, 1, 1, 1)))
        return out
