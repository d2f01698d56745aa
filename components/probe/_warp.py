"""Clips along a motion: frames sampled along it, and how much changes."""

import torch
import torch.nn.functional as F
from torch import Tensor


def warp(frame: Tensor, flow: Tensor) -> Tensor:
    """Sample `n c h w` bilinearly at the positions that `flow` `n 2 h w` points to, in px across and down."""
    size = flow.new_tensor([frame.shape[-1] - 1, frame.shape[-2] - 1])
    across, down = (torch.arange(length, device=flow.device, dtype=flow.dtype) for length in frame.shape[:-3:-1])
    here = torch.stack([across.expand(len(down), -1), down[:, None].expand(-1, len(across))], -1)
    grid = (here + flow.permute(0, 2, 3, 1)) / size * 2 - 1
    return F.grid_sample(frame, grid, mode="bilinear", padding_mode="border", align_corners=True)


def change_along(clips: Tensor, flow: Tensor, visible: Tensor) -> Tensor:
    """Mean squared change of `n c t h w` along the motion, over visible pixels, from the second frame on: `n`.

    NaN for a clip without a visible pixel.
    """
    total = clips.new_zeros(len(clips))
    count = clips.new_zeros(len(clips))
    for frame in range(2, clips.shape[2]):
        change = clips[:, :, frame] - warp(clips[:, :, frame - 1], flow[:, :, frame - 1])
        seen = visible[:, frame - 1]
        total += torch.where(seen, change.square().mean(1), 0).sum((1, 2))
        count += seen.sum((1, 2))
    return total / count
