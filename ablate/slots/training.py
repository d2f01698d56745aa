"""The protocol of each slot: what a level is given and what it must give back.

Shapes: images `b 3 h w`, features `b c h w`, latents `b z h/f w/f` with f the model's stride. Images are in [-1, 1]
inside models and losses, in [0, 1] in probes. Clips have a time axis before h, `b 3 t h w` with t = 1 + k g for a model
of g frames to a latent frame; their latents are `b z 1+k h/f w/f`. Each level's file defines `build`:

| slot | build(config, ...) | gives |
|---|---|---|
| data | `(split)` with split "train" or "heldout" | iterator of `ablate.data.Picture` |
| model | `(encoder, decoder)`, the `Layers` or `VideoParts` of its halves | `Autoencoder` |
| padding | `()` | `Padding` |
| norm | `(channels, latent_channels or None)` | module, `forward(h, z)`; None in the encoder, which has no latent |
| temporal_conv, branch, context | | see `ablate/video_slots.py` |
| upsample, downsample | `(channels, padding)` | module `b c h w -> b c 2h 2w` or `b c h/2 w/2` |
| loss | `()` | `Term` |
| discriminator | `()` | `Discriminator`, or None for `none` |
| regularizer | `()` | `Regularizer` or `Alteration`, or None for `none` |
| init | `(seed_of)`, name -> int | `Initializer`, or `Inheritance` |
| probe | `()` | `Probe` |
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ablate.identity import derive

LOGVAR_RANGE = (-30.0, 20.0)


Padding = Callable[[Tensor, tuple[int, int, int, int]], Tensor]
"""Pad `b c h w` by (left, right, top, bottom) pixels."""


@dataclass(frozen=True)
class Layers:
    """What half of a model is built from: the chosen levels of the slots inside it, each ready to call.

    `activation` is no slot: a model with another sets it for its own layers.
    """

    padding: Padding
    norm: Callable[[int, int | None], nn.Module]
    upsample: Callable[[int, Padding], nn.Module]
    downsample: Callable[[int, Padding], nn.Module]
    activation: Callable[[Tensor], Tensor] = F.silu


@dataclass(frozen=True)
class Posterior:
    """Diagonal Gaussian over latents; both `b z h w`, of clips `b z t h w`; log-variance clamped to `LOGVAR_RANGE`."""

    mean: Tensor
    logvar: Tensor

    def sample(self, noise: Tensor) -> Tensor:
        """Reparameterised draw for standard normal `noise` of the mean's shape."""
        return self.mean + torch.exp(0.5 * self.logvar) * noise


class Autoencoder(nn.Module):
    """Base of every model level.

    A `temporal` model takes clips `b 3 t h w` with `groups` frames to a latent frame, the first frame apart, and sees
    images `b 3 h w` as clips of one frame.
    """

    stride: int
    latent_channels: int
    temporal: bool = False
    groups: int = 1

    def whole(self, frames: int) -> int:
        """The longest clip of at most so many frames that the model takes: 1 + k groups."""
        return 1 + (frames - 1) // self.groups * self.groups

    @property
    def decoder_blocks(self) -> list[nn.Module]:
        """The decoder's blocks in the order they run, each giving features `b c h w`. A model need not name any."""
        return []

    @property
    def encoding_parts(self) -> list[nn.Module]:
        """The modules that `encode` runs: frozen where a stage tunes the decoder alone."""
        raise TypeError(f"{type(self).__name__} does not name its encoding parts, so its decoder cannot be tuned alone")

    @property
    def last_weight(self) -> Tensor:
        """The weight of the decoder's last layer, where an adaptive adversarial weight compares gradients."""
        raise TypeError(f"{type(self).__name__} names no last layer, which an adaptive adversarial weight needs")

    def encode(self, x: Tensor) -> Posterior:
        """Images `b 3 h w` in [-1, 1] to the posterior over latents `b z h/f w/f`."""
        raise TypeError(f"{type(self).__name__} does not define encode")

    def decode(self, z: Tensor) -> Tensor:
        """Latents to images in about [-1, 1]; not clamped."""
        raise TypeError(f"{type(self).__name__} does not define decode")


SeedOf = Callable[[str], int]
"""A seed for each purpose: of a step, a function of the trial's seed, the stage, the step and the purpose alone."""


_UNSTEPPED: SeedOf = partial(derive, 0)


def _compares_nothing(x: Tensor, y: Tensor) -> Tensor:
    raise TypeError("outside of a training loop there are no weighted terms to compare pictures by")


@dataclass(frozen=True)
class Step:
    """What a loss term may look at in one training step.

    `crop`: side in px of the training crops; x is smaller where an `Alteration` has reduced it.
    `seed_of`: for what a regularizer draws. `precision`: the context to encode and decode further pictures in.
    `compare`: the weighted reconstruction terms of the trial, summed, of any targets and pictures `b 3 h w`. Terms that
    these are too small for are left out.
    """

    x: Tensor
    y: Tensor
    posterior: Posterior
    z: Tensor
    discriminator: "Discriminator | None"
    crop: int = 0
    seed_of: SeedOf = _UNSTEPPED
    precision: Callable[[], AbstractContextManager[Any]] = nullcontext
    compare: Callable[[Tensor, Tensor], Tensor] = _compares_nothing


class Term(nn.Module):
    """Base of every loss term. A module, so that frozen networks inside, if any, move with it.

    `of`: what the term judges. "reconstruction": how y differs from x. "latent": the posterior or its draw alone, so
    that the term is idle while the encoder is frozen. "realism": y alone, by the discriminator.
    `smallest`: side in px below which the term does not judge reduced pictures.
    """

    of: Literal["reconstruction", "latent", "realism"]
    smallest: int = 1

    def forward(self, step: Step) -> Tensor:
        """A scalar mean, not yet weighted."""
        raise TypeError(f"{type(self).__name__} does not define forward")


class Discriminator(nn.Module):
    """Base of every discriminator level."""

    def forward(self, x: Tensor) -> Tensor:
        """Images `b 3 h w` to logits of any shape; larger means more real."""
        raise TypeError(f"{type(self).__name__} does not define forward")

    def loss(self, real: Tensor, fake: Tensor) -> Tensor:
        """The discriminator's own scalar loss from the logits of real and generated images."""
        raise TypeError(f"{type(self).__name__} does not define loss")

    def generator_loss(self, fake: Tensor) -> Tensor:
        """The autoencoder's scalar loss from the logits of its reconstructions."""
        raise TypeError(f"{type(self).__name__} does not define generator_loss")


Regularizer = Callable[[Autoencoder, Step], Tensor]
"""A further term of the loss, a scalar, already weighted. Idle while the encoder is frozen."""


class Alteration:
    """A regularizer that adds no term, but changes what is encoded, decoded and compared. Idle as a `Regularizer` is.

    All terms of the loss, and the discriminator, see the altered x and z.
    """

    def before_encoding(self, vae: Autoencoder, x: Tensor, seed_of: SeedOf) -> Tensor:
        """The pictures to encode in place of the batch x, `b 3 h w`."""
        return x

    def before_decoding(self, vae: Autoencoder, x: Tensor, z: Tensor, seed_of: SeedOf) -> tuple[Tensor, Tensor]:
        """The target and the latents to decode in place of x and z, whose sizes match."""
        return x, z


Initializer = Callable[[nn.Module], None]


class Inheritance(Protocol):
    """An initializer that can also take over weights of another network, that of the stage before.

    Its Config has `inherits = True` and `misfit(before, after)`, which says of the parts of both why they do not fit.
    """

    def __call__(self, net: nn.Module) -> None:
        """Fresh weights, in place."""

    def inherit(self, vae: Autoencoder, before: Autoencoder) -> None:
        """Fill the freshly drawn `vae`, on the CPU, in place."""
