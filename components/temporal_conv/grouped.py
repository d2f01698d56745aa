"""Grouped causal 3 x 3 x 3 convolution (GCConv): a frame sees the one before it, and the next one of its own group.

Wu et al., "Improved Video VAE for Latent Video Diffusion Model", 2025 (IV-VAE, arXiv 2411.06449, section 3; figure 2a).
y_t = W0 x_(t-1) + W1 x_t + W2 x_(t+1), where the frame after a group's last one is zero, so that no group sees a later
one. The clip's first frame is a group by itself and its own predecessor: its kernel is W0 + W1.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ablate.components.shared.layers import Conv3d
from ablate.slots import Padding, Past, Settings, cat_frames, split_first


class Config(Settings):
    """No settings."""


def build(config: Config, before: int, after: int, group: int, padding: Padding) -> nn.Module:
    return GroupedConv(before, after, group, padding)


class GroupedConv(Conv3d):
    """`b i t h w -> b o t h w`. Keeps one frame between chunks. `group`: frames of a group at this level."""

    inherits_at = 1  # the tap that sees the frame itself

    def __init__(self, before: int, after: int, group: int, padding: Padding) -> None:
        super().__init__(before, after, 3, padding)
        self.group = group

    def forward(self, x: Tensor, past: Past | None = None) -> Tensor:
        first, rest = split_first(x, past)
        before = past.recall(self) if past is not None and past.begun else first
        if past is not None:
            past.keep(self, x[:, :, -1:])
        parts = [self._still(first)] if first.shape[2] else []
        return cat_frames([*parts, self._groups(rest, before)] if rest.shape[2] else parts)

    def _still(self, x: Tensor) -> Tensor:
        """Convolve the clip's first frame, `b i 1 h w`."""
        kernel = self.weight[:, :, 0] + self.weight[:, :, 1]
        return F.conv2d(self.pad_space(x).squeeze(2), kernel, self.bias, padding=self.padding[1:]).unsqueeze(2)

    def _groups(self, x: Tensor, before: Tensor) -> Tensor:
        """Convolve all groups at once, as a batch of clips: the frame before, the group, a frame of zeros."""
        groups = x.unflatten(2, (-1, self.group)).transpose(1, 2)  # b n i g h w
        last = torch.cat([before.transpose(1, 2)[:, :, :, None], groups[:, :-1, :, -1:]], 1)
        windows = torch.cat([last, groups, torch.zeros_like(last)], 3)
        y: Tensor = super().forward(windows.flatten(0, 1)).unflatten(0, windows.shape[:2])
        return y.transpose(1, 2).flatten(2, 3)
