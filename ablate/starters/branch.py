"""How a video model's channels are divided: here not at all, all go through the temporal convolution.

Say here where the division comes from.
"""

from typing import ClassVar

from torch import Tensor, nn

from ablate.components.shared.frames import DoubleTime, FrameConv, HalveTime
from ablate.slots import Branch, BranchSettings, Padding, Past, TemporalConv


class Config(BranchSettings):
    """No settings."""

    halves: ClassVar = 1


def build(config: Config, temporal_conv: TemporalConv, padding: Padding) -> Branch:
    return Starter(temporal_conv, padding)


class Starter(Branch):
    """One half. Features are `b c t h w`."""

    halves = 1

    def __init__(self, temporal_conv: TemporalConv, padding: Padding) -> None:
        self.temporal_conv = temporal_conv
        self.padding = padding

    @property
    def half(self) -> Branch:
        """The branch of the image VAE that can fill each half."""
        return self

    def conv(self, before: int, after: int, group: int) -> nn.Module:
        """A convolution `forward(x, past)`; of pictures where a group is one frame."""
        return FrameConv(before, after, 3, self.padding) if group == 1 else self.temporal_conv(before, after, group)

    def halve_time(self, channels: int) -> nn.Module:
        return HalveTime(channels)

    def double_time(self, channels: int) -> nn.Module:
        return DoubleTime(channels)

    def moments(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of the encoder's last features."""
        mean, logvar = h.chunk(2, dim=1)
        return mean, logvar

    def frames(self, y: Tensor, group: int, past: Past | None) -> Tensor:
        """Frames of the decoder's last features."""
        return y
