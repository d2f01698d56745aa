"""Weights of a video model inflated from the image VAE of the previous stage; fresh weights if there is none.

Wu et al., "Improved Video VAE for Latent Video Diffusion Model", 2025 (IV-VAE, arXiv 2411.06449, section 3): in a model
of two halves, an image VAE of half the width and half the latent channels fills both, and the new video model starts as
an image VAE of two frames of every group. Every convolution of a half reads only its own half; weights across the
halves are 0. In a 3 x 3 x 3 convolution one tap holds the image VAE's kernel. To resample in time, the 3D half keeps
one frame of the group and repeats it.

At step 0, in exact arithmetic, the 2D half therefore decodes the image VAE's reconstruction of each group's first frame
for all of its frames, and the 3D half that of the `key_frame`; a single branch decodes the `key_frame` only. This holds
for norm `rms` and kernel `own`: with others a frame sees other frames, which blurs it (Open-Sora-Plan's report on its
causal video VAE prefers `tail` for that reason).

A single branch with more latent channels than the image VAE inherits those that the image VAE has. For the other
channels the decoder's weights start at 0, so it does not see them at first, and the encoder's weights are fresh.
"""

from collections.abc import Callable, Iterable
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from ablate.components.init import scratch
from ablate.components.shared.frames import AtrousConvs, DoubleTime, HalveTime
from ablate.components.shared.layers import GroupNorm, RMSNorm
from ablate.slots import Autoencoder, InitSettings

SIDES = {"spatial": (0,), "temporal": (1,)}
"""The half that a convolution of one half belongs to, by the last part of its name."""


MOMENTS = {"encoder.conv_out", "quant_conv"}
"""Convolutions whose channels are means and log-variances."""


class Config(InitSettings):
    """`kernel`: the tap of 3 x 3 x 3 convolutions that holds the image VAE's kernel. `own`: the tap that sees the frame
    itself, which is the `centre` in grouped convolutions and the `tail` in causal ones. `average`: all, a third each.

    `key_frame`: the frame of a group that the temporal resampling keeps, or the mean of their features.
    """

    inherits: ClassVar = True

    kernel: Literal["own", "centre", "tail", "average"] = "own"
    key_frame: Literal["F1", "F2", "F3", "F4", "average"] = "F3"

    def misfit(self, before: dict[str, Any], after: dict[str, Any]) -> str:
        """Why the image VAE's weights cannot fill the video model's; empty if they can."""
        image = before["model"].settings
        video = after["model"].settings
        if not image.get("image", False) or video.get("image", True):
            return "it supports only 'video_kl', with model.image true in the stage before and false after it"
        if before["context"].level != "none" or 1 not in after["context"].settings.get("rates", (1,)):
            return "it needs context 'none' in the image VAE, and rate 1 among those of 'tmpe'"
        for slot in ("branch", "norm"):
            if before[slot].level != after[slot].level:
                return f"{slot} is '{before[slot].level}' in the image VAE and '{after[slot].level}' after it"
        for name in ("channels", "width", "blocks", "up_reduce"):
            if getattr(image, name) != getattr(video, name):
                return f"{name} differs: {getattr(image, name)} in the image VAE, {getattr(video, name)} after it"
        least = video.latent_channels if after["branch"].settings.halves > 1 else 1
        if not least <= image.latent_channels <= video.latent_channels:
            return f"latent_channels is {image.latent_channels} in the image VAE and {video.latent_channels} after it"
        if self.key_frame in {"F3", "F4"} and video.groups < 4:
            return f"groups of {video.groups} frames have no {self.key_frame}"
        return ""


def build(config: Config, seed_of: Callable[[str], int]) -> "Inflation":
    return Inflation(config, seed_of)


class Inflation:
    """Draws fresh weights as `scratch` does; `inherit` then fills a video model in place."""

    def __init__(self, config: Config, seed_of: Callable[[str], int]) -> None:
        self.config = config
        self.fresh = scratch.build(scratch.Config(), seed_of)

    def __call__(self, net: nn.Module) -> None:
        self.fresh(net)

    @torch.no_grad()
    def inherit(self, vae: Any, image: Autoencoder) -> None:
        """Copy the weights of `image` into `vae`; `Config.misfit` says which models fit."""
        halves = vae.branch.halves
        sources = dict(image.named_modules())
        time_steps = iter(self._time_steps(sum(isinstance(module, HalveTime) for module in vae.modules())))
        for name, module in vae.named_modules():
            stem, _, last = name.rpartition(".")
            source = sources.get(stem if last in SIDES else name)
            # layers that the image VAE lacks start as the identity, or pass one of their inputs through
            if isinstance(module, HalveTime):
                _identity(module, next(time_steps))
            elif isinstance(module, DoubleTime):
                _identity(module, (1.0,))
            elif isinstance(module, AtrousConvs):
                plain = 1 + module.rates.index(1)
                self._fill(module.convs[plain], name, source, range(halves), halves)
                _route(module.join, plain)
            # layers that it has are copied into each half
            elif isinstance(module, nn.Conv2d | nn.Conv3d) and isinstance(source, nn.Conv2d):
                self._fill(module, name, source, SIDES.get(last, range(halves)), halves)
            elif source is None and ".attention" in name and last == "out":
                _clear(module)  # attention that the image VAE lacks: only its skip is left
            elif isinstance(module, GroupNorm | RMSNorm) and isinstance(source, GroupNorm | RMSNorm):
                for own, given in zip(module.parameters(), source.parameters(), strict=True):
                    own.copy_(given.repeat(len(own) // len(given)))

    def _time_steps(self, count: int) -> list[tuple[float, float]]:
        """The two taps of each halving of time, finest first; they select which of two frames is kept."""
        if self.config.key_frame == "average":
            return [(0.5, 0.5)] * count
        index = int(self.config.key_frame[1]) - 1
        return [(0.0, 1.0) if index >> level & 1 else (1.0, 0.0) for level in range(count)]

    def _fill(self, conv: Any, name: str, source: nn.Module | None, sides: Iterable[int], halves: int) -> None:
        """Copy the source's kernel into the halves `sides`, each reading only itself. Other channels stay fresh."""
        assert isinstance(source, nn.Conv2d) and source.bias is not None
        kernel = self._in_time(source.weight, conv) if isinstance(conv, nn.Conv3d) else source.weight
        one_half = name.rpartition(".")[2] in SIDES  # its output channels are those of one half
        # all halves read the same inputs, or the weights of a grouped convolution hold the inputs of one half only
        shared = conv.in_channels == source.in_channels or conv.groups > 1
        for side in sides:
            rows = _channel_indices(
                source.out_channels, conv.out_channels, 0 if one_half else side, 1 if one_half else halves, name
            )
            inputs = conv.weight.shape[1]
            columns = _channel_indices(source.in_channels, inputs, 0 if shared else side, 1 if shared else halves, name)
            conv.weight[rows] = 0.0
            conv.weight[rows[:, None], columns] = kernel
            conv.bias[rows] = source.bias

    def _in_time(self, kernel: Tensor, conv: Any) -> Tensor:
        """Extend a kernel `o i k k` in time to `o i 3 k k`."""
        if self.config.kernel == "average":
            return kernel[:, :, None].expand(-1, -1, 3, -1, -1) / 3
        tap = {"own": conv.inherits_at, "centre": 1, "tail": 2}[self.config.kernel]
        return torch.stack([kernel if t == tap else torch.zeros_like(kernel) for t in range(3)], 2)


def _channel_indices(count: int, of: int, side: int, halves: int, name: str) -> Tensor:
    """Indices of `count` channels within half `side` of `of` channels.

    In the convolutions of `MOMENTS` a half holds means first, then as many log-variances.
    """
    each = of // halves
    indices = torch.arange(count)
    if count < each and name in MOMENTS:
        indices[count // 2 :] += (each - count) // 2
    return indices + side * each


def _identity(conv: nn.Conv3d, taps: tuple[float, ...]) -> None:
    """Make each channel depend only on itself, by these taps in time; twice as many output channels repeat them."""
    channels = conv.in_channels
    _clear(conv)
    for t, tap in enumerate(taps):
        conv.weight[:, :, t, 0, 0] = tap * torch.eye(channels).repeat(conv.out_channels // channels, 1)


def _route(join: nn.Conv2d, index: int) -> None:
    """Pass one of the parallel convolutions through unchanged."""
    channels = join.out_channels
    _clear(join)
    join.weight[:, index * channels : (index + 1) * channels, 0, 0] = torch.eye(channels)


def _clear(module: nn.Module) -> None:
    for parameter in module.parameters():
        parameter.zero_()
