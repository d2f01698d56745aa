"""Spatially conditional normalisation (Zheng et al., 2022): scale and shift come from the latent at the same position.

It is used in the decoder; the encoder, which has no latent yet, has plain group normalisation. Zheng et al., "MoVQ:
Modulating Quantized Vectors for High-Fidelity Image Generation", 2022 (arXiv 2209.09002).
VIVAT (arXiv 2506.07863, section 5.2) proposes it against droplets. Parameter names as in diffusers' `SpatialNorm`.
"""

from typing import Literal

import torch
from pydantic import PositiveInt
from torch import Tensor, nn

from ablate.components.shared.layers import GroupNorm
from ablate.slots import Settings, added


class Config(Settings):
    """`groups`: number of groups that the channels are split into; must divide the channels of every model level.

    `interp`: how scale and shift are resized from the latent to the features. MoVQ uses `nearest`: scale and shift are
    then constant over the cell of each latent pixel, so the norm itself can draw the edges of the cells.
    `init`: `identity` starts as plain group normalisation (scale 1, shift 0, whatever the latent); `default` draws both
    convolutions by torch's default rule, so that the initial scale is around 0 and proportional to the latent.
    """

    groups: PositiveInt = 32
    interp: Literal["nearest", "bilinear"] = added("nearest", absent_means="nearest")
    init: Literal["default", "identity"] = added("default", absent_means="default")


def build(config: Config, channels: int, latent_channels: int | None) -> nn.Module:
    """Module `forward(h, z)`; plain group normalisation where there is no latent (in the encoder).

    Raises ValueError when the channels do not divide into the groups.
    """
    if latent_channels is None:
        return GroupNorm(config.groups, channels)
    return SpatialNorm(config, channels, latent_channels)


class SpatialNorm(nn.Module):
    """GroupNorm(h) * S(z) + B(z), where S and B are 1 x 1 convolutions of the latent, resized to the features."""

    def __init__(self, config: Config, channels: int, latent_channels: int) -> None:
        super().__init__()
        identity = config.init == "identity"
        self.bilinear = config.interp == "bilinear"
        self.norm_layer = GroupNorm(config.groups, channels)
        self.conv_y = Modulation(latent_channels, channels, starts_at=1.0 if identity else None)
        self.conv_b = Modulation(latent_channels, channels, starts_at=0.0 if identity else None)

    def forward(self, h: Tensor, z: Tensor) -> Tensor:
        """Normalise features `b c h w` given the latent `b z h' w'`, where h' divides h and w' divides w."""
        # A 1 x 1 convolution commutes with a resize whose weights sum to 1, so the convolutions run at latent size.
        normed = self.norm_layer(h)
        scale = self.conv_y(z)
        shift = self.conv_b(z)
        if self.bilinear:
            blended: Tensor = normed * resize_bilinear(scale, *h.shape[2:]) + resize_bilinear(shift, *h.shape[2:])
            return blended
        # The nearest resize by a whole factor is a broadcast over the pixels of each cell: no full-size copy is made.
        rows, columns = z.shape[-2:]
        cells = normed.unflatten(3, (columns, -1)).unflatten(2, (rows, -1))  # b c h' f w' f
        out: Tensor = cells * scale[:, :, :, None, :, None] + shift[:, :, :, None, :, None]
        return out.reshape(h.shape)


class Modulation(nn.Conv2d):
    """1 x 1 convolution `b z h w -> b c h w`, initialised by torch's rule or, given `starts_at`, to that constant."""

    def __init__(self, latent_channels: int, channels: int, *, starts_at: float | None) -> None:
        self.starts_at = starts_at  # before the base class, which draws the weights
        super().__init__(latent_channels, channels, 1)

    def reset_parameters(self) -> None:
        if self.starts_at is None:
            super().reset_parameters()
            return
        assert self.bias is not None
        nn.init.zeros_(self.weight)
        nn.init.constant_(self.bias, self.starts_at)


def resize_bilinear(x: Tensor, height: int, width: int) -> Tensor:
    """Resize `b c h w` to `b c height width` as `F.interpolate` does without `align_corners`.

    A small matrix for each axis is used instead of `F.interpolate`, whose CUDA backward adds in no fixed order and
    refuses to run under `torch.use_deterministic_algorithms`.
    """
    return linear_weights(height, x.shape[2], like=x) @ x @ linear_weights(width, x.shape[3], like=x).T


def linear_weights(after: int, before: int, *, like: Tensor) -> Tensor:
    """Matrix `after before` of linear interpolation between pixel centres, constant beyond the outermost centres."""
    centres = (torch.arange(after, device=like.device) + 0.5) * (before / after) - 0.5
    distance = centres.clamp(0, before - 1)[:, None] - torch.arange(before, device=like.device)
    return (1 - distance.abs()).clamp(min=0).to(like.dtype)
