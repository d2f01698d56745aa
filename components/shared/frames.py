"""Layers of video models, shared by levels of several slots. Features are `b c t h w`; for `past` see `Past`."""

import torch
from torch import Tensor, nn

from ablate.components.shared.layers import Conv2d, pad_zeros, per_frame
from ablate.slots import Past, cat_frames, split_first


class FrameConv(Conv2d):
    """A 2D convolution applied to every frame."""

    def forward(self, x: Tensor, past: Past | None = None) -> Tensor:
        return per_frame(super().forward, x)


class HalveTime(nn.Conv3d):
    """Merges every two frames of a group by a convolution over time; the clip's first frame stays as it is."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels, (2, 1, 1), stride=(2, 1, 1))

    def forward(self, x: Tensor, past: Past | None = None) -> Tensor:
        first, rest = split_first(x, past)
        return cat_frames([first, super().forward(rest)]) if rest.shape[2] else first


class DoubleTime(nn.Conv3d):
    """Makes two frames of every frame of a group by a 1 x 1 convolution; the clip's first frame stays as it is."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, 2 * channels, 1)

    def forward(self, x: Tensor, past: Past | None = None) -> Tensor:
        first, rest = split_first(x, past)
        if not rest.shape[2]:
            return first
        pairs = super().forward(rest).unflatten(1, (2, -1))  # b 2 c t h w
        return cat_frames([first, pairs.permute(0, 2, 3, 1, 4, 5).flatten(2, 3)])


class TwinConv(nn.Module):
    """Two convolutions of all input channels, whose outputs are the two halves of the output channels."""

    def __init__(self, spatial: nn.Module, temporal: nn.Module) -> None:
        super().__init__()
        self.spatial = spatial
        self.temporal = temporal

    def forward(self, x: Tensor, past: Past | None = None) -> Tensor:
        return torch.cat([self.spatial(x, past), self.temporal(x, past)], 1)


class AtrousConvs(nn.Module):
    """Parallel 1 x 1 and dilated 3 x 3 convolutions of each frame, joined by a 1 x 1: `b i t h w -> b o t h w`."""

    def __init__(self, before: int, after: int, rates: tuple[int, ...]) -> None:
        super().__init__()
        self.rates = rates
        convs = [FrameConv(before, after, 1, pad_zeros)]
        for rate in rates:
            convs.append(FrameConv(before, after, 3, pad_zeros))
            convs[-1].padding = convs[-1].dilation = (rate, rate)
        self.convs = nn.ModuleList(convs)
        self.join = FrameConv(after * len(convs), after, 1, pad_zeros)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.join(torch.cat([conv(x) for conv in self.convs], 1))
        return out
