"""Weights of a video model from an image VAE trained in the stage before; fresh ones where there is no such stage.

Wu et al., "Improved Video VAE for Latent Video Diffusion Model", 2025 (IV-VAE, arXiv 2411.06449, section 3): with two
halves an image VAE of half the width and half the latent channels fills both, and the new video model starts as an
image VAE of two frames of every group. Every convolution of a half reads its own half alone; across the halves weights
are 0. In a 3 x 3 x 3 convolution one tap holds the image's kernel, in time the 3D half keeps one frame of the group and
repeats it.

At step 0 then, in exact arithmetic, the 2D half draws the image VAE's reconstruction of each group's first frame for
all of its frames, and the 3D half that of the `key_frame`; a single branch draws the `key_frame` alone. This holds for
norm `rms`, and for the kernel `own`: elsewhere a frame sees others, which blurs it (Open-Sora-Plan's report on its
causal video VAE prefers `tail` for that reason).

A single branch of more latent channels than the image VAE has takes over those there are. The decoder does not see the
others at first, whose weights in it are 0, and the encoder's are fresh.
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
"""Convolutions of one half, by the last word of their names."""


MOMENTS = {"encoder.conv_out", "quant_conv"}
"""Convolutions whose channels are means and log-variances."""


class Config(InitSettings):
    """`kernel`: the tap of 3 x 3 x 3 convolutions that holds the image's kernel, by what it sees. `own`: the frame
    itself, which is the `centre` in grouped convolutions and the `tail` in causal ones. `average`: all, a third each.

    `key_frame`: of the frames of a group, which one the temporal resampling keeps, or the mean of their features.
    """

    inherits: ClassVar = True

    kernel: Literal["own", "centre", "tail", "average"] = "own"
    key_frame: Literal["F1", "F2", "F3", "F4", "average"] = "F3"

    def misfit(self, before: dict[str, Any], after: dict[str, Any]) -> str:
        """Why the image model of the stage before does not fill the video model; empty if it does."""
        image, video = before["model"].settings, after["model"].settings
        if not image.get("image", False) or video.get("image", True):
            return "it knows 'video_kl' alone, with model.image true in the stage before and false after it"
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
    """Fresh weights as `scratch` draws them; `inherit` then fills a video model in place."""

    def __init__(self, config: Config, seed_of: Callable[[str], int]) -> None:
        self.config = config
        self.fresh = scratch.build(scratch.Config(), seed_of)

    def __call__(self, net: nn.Module) -> None:
        self.fresh(net)

    @torch.no_grad()
    def inherit(self, vae: Any, image: Autoencoder) -> None:
        """Weights of `image` into those of `vae`; see `Config.misfit` for what fits."""
        halves, known = vae.branch.halves, dict(image.named_modules())
        time_steps = iter(self._time_steps(sum(isinstance(module, HalveTime) for module in vae.modules())))
        for name, module in vae.named_modules():
            stem, _, last = name.rpartition(".")
            source = known.get(stem if last in SIDES else name)
            if isinstance(module, HalveTime):
                _identity(module, next(time_steps))
            elif isinstance(module, DoubleTime):
                _identity(module, (1.0,))
            elif isinstance(module, AtrousConvs):
                plain = 1 + module.rates.index(1)
                self._fill(module.convs[plain], name, source, range(halves), halves)
                _route(module.join, plain)
            elif isinstance(module, nn.Conv2d | nn.Conv3d) and isinstance(source, nn.Conv2d):
                self._fill(module, name, source, SIDES.get(last, range(halves)), halves)
            elif source is None and ".attention" in name and last == "out":
                _clear(module)  # attention that the image VAE has not: its skip alone is left
            elif isinstance(module, GroupNorm | RMSNorm) and isinstance(source, GroupNorm | RMSNorm):
                for own, given in zip(module.parameters(), source.parameters(), strict=True):
                    own.copy_(given.repeat(len(own) // len(given)))

    def _time_steps(self, count: int) -> list[tuple[float, float]]:
        """The two taps of each halving of time, finest first: which of two frames is kept."""
        if self.config.key_frame == "average":
            return [(0.5, 0.5)] * count
        index = int(self.config.key_frame[1]) - 1
        return [(0.0, 1.0) if index >> level & 1 else (1.0, 0.0) for level in range(count)]

    def _fill(self, conv: Any, name: str, source: nn.Module | None, sides: Iterable[int], halves: int) -> None:
        """The source's kernel for each of these halves, reading that half alone. Channels that it lacks stay fresh."""
        assert isinstance(source, nn.Conv2d) and source.bias is not None
        kernel = self._in_time(source.weight, conv) if isinstance(conv, nn.Conv3d) else source.weight
        alone = name.rpartition(".")[2] in SIDES
        for side in sides:
            rows = _place(source.out_channels, conv.out_channels, 0 if alone else side, 1 if alone else halves, name)
            shared = conv.in_channels == source.in_channels or conv.groups > 1
            of = conv.weight.shape[1]
            columns = _place(source.in_channels, of, 0 if shared else side, 1 if shared else halves, name)
            conv.weight[rows] = 0.0
            conv.weight[rows[:, None], columns] = kernel
            conv.bias[rows] = source.bias

    def _in_time(self, kernel: Tensor, conv: Any) -> Tensor:
        """A kernel `o i k k` in the taps of one in time as well, `o i 3 k k`."""
        if self.config.kernel == "average":
            return kernel[:, :, None].expand(-1, -1, 3, -1, -1) / 3
        tap = {"own": conv.inherits_at, "centre": 1, "tail": 2}[self.config.kernel]
        return torch.stack([kernel if t == tap else torch.zeros_like(kernel) for t in range(3)], 2)


def _place(count: int, of: int, side: int, halves: int, name: str) -> Tensor:
    """Where `count` channels come to lie among a half's, of `of` in all. Means come first, then as many variances."""
    each = of // halves
    found = torch.arange(count)
    if count < each and name in MOMENTS:
        found[count // 2 :] += (each - count) // 2
    return found + side * each


def _identity(conv: nn.Conv3d, taps: tuple[float, ...]) -> None:
    """Each channel from its own alone, by these taps in time; what comes out twice as many channels is a copy."""
    channels = conv.in_channels
    _clear(conv)
    for t, tap in enumerate(taps):
        conv.weight[:, :, t, 0, 0] = tap * torch.eye(channels).repeat(conv.out_channels // channels, 1)


def _route(join: nn.Conv2d, index: int) -> None:
    """Let one of the convolutions side by side through, as it is."""
    channels = join.out_channels
    _clear(join)
    join.weight[:, index * channels : (index + 1) * channels, 0, 0] = torch.eye(channels)


def _clear(module: nn.Module) -> None:
    for parameter in module.parameters():
        parameter.zero_()
