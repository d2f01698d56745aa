"""One branch: all channels go through temporal convolutions, as in causal video VAEs before IV-VAE."""

from typing import ClassVar

from torch import Tensor, nn

from ablate.components.shared.frames import DoubleTime, FrameConv, HalveTime
from ablate.slots import Branch, BranchSettings, Padding, Past, TemporalConv


class Config(BranchSettings):
    """No settings."""

    halves: ClassVar = 1


def build(config: Config, temporal_conv: TemporalConv, padding: Padding) -> Branch:
    return Single(temporal_conv, padding)


class Single(Branch):
    """A branch that is not split: all channels go through one temporal convolution."""

    halves = 1

    def __init__(self, temporal_conv: TemporalConv, padding: Padding) -> None:
        self.temporal_conv = temporal_conv
        self.padding = padding

    @property
    def half(self) -> Branch:
        return self

    def conv(self, before: int, after: int, group: int) -> nn.Module:
        return FrameConv(before, after, 3, self.padding) if group == 1 else self.temporal_conv(before, after, group)

    def halve_time(self, channels: int) -> nn.Module:
        return HalveTime(channels)

    def double_time(self, channels: int) -> nn.Module:
        return DoubleTime(channels)

    def moments(self, h: Tensor) -> tuple[Tensor, Tensor]:
        mean, logvar = h.chunk(2, dim=1)
        return mean, logvar

    def frames(self, y: Tensor, group: int, past: Past | None) -> Tensor:
        return y
