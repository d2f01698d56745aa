"""Sub-pixel convolution with equal initial phases (ICNR), so that it starts as a convolution and nearest doubling.

Aitken et al., "Checkerboard artifact free sub-pixel convolution", 2017 (arXiv 1707.02937). Only `project` keeps the
phases equal once training begins.
"""

import torch
from torch import Tensor, nn

from ablate.components.shared.layers import Conv2d
from ablate.components.shared.resample import pad_replicate
from ablate.slots import Padding, Settings, added


class Config(Settings):
    """`blur`: average each output with its neighbours above and to the left, that is, over one pixel of each phase.

    A constant picture then stays free of a grid whatever the weights (Sugawara et al., 2018, arXiv 1806.02658).
    `grid/polyphase` measures the convolution alone and does not include the blur, which repeats the border pixel.
    `project`: use the mean of the four phases' weights at every step. The phases then get equal gradients and stay
    equal, so the level remains what it is at the start: a convolution followed by nearest-neighbour doubling.
    """

    blur: bool = False
    project: bool = added(False, absent_means=False)


def build(config: Config, channels: int, padding: Padding) -> nn.Module:
    return SubPixelConv(config, channels, padding)


class SubPixelConv(nn.Module):
    """`b c h w -> b c 2h 2w`."""

    def __init__(self, config: Config, channels: int, padding: Padding) -> None:
        super().__init__()
        self.blur = config.blur
        self.conv = (ProjectedPhases if config.project else EqualPhases)(channels, 4 * channels, 3, padding)
        self.shuffle = nn.PixelShuffle(2)

    def forward(self, h: Tensor) -> Tensor:
        out: Tensor = self.shuffle(self.conv(h))
        if self.blur:  # averaged in pairs, so that sums of the same four numbers are equal to the last bit
            out = pad_replicate(out, (1, 0, 1, 0))
            out = (out[..., 1:] + out[..., :-1]) / 2
            out = (out[..., 1:, :] + out[..., :-1, :]) / 2
        return out


class EqualPhases(Conv2d):
    """Convolution before a pixel shuffle by 2, whose four output channels of a square start equal."""

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw what torch draws for a quarter of the outputs, then repeat each in the order of `nn.PixelShuffle`."""
        drawn = nn.Conv2d(self.in_channels, self.out_channels // 4, self.kernel_size[0])
        assert self.bias is not None
        assert drawn.bias is not None
        self.weight.copy_(drawn.weight.repeat_interleave(4, 0))
        self.bias.copy_(drawn.bias.repeat_interleave(4, 0))


class ProjectedPhases(EqualPhases):
    """An `EqualPhases` whose four output channels of a square stay equal: each uses the mean of their weights."""

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        assert bias is not None
        mean, offset = (part.unflatten(0, (-1, 4)).mean(1).repeat_interleave(4, 0) for part in (weight, bias))
        out: Tensor = super()._conv_forward(input, mean, offset)
        return out
