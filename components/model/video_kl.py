"""Convolutional video autoencoder with a Gaussian posterior; its slots make it a causal video VAE or IV-VAE.

Wu et al., "Improved Video VAE for Latent Video Diffusion Model", 2025 (IV-VAE, arXiv 2411.06449), as in the authors'
released model. `temporal_conv: causal`, `branch: single`, `context: none` is a causal video VAE; `grouped`, `ktc` and
`tmpe` are the paper's three changes. Resampling is the same in all of them and never looks across a group's border:
frames are reduced in space, then in time, and enlarged in the opposite order. Levels whose groups are a single frame,
including the latent's level, are 2D, whatever the slots hold. The authors' baseline, reported to have 127 million
parameters, may have had 3D convolutions there.

With channels 128-256-512-512, 4 latent channels, two blocks and all three changes it has the 107.2 million parameters
of IV-VAE. The slots `upsample` and `downsample` have no effect here, whatever their level.

An earlier stage may train the `image` VAE that `init: inflate` fills each half with; everything in it is 2D.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import pairwise
from typing import ClassVar, Literal, Self

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from ablate.components.model._video_blocks import Attention, Down, Level, Middle, Up
from ablate.components.shared.frames import FrameConv
from ablate.components.shared.layers import GroupNorm, pad_zeros
from ablate.slots import LOGVAR_RANGE, Autoencoder, ModelSettings, Past, Posterior, VideoLayers, added, group_of


class Config(ModelSettings):
    """`channels`: width of each level, both halves together, finest first; the size halves between levels.

    `halve_time`: at how many of these halvings, counted from the coarsest, the number of frames halves too; a group is
    2^halve_time frames. `latent_channels`: of both halves together. `blocks`: residual blocks at each level of the
    encoder; the decoder has one more. `up_reduce`: where the decoder halves its channels, in the convolution of an
    up-sampling (IV-VAE, which saves memory) or in the residual block after it (latent diffusion). `image`: build the
    image VAE that can fill each half of this model, with one half's share of all channels and no reduction in time.
    `width`: factor on all `channels`, rounded to the multiples that the halves need, for treatments with equal numbers
    of parameters.
    """

    temporal: ClassVar = True
    norms: ClassVar = ("rms", "rms_joint", "group")

    channels: tuple[PositiveInt, ...] = Field(min_length=1, max_length=6)
    latent_channels: PositiveInt = 16
    halve_time: NonNegativeInt = 2
    blocks: PositiveInt = 2
    up_reduce: Literal["upsample", "resblock"] = "upsample"
    image: bool = False
    width: PositiveFloat = added(1.0, absent_means=1.0)

    @model_validator(mode="after")
    def _check_levels(self) -> Self:
        if self.halve_time >= len(self.channels):
            raise ValueError(f"halve_time is {self.halve_time}, but the size halves {len(self.channels) - 1} times")
        return self

    @property
    def stride(self) -> int:
        return 1 << (len(self.channels) - 1)

    @property
    def groups(self) -> int:
        """Frames per group. Clips have 1 + groups * k frames."""
        return 1 if self.image else 1 << self.halve_time

    def multiples(self, halves: int) -> dict[str, int]:
        return {"channels": 2 * halves, "latent_channels": halves}

    @property
    def levels(self) -> list[int]:
        """Frames per group at each level, finest first."""
        return [min(self.groups, 1 << level) for level in range(len(self.channels))][::-1]


def build(config: Config, encoder: VideoLayers, decoder: VideoLayers) -> Autoencoder:
    """Raises ValueError if channels do not divide into the halves of the branch."""
    halves = encoder.branch.halves
    # apply `width`, then check that everything divides into the halves
    config = config.model_copy(
        update={"channels": tuple(_scaled(one, config.width, 2 * halves) for one in config.channels)}
    )
    for name, number, multiple in (
        *(("channels", width, 2 * halves) for width in config.channels),
        ("latent_channels", config.latent_channels, halves),
    ):
        if number % multiple:
            raise ValueError(f"model.{name}: {number} is not a multiple of {multiple}, which {halves} halves need")
    if config.image:  # one half by itself
        share = {"channels": tuple(width // halves for width in config.channels)}
        config = config.model_copy(update={**share, "latent_channels": config.latent_channels // halves})
        encoder, decoder = (replace(parts, branch=parts.branch.half) for parts in (encoder, decoder))
    return VideoKL(config, encoder, decoder)


def _scaled(channels: int, width: float, multiple: int) -> int:
    return channels if width == 1 else max(1, round(channels * width / multiple)) * multiple


class VideoKL(Autoencoder):
    temporal = True

    def __init__(self, config: Config, encoder: VideoLayers, decoder: VideoLayers) -> None:
        super().__init__()
        z = config.latent_channels
        self.stride = config.stride
        self.groups = config.groups
        self.latent_channels = z
        self.branch = encoder.branch
        self.encoder = Encoder(config, encoder)
        self.quant_conv = FrameConv(2 * z, 2 * z, 1, pad_zeros)
        self.post_quant_conv = FrameConv(z, z, 1, pad_zeros)
        self.decoder = Decoder(config, decoder)

    @property
    def decoder_blocks(self) -> list[nn.Module]:
        return [self.decoder.middle, *self.decoder.levels]

    @property
    def encoding_parts(self) -> list[nn.Module]:
        return [self.encoder, self.quant_conv]

    @property
    def last_weight(self) -> Tensor:
        return next(parameter for parameter in self.decoder.conv_out.parameters() if parameter.dim() > 1)

    def encode(self, x: Tensor) -> Posterior:
        """Encode clips `b 3 t h w` in [-1, 1] to the posterior over latents `b z 1+(t-1)/g h/f w/f`, g being `groups`.

        Pictures `b 3 h w` are taken as clips of one frame; their latents are `b z h/f w/f`. Raises ValueError when h or
        w is not a multiple of the stride f, or t is not 1 + g k.
        """
        height, width = x.shape[-2:]
        if height % self.stride or width % self.stride:
            raise ValueError(f"model: {height} x {width} (h x w) is not a multiple of the stride {self.stride}")
        if x.dim() == 4:
            posterior = self._encode(x[:, :, None], None)
            return Posterior(posterior.mean.squeeze(2), posterior.logvar.squeeze(2))
        group_of(x.shape[2], self.groups)
        return self._encode(x, None)

    def decode(self, z: Tensor) -> Tensor:
        """Decode latents `b z t h w` to clips `b 3 1+(t-1)g hf wf` in about [-1, 1], or `b z h w` to pictures.

        The result is not clamped.
        """
        return self._decode(z[:, :, None], None).squeeze(2) if z.dim() == 4 else self._decode(z, None)

    def encode_chunks(self, chunks: Iterable[Tensor]) -> Iterator[Posterior]:
        """The posterior of each chunk of a clip, equal to that part of the whole clip's, in the memory of one chunk.

        The first chunk, `b 3 t h w`, is the clip's first frame and any number of whole groups; every other chunk is
        whole groups. Raises ValueError if a norm takes statistics over all frames, which no chunk holds.
        """
        past = self._chunked()
        for x in chunks:
            group_of(x.shape[2] + past.begun, self.groups)
            yield self._encode(x, past)
            past.begun = True

    def decode_chunks(self, latents: Iterable[Tensor]) -> Iterator[Tensor]:
        """The frames of each chunk of one or more latent frames. Raises as `encode_chunks` does."""
        past = self._chunked()
        for z in latents:
            yield self._decode(z, past)
            past.begun = True

    def _chunked(self) -> Past:
        """The state that is carried from chunk to chunk, empty. Raises ValueError as `encode_chunks` does."""
        if any(isinstance(module, GroupNorm) for module in self.modules()):
            raise ValueError(
                "model: clips cannot be cut into chunks with norm 'group', whose statistics are over all frames of a "
                "clip: a chunk would be normalised by its own statistics, with another result; use norm 'rms'"
            )
        return Past()

    def _encode(self, x: Tensor, past: Past | None) -> Posterior:
        mean, logvar = self.branch.moments(self.quant_conv(self.encoder(x, past)))
        return Posterior(mean, logvar.clamp(*LOGVAR_RANGE))

    def _decode(self, z: Tensor, past: Past | None) -> Tensor:
        return self.branch.frames(self.decoder(self.post_quant_conv(z), past), self.groups, past)


class Encoder(nn.Module):
    """`b 3 t h w` to `b 2z t' h/f w/f`, all but the last 1 x 1 convolution."""

    def __init__(self, config: Config, parts: VideoLayers) -> None:
        super().__init__()
        channels = config.channels
        halves = parts.branch.halves
        attend_everywhere = parts.context.attend_everywhere
        self.conv_in = parts.branch.conv(3, channels[0], config.groups)
        self.levels = nn.ModuleList()
        # time halves where a group has fewer frames at the next level
        self.downs = nn.ModuleList(
            Down(width, parts, time=fine > coarse)
            for width, (fine, coarse) in zip(channels[:-1], pairwise(config.levels), strict=True)
        )
        before = channels[0]
        for i, (width, group) in enumerate(zip(channels, config.levels, strict=True)):
            attend = attend_everywhere and i == len(channels) - 1
            self.levels.append(Level([before] + [width] * config.blocks, group, parts, attend=attend))
            before = width
        self.attention = Attention(channels[-2], parts) if attend_everywhere and len(channels) > 1 else None
        self.middle = Middle(channels[-1], parts)
        self.norm_out = parts.norm(channels[-1], halves)
        self.conv_out = parts.context.head(channels[-1], 2 * config.latent_channels)

    def forward(self, x: Tensor, past: Past | None) -> Tensor:
        h = self.levels[0](self.conv_in(x, past), past)
        for down, level in zip(self.downs, self.levels[1:], strict=True):
            h = down(h, past)
            if level is self.levels[-1] and self.attention is not None:
                h = self.attention(h)
            h = level(h, past)
        out: Tensor = self.conv_out(F.silu(self.norm_out(self.middle(h, past))))
        return out


class Decoder(nn.Module):
    """`b z t' h/f w/f` to `b 3*halves t h w`."""

    def __init__(self, config: Config, parts: VideoLayers) -> None:
        super().__init__()
        channels = config.channels[::-1]
        halves = parts.branch.halves
        self.conv_in = FrameConv(config.latent_channels, channels[0], 3, parts.padding)
        self.middle = Middle(channels[0], parts)
        self.levels = nn.ModuleList()
        self.ups = nn.ModuleList()
        before = channels[0]
        levels = config.levels[::-1]
        for i, (width, group) in enumerate(zip(channels, levels, strict=True)):
            attend = parts.context.attend_everywhere and i == 0
            self.levels.append(Level([before] + [width] * (config.blocks + 1), group, parts, attend=attend))
            if i < len(channels) - 1:
                before = width // 2 if config.up_reduce == "upsample" else width
                self.ups.append(Up(width, before, parts, time=levels[i + 1] > group))
        self.norm_out = parts.norm(channels[-1], halves)
        self.conv_out = parts.branch.conv(channels[-1], 3 * halves, config.groups)

    def forward(self, z: Tensor, past: Past | None) -> Tensor:
        h = self.levels[0](self.middle(self.conv_in(z), past), past)
        for up, level in zip(self.ups, self.levels[1:], strict=True):
            h = level(up(h, past), past)
        out: Tensor = self.conv_out(F.silu(self.norm_out(h)), past)
        return out
