"""Layers that levels of several slots share. Parameters keep the names that `torch.nn` gives them."""

from torch import Tensor, nn

from ablate.slots import Padding


class Conv2d(nn.Conv2d):
    """Convolution that leaves the border to a padding level: `b i h w -> b o h' w'`.

    `pads` are (left, right, top, bottom) pixels; by default `kernel_size // 2` each, which keeps the size at stride 1.
    The padding is not in the state dict: the same weights load with any.
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
        super().__init__(in_channels, out_channels, kernel_size, stride=stride)
        half = kernel_size // 2
        self.pad = padding
        self.pads = (half, half, half, half) if pads is None else pads

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(self.pad(x, self.pads))


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
