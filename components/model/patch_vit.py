"""Autoencoder of two vision transformers over square patches: it resizes at its two ends only, without strides.

The encoder and decoder are those of Yu et al., "Vector-quantized Image Modeling with Improved VQGAN", 2021 (arXiv
2110.04627, section 3.1), here with the Gaussian posterior of `image_kl`. The blocks are those of Dosovitskiy et al.,
"An Image is Worth 16x16 Words", 2020 (arXiv 2010.11929), with the norm first.

Positions are encoded by rotating queries and keys (Su et al., "RoFormer", 2021, arXiv 2104.09864), half of each head by
row and half by column (Heo et al., "Rotary Position Embedding for Vision Transformer", 2024, arXiv 2403.13298). Only
distances between patches then count, so the model accepts any size, including sizes it was not trained on. A picture of
one colour gives equal latents, so a grid on it cannot come from the position encoding.

Having no strides does not prevent a grid: a linear un-patch is a sub-pixel convolution by the whole patch, each pixel
of which has its own weights. Beyond the sizes trained on, attention also meets distances that it has not seen.

The slots `norm` and `downsample` have no effect here, whatever their level; nor do `padding` and `upsample` if the
un-patch is linear. They count in a trial's signature all the same, so do not vary them in a study of this model.
"""

from typing import Literal, Self

import torch
from pydantic import PositiveInt, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from ablate.components.shared.layers import Conv2d
from ablate.slots import LOGVAR_RANGE, Autoencoder, Layers, ModelSettings, Posterior

SLOWEST = 100
"""The slowest pair of channels rotates about this many times slower than the fastest (as in Heo et al.)."""


Rotation = tuple[Tensor, Tensor]
"""Cosine and sine of `angles`."""


class Config(ModelSettings):
    """`patch`: side of a patch in px, which is the stride. `width`, `depth`, `heads`: of each of the two transformers.

    `latent_channels`: channels of the latent. The defaults give 0.27 million parameters, as many as `image_kl` has
    at the small scale of the studies.

    `unpatch`: how the decoder returns to pixels. "linear" makes all pixels of a patch at once from its token; "conv"
    reduces to a quarter of the width, doubles the size by the up-sampling level, each time followed by SiLU, until it
    is the picture's, and ends in a 3 x 3 convolution.
    """

    patch: Literal[2, 4, 8, 16, 32] = 4
    width: PositiveInt = 60
    depth: PositiveInt = 3
    heads: PositiveInt = 3
    latent_channels: PositiveInt = 16
    unpatch: Literal["linear", "conv"] = "linear"

    @model_validator(mode="after")
    def _check_width(self) -> Self:
        if self.width % (4 * self.heads):  # pairs of channels, by row and by column
            raise ValueError(f"width {self.width} is not a multiple of 4 times the {self.heads} heads")
        return self

    @property
    def stride(self) -> int:
        return self.patch


def build(config: Config, encoder: Layers, decoder: Layers) -> Autoencoder:
    return PatchViT(config, decoder)


class PatchViT(Autoencoder):
    def __init__(self, config: Config, decoder: Layers) -> None:
        super().__init__()
        self.stride = config.stride
        self.latent_channels = config.latent_channels
        self.encoder = Encoder(config)
        self.decoder = Decoder(config, decoder)

    @property
    def decoder_blocks(self) -> list[nn.Module]:
        return list(self.decoder.transformer.blocks)

    @property
    def encoding_parts(self) -> list[nn.Module]:
        return [self.encoder]

    @property
    def last_weight(self) -> Tensor:
        return self.decoder.unpatch.conv.weight

    def encode(self, x: Tensor) -> Posterior:
        """Encode images `b 3 h w` in [-1, 1] to the posterior over latents `b z h/p w/p`, p the side of a patch.

        Raises ValueError when h or w is not a multiple of p.
        """
        height, width = x.shape[-2:]
        if height % self.stride or width % self.stride:
            raise ValueError(f"model: {height} x {width} (h x w) is not a multiple of the stride {self.stride}")
        mean, logvar = self.encoder(x).chunk(2, dim=1)
        return Posterior(mean, logvar.clamp(*LOGVAR_RANGE))

    def decode(self, z: Tensor) -> Tensor:
        """Decode latents `b z h/p w/p` to images `b 3 h w` in about [-1, 1]; not clamped."""
        y: Tensor = self.decoder(z)
        return y


class Encoder(nn.Module):
    """`b 3 h w` to mean and log-variance, `b 2z h/p w/p`."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.patches = nn.PixelUnshuffle(config.patch)
        self.embed = nn.Conv2d(3 * config.patch**2, config.width, 1)
        self.transformer = Transformer(config)
        self.head = nn.Conv2d(config.width, 2 * config.latent_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.transformer(self.embed(self.patches(x))))
        return out


class Decoder(nn.Module):
    """`b z h/p w/p` to `b 3 h w`."""

    def __init__(self, config: Config, parts: Layers) -> None:
        super().__init__()
        self.embed = nn.Conv2d(config.latent_channels, config.width, 1)
        self.transformer = Transformer(config)
        self.unpatch = LinearUnpatch(config) if config.unpatch == "linear" else ConvUnpatch(config, parts)

    def forward(self, z: Tensor) -> Tensor:
        out: Tensor = self.unpatch(self.transformer(self.embed(z)))
        return out


class LinearUnpatch(nn.Module):
    """`b c h w -> b 3 ph pw`, each token by itself."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.conv = nn.Conv2d(config.width, 3 * config.patch**2, 1)
        self.shuffle = nn.PixelShuffle(config.patch)

    def forward(self, h: Tensor) -> Tensor:
        out: Tensor = self.shuffle(self.conv(h))
        return out


class ConvUnpatch(nn.Module):
    """`b c h w -> b 3 ph pw` by doublings. With an up-sampling level that resizes, constants get no grid."""

    def __init__(self, config: Config, parts: Layers) -> None:
        super().__init__()
        channels = config.width // 4
        self.project = nn.Conv2d(config.width, channels, 1)
        doublings = config.patch.bit_length() - 1
        self.upsamplers = nn.ModuleList(parts.upsample(channels, parts.padding) for _ in range(doublings))
        self.conv = Conv2d(channels, 3, 3, parts.padding)

    def forward(self, h: Tensor) -> Tensor:
        h = self.project(h)
        for upsampler in self.upsamplers:
            h = F.silu(upsampler(h))
        out: Tensor = self.conv(h)
        return out


class Transformer(nn.Module):
    """`b c h w -> b c h w`: blocks of attention over all positions, then a norm."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.pairs = config.width // config.heads // 2
        self.blocks = nn.ModuleList(Block(config.width, config.heads) for _ in range(config.depth))
        self.norm = nn.LayerNorm(config.width)

    def forward(self, h: Tensor) -> Tensor:
        radians = angles(h.shape[2], h.shape[3], self.pairs, h.device)
        rotation = radians.cos(), radians.sin()
        for block in self.blocks:
            h = block(h, rotation)
        out: Tensor = self.norm(h.movedim(1, -1))
        return out.movedim(-1, 1)


class Block(nn.Module):
    """h + attention(norm(h)), then h + mlp(norm(h)); `b c h w -> b c h w`."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, h: Tensor, rotation: Rotation) -> Tensor:
        tokens = h.movedim(1, -1)
        tokens = tokens + self.attention(self.norm1(tokens), rotation)
        out: Tensor = tokens + self.mlp(self.norm2(tokens))
        return out.movedim(-1, 1)


class Attention(nn.Module):
    """Self-attention over all positions of `b h w c`."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_qkv = nn.Linear(width, 3 * width)
        self.to_out = nn.Linear(width, width)

    def forward(self, tokens: Tensor, rotation: Rotation) -> Tensor:
        qkv = self.to_qkv(tokens.flatten(1, 2)).unflatten(-1, (3, self.heads, -1))
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # b heads (h w) c each
        mixed = F.scaled_dot_product_attention(rotated(q, rotation), rotated(k, rotation), v)
        out: Tensor = self.to_out(mixed.transpose(1, 2).flatten(2))
        return out.view(tokens.shape)


def angles(height: int, width: int, pairs: int, device: torch.device) -> Tensor:
    """Rotation in radians of each pair of a head's channels at each position, `(h w) pairs`.

    Half of the pairs rotate with the row, the others with the column: by 1 radian per patch down to about 1 / SLOWEST.
    """
    speeds = SLOWEST ** (torch.arange(pairs // 2, device=device) / (-pairs / 2))
    rows, columns = (torch.arange(size, device=device)[:, None] * speeds for size in (height, width))
    both = rows[:, None].expand(-1, width, -1), columns.expand(height, -1, -1)
    return torch.cat(both, -1).flatten(0, 1)


def rotated(x: Tensor, rotation: Rotation) -> Tensor:
    """Rotate queries or keys `... (h w) c`: each pair of channels (i, i + c/2) by its angle."""
    first, second = x.chunk(2, -1)
    cos, sin = rotation
    return torch.cat([first * cos - second * sin, first * sin + second * cos], -1)
