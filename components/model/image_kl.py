"""The convolutional autoencoder of latent diffusion, with a diagonal Gaussian posterior.

Rombach et al., "High-Resolution Image Synthesis with Latent Diffusion Models", 2022 (arXiv 2112.10752, appendix G.1).
Parameter names and arithmetic are those of diffusers' `AutoencoderKL`, so its checkpoints load as they are; with
`norm: scn` the decoder is MoVQ's (arXiv 2209.09002), each of whose norms is conditioned on the latent.

`patch` replaces the finest levels: pixels are rearranged into channels first and back at the end, as in LTX-Video
(HaCohen et al., 2024, arXiv 2501.00103, squares of 4 px). That makes the decoder's last layer a sub-pixel convolution,
which draws a grid even on constants, whatever the up-sampling level.
"""

from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import Literal

from pydantic import Field, PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from ablate.components.shared.layers import Conv2d
from ablate.components.shared.resample import filtered_silu
from ablate.slots import LOGVAR_RANGE, Autoencoder, Layers, ModelSettings, Posterior, added


class Config(ModelSettings):
    """`channels`: width of each level, finest first; the size halves between levels.

    `latent_channels`: channels of the latent. `blocks`: residual blocks at each level of the encoder; the decoder has
    one more. `mid_attention`: self-attention at the coarsest size, between two residual blocks, in encoder and
    decoder. `patch`: side in px of the squares whose
    pixels become the channels of the first convolution's input and of the last one's output. The stride is
    patch * 2^(levels - 1). `activation`: `filtered_silu` is computed on a grid twice as fine, as in StyleGAN3, at about
    five times the cost.
    """

    channels: tuple[PositiveInt, ...] = Field(min_length=1, max_length=6)
    latent_channels: PositiveInt = 16
    blocks: PositiveInt = 2
    mid_attention: bool = True
    patch: Literal[1, 2, 4] = added(1, absent_means=1)
    activation: Literal["silu", "filtered_silu"] = added("silu", absent_means="silu")

    @property
    def stride(self) -> int:
        return self.patch << (len(self.channels) - 1)


def build(config: Config, encoder: Layers, decoder: Layers) -> Autoencoder:
    return ImageKL(config, encoder, decoder)


class ImageKL(Autoencoder):
    def __init__(self, config: Config, encoder: Layers, decoder: Layers) -> None:
        super().__init__()
        z = config.latent_channels
        if config.activation == "filtered_silu":
            encoder, decoder = (
                replace(half, activation=partial(filtered_silu, padding=half.padding)) for half in (encoder, decoder)
            )
        self.stride = config.stride
        self.latent_channels = z
        self.encoder = Encoder(config, encoder)
        self.quant_conv = nn.Conv2d(2 * z, 2 * z, 1)
        self.post_quant_conv = nn.Conv2d(z, z, 1)
        self.decoder = Decoder(config, decoder)

    @property
    def decoder_blocks(self) -> list[nn.Module]:
        return [self.decoder.mid_block, *self.decoder.up_blocks]

    @property
    def encoding_parts(self) -> list[nn.Module]:
        return [self.encoder, self.quant_conv]

    @property
    def last_weight(self) -> Tensor:
        return self.decoder.conv_out.weight

    def encode(self, x: Tensor) -> Posterior:
        """Encode images `b 3 h w` in [-1, 1] to the posterior over latents `b z h/f w/f`.

        Raises ValueError when h or w is not a multiple of the stride f.
        """
        height, width = x.shape[-2:]
        if height % self.stride or width % self.stride:
            raise ValueError(f"model: {height} x {width} (h x w) is not a multiple of the stride {self.stride}")
        mean, logvar = self.quant_conv(self.encoder(x)).chunk(2, dim=1)
        return Posterior(mean, logvar.clamp(*LOGVAR_RANGE))

    def decode(self, z: Tensor) -> Tensor:
        """Decode latents `b z h/f w/f` to images `b 3 h w` in about [-1, 1]; not clamped."""
        y: Tensor = self.decoder(self.post_quant_conv(z), z)
        return y


class Encoder(nn.Module):
    """`b 3 h w` to mean and log-variance, `b 2z h/f w/f`, all but the last 1 x 1 convolution."""

    def __init__(self, config: Config, parts: Layers) -> None:
        super().__init__()
        channels = config.channels
        self.activation = parts.activation
        self.patches = nn.PixelUnshuffle(config.patch) if config.patch > 1 else nn.Identity()
        self.conv_in = Conv2d(3 * config.patch**2, channels[0], 3, parts.padding)
        self.down_blocks = nn.ModuleList(
            DownBlock(before, after, config.blocks, parts, last=level == len(channels) - 1)
            for level, (before, after) in enumerate(pairwise((channels[0], *channels)))
        )
        self.mid_block = MidBlock(channels[-1], None, config.mid_attention, parts)
        self.conv_norm_out = parts.norm(channels[-1], None)
        self.conv_out = Conv2d(channels[-1], 2 * config.latent_channels, 3, parts.padding)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv_in(self.patches(x))
        for block in self.down_blocks:
            h = block(h)
        h = self.mid_block(h, None)
        out: Tensor = self.conv_out(self.activation(self.conv_norm_out(h, None)))
        return out


class Decoder(nn.Module):
    """`b z h/f w/f` to `b 3 h w`. The norms are given the latent `z` before the first 1 x 1 convolution."""

    def __init__(self, config: Config, parts: Layers) -> None:
        super().__init__()
        z = config.latent_channels
        channels = config.channels[::-1]
        self.activation = parts.activation
        self.conv_in = Conv2d(z, channels[0], 3, parts.padding)
        self.mid_block = MidBlock(channels[0], z, config.mid_attention, parts)
        self.up_blocks = nn.ModuleList(
            UpBlock(before, after, config.blocks + 1, z, parts, last=level == len(channels) - 1)
            for level, (before, after) in enumerate(pairwise((channels[0], *channels)))
        )
        self.conv_norm_out = parts.norm(channels[-1], z)
        self.conv_out = Conv2d(channels[-1], 3 * config.patch**2, 3, parts.padding)
        self.unpatch = nn.PixelShuffle(config.patch) if config.patch > 1 else nn.Identity()

    def forward(self, h: Tensor, z: Tensor) -> Tensor:
        h = self.mid_block(self.conv_in(h), z)
        for block in self.up_blocks:
            h = block(h, z)
        out: Tensor = self.unpatch(self.conv_out(self.activation(self.conv_norm_out(h, z))))
        return out


class DownBlock(nn.Module):
    """One level of the encoder: residual blocks, then the size is halved unless this is the last level."""

    def __init__(self, before: int, after: int, blocks: int, parts: Layers, *, last: bool) -> None:
        super().__init__()
        self.resnets = nn.ModuleList(ResBlock(after if i else before, after, None, parts) for i in range(blocks))
        self.downsamplers = nn.ModuleList([] if last else [parts.downsample(after, parts.padding)])

    def forward(self, h: Tensor) -> Tensor:
        for resnet in self.resnets:
            h = resnet(h, None)
        for downsampler in self.downsamplers:
            h = downsampler(h)
        return h


class UpBlock(nn.Module):
    """One level of the decoder: residual blocks, then the size is doubled unless this is the last level."""

    def __init__(self, before: int, after: int, blocks: int, z: int, parts: Layers, *, last: bool) -> None:
        super().__init__()
        self.resnets = nn.ModuleList(ResBlock(after if i else before, after, z, parts) for i in range(blocks))
        self.upsamplers = nn.ModuleList([] if last else [parts.upsample(after, parts.padding)])

    def forward(self, h: Tensor, z: Tensor) -> Tensor:
        for resnet in self.resnets:
            h = resnet(h, z)
        for upsampler in self.upsamplers:
            h = upsampler(h)
        return h


class MidBlock(nn.Module):
    """The coarsest size: a residual block, attention if asked for, a residual block."""

    def __init__(self, channels: int, z: int | None, attention: bool, parts: Layers) -> None:
        super().__init__()
        self.resnets = nn.ModuleList(ResBlock(channels, channels, z, parts) for _ in range(2))
        self.attentions = nn.ModuleList([Attention(channels, parts.norm(channels, z))] if attention else [])

    def forward(self, h: Tensor, z: Tensor | None) -> Tensor:
        first, second = self.resnets
        h = first(h, z)
        for attention in self.attentions:
            h = attention(h, z)
        out: Tensor = second(h, z)
        return out


class ResBlock(nn.Module):
    """h + conv(act(norm(conv(act(norm(h)))))), with a 1 x 1 convolution of h where the number of channels changes."""

    def __init__(self, before: int, after: int, z: int | None, parts: Layers) -> None:
        super().__init__()
        self.activation = parts.activation
        self.norm1 = parts.norm(before, z)
        self.conv1 = Conv2d(before, after, 3, parts.padding)
        self.norm2 = parts.norm(after, z)
        self.conv2 = Conv2d(after, after, 3, parts.padding)
        self.conv_shortcut = nn.Identity() if before == after else nn.Conv2d(before, after, 1)

    def forward(self, h: Tensor, z: Tensor | None) -> Tensor:
        inner = self.conv1(self.activation(self.norm1(h, z)))
        inner = self.conv2(self.activation(self.norm2(inner, z)))
        out: Tensor = self.conv_shortcut(h) + inner
        return out


class Attention(nn.Module):
    """Single-head self-attention over all positions, with a skip."""

    def __init__(self, channels: int, norm: nn.Module) -> None:
        super().__init__()
        self.group_norm = norm
        self.to_q = nn.Linear(channels, channels)
        self.to_k = nn.Linear(channels, channels)
        self.to_v = nn.Linear(channels, channels)
        self.to_out = nn.ModuleList([nn.Linear(channels, channels)])  # a list, so that checkpoints call it `to_out.0`

    def forward(self, h: Tensor, z: Tensor | None) -> Tensor:
        # b 1 (h w) c: the fast attention kernels need the axis of the one head.
        tokens = self.group_norm(h, z).flatten(2).transpose(1, 2).unsqueeze(1)
        mixed = F.scaled_dot_product_attention(self.to_q(tokens), self.to_k(tokens), self.to_v(tokens))
        out: Tensor = self.to_out[0](mixed)
        return h + out.squeeze(1).transpose(1, 2).reshape(h.shape)
