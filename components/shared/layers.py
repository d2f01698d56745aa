"""Layers shared by levels of several slots. Parameters keep the names that `torch.nn` gives them."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ablate.slots import Padding


def pad_zeros(x: Tensor, pads: tuple[int, int, int, int]) -> Tensor:
    """Pad `b c h w` by (left, right, top, bottom) pixels with 0."""
    return F.pad(x, pads)


class Conv2d(nn.Conv2d):
    """Convolution that leaves the border to a padding level: `b i h w -> b o h' w'`.

    `pads` are (left, right, top, bottom) pixels; by default `kernel_size // 2` each, which keeps the size at stride 1.
    The padding is not in the state dict: the same weights load with any padding level. Zero padding by the default
    `pads` is left to `nn.Conv2d`, which gives the same numbers without a padded copy.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        padding: Padding,
        *,
        stride: int = 1,
        pads: tuple[int, int, int, int] | None = None,
        groups: int = 1,
    ) -> None:
        half = kernel_size // 2
        inside = padding is pad_zeros and pads is None
        super().__init__(
            in_channels, out_channels, kernel_size, stride=stride, padding=half if inside else 0, groups=groups
        )
        self.pad = None if inside else padding
        self.pads = (half, half, half, half) if pads is None else pads

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(self.pad(x, self.pads) if self.pad else x)


class Conv3d(nn.Conv3d):
    """Convolution over frames, `b i t h w -> b o t-k+1 h w`.

    A padding level pads the borders of the frames, as in `Conv2d`; the caller pads in time.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, padding: Padding) -> None:
        half = kernel_size // 2
        inside = half if padding is pad_zeros else 0
        super().__init__(in_channels, out_channels, kernel_size, padding=(0, inside, inside))
        self.pad = None if padding is pad_zeros else padding
        self.pads = (half, half, half, half)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(self.pad_space(x))

    def pad_space(self, x: Tensor) -> Tensor:
        """Pad the frames of `b c t h w`, unless the convolution itself does it."""
        pad = self.pad
        return x if pad is None else per_frame(lambda frames: pad(frames, self.pads), x)


def per_frame(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Apply a function of `b c h w` to every frame of `b c t h w`."""
    out: Tensor = function(pictures(x)).unflatten(0, (x.shape[0], x.shape[2])).transpose(1, 2)
    return out


def pictures(x: Tensor) -> Tensor:
    """The frames of `b c t h w` as a batch `(b t) c h w`."""
    return x.transpose(1, 2).flatten(0, 1)


class GroupNorm(nn.GroupNorm):
    """Group normalisation (Wu and He, 2018, arXiv 1803.08494) called as a norm level is; the latent is ignored.

    Raises ValueError when the channels do not divide into the groups.
    """

    def __init__(self, groups: int, channels: int) -> None:
        if channels % groups:
            raise ValueError(f"norm: {channels} channels do not divide into {groups} groups; set norm.groups")
        super().__init__(groups, channels, eps=1e-6)

    def forward(self, h: Tensor, z: Tensor | None = None) -> Tensor:
        return super().forward(h)


class RMSNorm(nn.Module):
    """x * sqrt(c) / |x| at each pixel, times a learned gain.

    Each of `halves` equal parts of the channels is normalised by itself, c being its number of channels. For `b c h w`
    and `b c t h w`; the latent is ignored.
    """

    def __init__(self, channels: int, halves: int) -> None:
        super().__init__()
        self.halves = halves
        self.weight = nn.Parameter(torch.empty(channels))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.ones_(self.weight)

    def forward(self, h: Tensor, z: Tensor | None = None) -> Tensor:
        parts = h.unflatten(1, (self.halves, -1))
        scaled = F.normalize(parts, dim=2).flatten(1, 2) * (h.shape[1] / self.halves) ** 0.5
        out: Tensor = scaled * self.weight.view(-1, *[1] * (h.dim() - 2))
        return out
