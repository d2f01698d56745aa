"""What exams hand to levels: a small autoencoder, pictures, clips, a training step."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ablate.slots import Autoencoder, Discriminator, Posterior, SeedOf, Step, registry
from ablate.testing.exam import seed_of

GROUPS = 4
"""Frames to a latent frame in the temporal fake."""


class FakeVAE(Autoencoder):
    """Means of squares of `stride` px, mixed by 1 x 1 convolutions: a blurry but working autoencoder with weights.

    A temporal one also takes the mean of each group of frames after the first.
    """

    latent_channels = 4

    def __init__(self, stride: int = 4, *, temporal: bool = False) -> None:
        super().__init__()
        self.stride, self.temporal, self.groups = stride, temporal, GROUPS if temporal else 1
        self.mix = nn.Conv2d(3, 2 * self.latent_channels, 1)
        self.blocks = nn.ModuleList(nn.Conv2d(4, 4, 3, padding=1) for _ in range(2))
        self.last = nn.Conv2d(4, 3, 3, padding=1)
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
            for row in range(3):  # so that colours come through
                self.mix.weight[row, row] += 1
                self.last.weight[row, row, 1, 1] += 1

    @property
    def decoder_blocks(self) -> list[nn.Module]:
        return list(self.blocks)

    @property
    def encoding_parts(self) -> list[nn.Module]:
        return [self.mix]

    @property
    def last_weight(self) -> Tensor:
        return self.last.weight

    def encode(self, x: Tensor) -> Posterior:
        if x.ndim == 5:
            return self._encode_clip(x, begun=False)
        mean, logvar = self.mix(F.avg_pool2d(x, self.stride)).chunk(2, dim=1)
        return Posterior(mean, logvar - 4)

    def decode(self, z: Tensor) -> Tensor:
        return self._decode_clip(z, begun=False) if z.ndim == 5 else self._decode(z)

    def encode_chunks(self, chunks: Iterable[Tensor]) -> Iterator[Posterior]:
        """As `Chunked` asks."""
        for number, chunk in enumerate(chunks):
            yield self._encode_clip(chunk, begun=number > 0)

    def decode_chunks(self, latents: Iterable[Tensor]) -> Iterator[Tensor]:
        """As `Chunked` asks."""
        for number, z in enumerate(latents):
            yield self._decode_clip(z, begun=number > 0)

    def _decode(self, z: Tensor) -> Tensor:
        for block in self.blocks:
            z = z + 0.1 * block(z)
        y: Tensor = self.last(F.interpolate(z, scale_factor=float(self.stride)))
        return y

    def _encode_clip(self, x: Tensor, *, begun: bool) -> Posterior:
        first = 0 if begun else 1
        x = torch.cat([x[:, :, :first], x[:, :, first:].unflatten(2, (-1, self.groups)).mean(3)], 2)
        frames = self.encode(x.transpose(1, 2).flatten(0, 1))
        mean, logvar = (v.unflatten(0, (len(x), -1)).transpose(1, 2) for v in (frames.mean, frames.logvar))
        return Posterior(mean, logvar)

    def _decode_clip(self, z: Tensor, *, begun: bool) -> Tensor:
        y = self._decode(z.transpose(1, 2).flatten(0, 1)).unflatten(0, (len(z), -1)).transpose(1, 2)
        first = 0 if begun else 1
        return torch.cat([y[:, :, :first], y[:, :, first:].repeat_interleave(self.groups, 2)], 2)


class FakeDiscriminator(Discriminator):
    """One convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 1, 3, padding=1)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.linspace(-0.2, 0.3, parameter.numel()).view(parameter.shape))

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.conv(x)
        return logits

    def loss(self, real: Tensor, fake: Tensor) -> Tensor:
        return F.softplus(-real).mean() + F.softplus(fake).mean()

    def generator_loss(self, fake: Tensor) -> Tensor:
        return F.softplus(-fake).mean()


@cache
def pictures(count: int, side: int, seed: int = 0) -> Tensor:
    """Dead leaves `n 3 s s` in [0, 1], with sharp edges and a small bright spot in each. Not to be changed in place."""
    drawn = max(side, 16)  # the level draws no smaller ones
    settings = {"count": count, "size": drawn, "crop": side, "resize": "none", "heldout_size": drawn, "seed": seed}
    loaded = [torch.from_numpy(one.load().copy()) for one in registry.build("data", "leaves", settings, "train")]
    x = torch.stack(loaded).permute(0, 3, 1, 2)[..., :side, :side].float() / 255
    spot = max(1, side // 8)
    x[:, :, spot : 2 * spot, spot : 2 * spot] = 1.0
    return x


@cache
def clips(count: int, side: int, frames: int) -> tuple[Tensor, Tensor, Tensor]:
    """Moving discs `n 3 t s s` in [0, 1] on a smooth field, with `flow` and `visible`. Not to be changed in place."""
    settings = {"size": side, "crop": side, "resize": "none", "heldout_size": side}
    settings |= {"texture": "smooth", "frames": 5, "heldout_frames": frames, "heldout_count": count, "length": frames}
    found = list(registry.build("data", "moving_leaves", settings, "heldout"))
    motion = [one.motion() for one in found]
    x = torch.stack([torch.from_numpy(one.load()) for one in found]).permute(0, 4, 1, 2, 3).float() / 255
    flow, visible = ([torch.from_numpy(getattr(one, name)) for one in motion] for name in ("flow", "visible"))
    return x, torch.stack(flow), torch.stack(visible)


def autocast() -> AbstractContextManager[Any]:
    """As a stage with `precision: bf16` computes on the CPU."""
    return torch.autocast("cpu", torch.bfloat16)


def training_step(
    vae: Autoencoder,
    x: Tensor,
    *,
    bf16: bool = False,
    discriminator: Discriminator | None = None,
    seeds: SeedOf = seed_of,
) -> Step:
    """A training step of pictures `b 3 h w` in [-1, 1], as the training loop makes it."""
    context: Callable[[], AbstractContextManager[Any]] = autocast if bf16 else nullcontext
    with context():
        posterior = vae.encode(x)
        noise = torch.randn(posterior.mean.shape, generator=torch.Generator().manual_seed(seeds("noise")))
        z = posterior.sample(noise.to(posterior.mean.dtype))
        y = vae.decode(z)
    return Step(x, y.float(), posterior, z, discriminator, x.shape[-1], seeds, context, _compare)


def _compare(x: Tensor, y: Tensor) -> Tensor:
    return F.mse_loss(y.float(), x)
