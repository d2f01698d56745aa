"""Keyframe-based temporal compression (KTC): a 2D half for the first frame of each group, a 3D half for the others.

Wu et al., "Improved Video VAE for Latent Video Diffusion Model", 2025 (IV-VAE, arXiv 2411.06449, section 3; figures 2b
and 2d). The convolutions of both halves read all channels; those of the 2D half look at one frame. Norms, attention and
resampling keep the halves apart. To resample in time, the 2D half keeps the first of two frames, or repeats a frame;
the 3D half convolves. Half of the latent's channels belong to the 2D half. Each half decodes three channels of every
frame, and for each frame the output of the half in charge of it is used. Both halves can therefore start as an image
VAE of half the width and half the latent channels.
"""

from typing import ClassVar

import torch
from torch import Tensor, nn

from ablate.components.branch.single import Single
from ablate.components.shared.frames import DoubleTime, FrameConv, HalveTime, TwinConv
from ablate.slots import Branch, BranchSettings, Padding, Past, TemporalConv, cat_frames, split_first


class Config(BranchSettings):
    """No settings."""

    halves: ClassVar = 2


def build(config: Config, temporal_conv: TemporalConv, padding: Padding) -> Branch:
    return Twin(temporal_conv, padding)


class Twin(Branch):
    """Two halves of the channels: 2D first, 3D second."""

    halves = 2

    def __init__(self, temporal_conv: TemporalConv, padding: Padding) -> None:
        self.temporal_conv = temporal_conv
        self.padding = padding

    @property
    def half(self) -> Branch:
        return Single(self.temporal_conv, self.padding)

    def conv(self, before: int, after: int, group: int) -> nn.Module:
        if group == 1:
            return FrameConv(before, after, 3, self.padding)
        spatial = FrameConv(before, after // 2, 3, self.padding)
        return TwinConv(spatial, self.temporal_conv(before, after // 2, group))

    def halve_time(self, channels: int) -> nn.Module:
        return TwinTime(KeepFirst(), HalveTime(channels // 2))

    def double_time(self, channels: int) -> nn.Module:
        return TwinTime(Repeat(), DoubleTime(channels // 2))

    def moments(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance from `b 2z t h w`: mean and log-variance of the 2D half, then those of the 3D half."""
        mean_2d, logvar_2d, mean_3d, logvar_3d = h.chunk(4, dim=1)
        return torch.cat([mean_2d, mean_3d], 1), torch.cat([logvar_2d, logvar_3d], 1)

    def frames(self, y: Tensor, group: int, past: Past | None) -> Tensor:
        """The clip's first frame and the first of each group come from the 2D half, the others from the 3D half."""
        first, rest = split_first(y, past)
        is_key = torch.arange(rest.shape[2], device=y.device) % group == 0
        key, others = rest.chunk(2, dim=1)
        return cat_frames([first[:, :3], torch.where(is_key[:, None, None], key, others)])


class TwinTime(nn.Module):
    """Changes the number of frames of each half of the channels by a module of its own."""

    def __init__(self, spatial: nn.Module, temporal: nn.Module) -> None:
        super().__init__()
        self.spatial = spatial
        self.temporal = temporal

    def forward(self, x: Tensor, past: Past | None = None) -> Tensor:
        half, other = x.chunk(2, dim=1)
        return torch.cat([self.spatial(half, past), self.temporal(other, past)], 1)


class KeepFirst(nn.Module):
    """Keeps the first of every two frames, and the clip's first frame."""

    def forward(self, x: Tensor, past: Past | None = None) -> Tensor:
        first, rest = split_first(x, past)
        return cat_frames([first, rest[:, :, ::2]])


class Repeat(nn.Module):
    """Doubles every frame except the clip's first."""

    def forward(self, x: Tensor, past: Past | None = None) -> Tensor:
        first, rest = split_first(x, past)
        return cat_frames([first, rest[:, :, :, None].expand(-1, -1, -1, 2, -1, -1).flatten(2, 3)])
