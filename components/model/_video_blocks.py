"""Blocks of video autoencoders. Features are `b c t h w`; `group` is the frames per group at the block's level."""

from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F

from ablate.components.shared.frames import FrameConv
from ablate.components.shared.layers import pad_zeros, per_frame
from ablate.slots import Past, VideoLayers


class ResBlock(nn.Module):
    """h + conv(silu(norm(conv(silu(norm(h)))))), with a 1 x 1 convolution of h where the number of channels changes."""

    def __init__(self, before: int, after: int, group: int, parts: VideoLayers) -> None:
        super().__init__()
        halves = parts.branch.halves
        self.norm1 = parts.norm(before, halves)
        self.conv1 = parts.branch.conv(before, after, group)
        self.norm2 = parts.norm(after, halves)
        self.conv2 = parts.branch.conv(after, after, group)
        self.shortcut = nn.Identity() if before == after else FrameConv(before, after, 1, pad_zeros)

    def forward(self, h: Tensor, past: Past | None) -> Tensor:
        inner = self.conv1(F.silu(self.norm1(h)), past)
        inner = self.conv2(F.silu(self.norm2(inner)), past)
        out: Tensor = self.shortcut(h) + inner
        return out


class Attention(nn.Module):
    """Self-attention over the pixels of each frame, with a skip; one head per half keeps the halves apart."""

    def __init__(self, channels: int, parts: VideoLayers) -> None:
        super().__init__()
        self.halves = parts.branch.halves
        self.norm = parts.norm(channels, self.halves)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1, groups=self.halves)
        self.out = nn.Conv2d(channels, channels, 1, groups=self.halves)

    def forward(self, h: Tensor) -> Tensor:
        return h + per_frame(self._mix, self.norm(h))

    def _mix(self, x: Tensor) -> Tensor:
        heads = self.qkv(x).flatten(2).unflatten(1, (self.halves, 3, -1))  # bt halves 3 c/halves (h w)
        query, key, value = heads.transpose(-1, -2).unbind(2)
        mixed = F.scaled_dot_product_attention(query, key, value)
        out: Tensor = self.out(mixed.transpose(-1, -2).reshape(x.shape))
        return out


class Level(nn.Module):
    """Residual blocks of one size, each followed by attention if `attend`."""

    def __init__(self, widths: list[int], group: int, parts: VideoLayers, *, attend: bool) -> None:
        """`widths`: channels of the input, then of each block's output."""
        super().__init__()
        self.resnets = nn.ModuleList(ResBlock(before, after, group, parts) for before, after in pairwise(widths))
        self.attentions = nn.ModuleList(Attention(width, parts) for width in widths[1:]) if attend else None

    def forward(self, h: Tensor, past: Past | None) -> Tensor:
        for i, resnet in enumerate(self.resnets):
            h = resnet(h, past)
            h = self.attentions[i](h) if self.attentions is not None else h
        return h


class Middle(nn.Module):
    """The coarsest level: a residual block, attention, a residual block, frame by frame."""

    def __init__(self, channels: int, parts: VideoLayers) -> None:
        super().__init__()
        self.resnets = nn.ModuleList(ResBlock(channels, channels, 1, parts) for _ in range(2))
        self.attention = Attention(channels, parts)

    def forward(self, h: Tensor, past: Past | None) -> Tensor:
        first, second = self.resnets
        out: Tensor = second(self.attention(first(h, past)), past)
        return out


class Down(nn.Module):
    """Halves the size of frames by a 3 x 3 convolution padded right and below; if `time`, then halves their number."""

    def __init__(self, channels: int, parts: VideoLayers, *, time: bool) -> None:
        super().__init__()
        pads = (0, 1, 0, 1)
        self.space = FrameConv(channels, channels, 3, parts.padding, stride=2, pads=pads, groups=parts.branch.halves)
        self.time = parts.branch.halve_time(channels) if time else None

    def forward(self, h: Tensor, past: Past | None) -> Tensor:
        h = self.space(h)
        out: Tensor = h if self.time is None else self.time(h, past)
        return out


class Up(nn.Module):
    """Doubles the number of frames if `time`; then their size, by repeated pixels and a 3 x 3 convolution."""

    def __init__(self, before: int, after: int, parts: VideoLayers, *, time: bool) -> None:
        super().__init__()
        self.time = parts.branch.double_time(before) if time else None
        self.space = FrameConv(before, after, 3, parts.padding, groups=parts.branch.halves)

    def forward(self, h: Tensor, past: Past | None) -> Tensor:
        h = h if self.time is None else self.time(h, past)
        out: Tensor = self.space(F.interpolate(h, scale_factor=(1.0, 2.0, 2.0), mode="nearest"))
        return out
