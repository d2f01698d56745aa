"""Layers that levels of several slots share. Parameters keep the names that `torch.nn` gives them."""

from torch import Tensor, nn
from torch.nn import functional as F

from ablate.slots import Padding


def pad_zeros(x: Tensor, pads: tuple[int, int, int, int]) -> Tensor:
    """Pad `b c h w` by (left, right, top, bottom) pixels of 0."""
    return F.pad(x, pads)


class Conv2d(nn.Conv2d):
    """Convolution that leaves the border to a padding level: `b i h w -> b o h' w'`.

    `pads` are (left, right, top, bottom) pixels; by default `kernel_size // 2` each, which keeps the size at stride 1.
    The padding is not in the state dict: the same weights load with any. Even zeros are left to the convolution itself,
    which gives the same numbers without a padded copy.
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
    ) -> None:
        half = kernel_size // 2
        inside = padding is pad_zeros and pads is None
        super().__init__(in_channels, out_channels, kernel_size, stride=stride, padding=half if inside else 0)
        self.pad = None if inside else padding
        self.pads = (half, half, half, half) if pads is None else pads

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(self.pad(x, self.pads) if self.pad else x)


class GroupNorm(nn.GroupNorm):
    """Group normalisation (Wu and He, 2018, arXiv 1803.08494) as a norm level calls it; the latent is not looked at.

    Raises ValueError when the channels do not divide into the groups.
    """

    def __init__(self, groups: int, channels: int) -> None:
        if channels % groups:
            raise ValueError(f"norm: {channels} channels do not divide into {groups} groups; set norm.groups")
        super().__init__(groups, channels, eps=1e-6)

    def forward(self, h: Tensor, z: Tensor | None = None) -> Tensor:
        return super().forward(h)
