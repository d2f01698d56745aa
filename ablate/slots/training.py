"""What the levels of each slot are given and must return.

Shapes: images are `b 3 h w`, features `b c h w`, latents `b z h/f w/f` with f the model's stride. Inside models and
losses images are in [-1, 1], in probes in [0, 1]. Clips have a time axis before h: `b 3 t h w` with t = 1 + k g for a
model of g frames to a latent frame; their latents are `b z 1+k h/f w/f`. Each level's file defines `build`:

| slot | called as | returns |
|---|---|---|
| data | `build(config, split)`, split "train" or "heldout" | iterable of `Picture` |
| model | `build(config, encoder, decoder)`, the `Layers` or `VideoLayers` of each half | `Autoencoder` |
| padding | `build(config)` | `Padding` |
| norm | `build(config, channels, latent_channels)` | module, `forward(h, z)`; latent and z are None in the encoder |
| norm, video models | `build(config, channels, None, halves)` | module, `forward(h)` |
| upsample, downsample | `build(config, channels, padding)` | module, `b c h w -> b c 2h 2w`, or `-> b c h/2 w/2` |
| temporal_conv | `build(config, before, after, group, padding)` | module, `forward(x, past)`; see `slots/video.py` |
| branch | `build(config, temporal_conv, padding)` | `Branch` |
| context | `build(config, padding)` | `Context` |
| loss | `build(config)` | `Term` |
| discriminator | `build(config)` | `Discriminator`, or None for the level `none` |
| regularizer | `build(config)` | `Regularizer` or `Alteration`, or None for the level `none` |
| init | `build(config, seed_of)`, seeds by layer name | `Initializer` or `Inheritance` |
| probe | `build(config)` | `Probe` |

Rules that hold for all of them, each checked by `ablate check-level`:

- A result depends on the inputs, the weights and the seeds handed over, never on torch's, numpy's or Python's global
  generators. What is drawn in a training step is drawn from `seed_of`; anything else from a constant seed.
- A module with parameters of its own draws them in `reset_parameters`, which `init` calls after seeding torch.
- A picture's result does not depend on the others in its batch: batches are split where memory is short. (The
  discriminator always sees whole batches.)
- Everything works under bf16 autocast; what is delicate is computed in `.float()`.
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
"""Bounds that models clamp the log-variance of their posterior to, so that its exponential is finite."""


Padding = Callable[[Tensor, tuple[int, int, int, int]], Tensor]
"""Pads `b c h w` by (left, right, top, bottom) pixels."""


@dataclass(frozen=True)
class Layers:
    """The levels that the encoder or the decoder of an image model is built from.

    `norm(channels, latent_channels)`, `upsample(channels, padding)` and `downsample(channels, padding)` each make a new
    module. `activation` is not a slot: a model that uses another one replaces it for its own layers.
    """

    padding: Padding
    norm: Callable[[int, int | None], nn.Module]
    upsample: Callable[[int, Padding], nn.Module]
    downsample: Callable[[int, Padding], nn.Module]
    activation: Callable[[Tensor], Tensor] = F.silu


@dataclass(frozen=True)
class Posterior:
    """Diagonal Gaussian over latents: `mean` and `logvar`, its log-variance clamped to `LOGVAR_RANGE`.

    Both are `b z h w`, for clips `b z t h w`.
    """

    mean: Tensor
    logvar: Tensor

    def sample(self, noise: Tensor) -> Tensor:
        """A draw, mean + sd * noise, for standard normal `noise` of the mean's shape. The gradient passes through."""
        return self.mean + torch.exp(0.5 * self.logvar) * noise


class Autoencoder(nn.Module):
    """Base of every model level. A level sets `stride` and `latent_channels` and defines `encode` and `decode`.

    `stride`: pixels along a side for each place of the latent. A `temporal` model also takes clips `b 3 t h w`, with
    `groups` frames to each latent frame and one for the first frame; an image `b 3 h w` is a clip of one frame to it.
    """

    stride: int
    latent_channels: int
    temporal: bool = False
    groups: int = 1

    def whole(self, frames: int) -> int:
        """The number of frames, 1 + k * groups, of the longest clip that the model takes and `frames` allow."""
        return 1 + (frames - 1) // self.groups * self.groups

    @property
    def decoder_blocks(self) -> list[nn.Module]:
        """The decoder's blocks in the order they run, each giving features `b c h w`; empty if a model names none."""
        return []

    @property
    def encoding_parts(self) -> list[nn.Module]:
        """The modules that `encode` runs, and no others. A stage that tunes the decoder alone freezes them.

        Raises TypeError where a model does not name them.
        """
        raise TypeError(f"{type(self).__name__} does not name its encoding parts, so its decoder cannot be tuned alone")

    @property
    def last_weight(self) -> Tensor:
        """The weight of the decoder's last layer, at which an adaptive adversarial weight compares gradients.

        Raises TypeError where a model names none.
        """
        raise TypeError(f"{type(self).__name__} names no last layer, which an adaptive adversarial weight needs")

    def encode(self, x: Tensor) -> Posterior:
        """The posterior over latents `b z h/f w/f` of images `b 3 h w` in [-1, 1].

        Raises ValueError, naming the sizes, when h or w is not a multiple of the stride f.
        """
        raise TypeError(f"{type(self).__name__} does not define encode")

    def decode(self, z: Tensor) -> Tensor:
        """Images `b 3 h w` in about [-1, 1], not clamped, of latents `b z h/f w/f`."""
        raise TypeError(f"{type(self).__name__} does not define decode")


SeedOf = Callable[[str], int]
"""Gives a seed for a purpose; in a training step it depends on the trial's seed, stage, step and purpose alone."""


_UNSTEPPED: SeedOf = partial(derive, 0)


def _compares_nothing(x: Tensor, y: Tensor) -> Tensor:
    raise TypeError("outside of a training loop there are no weighted terms to compare pictures by")


@dataclass(frozen=True)
class Step:
    """What loss terms and regularizers are given in one training step.

    `x`: the target, images `b 3 h w` in [-1, 1] or clips `b 3 t h w`, fp32. `y`: its reconstruction, fp32. `posterior`,
    `z`: of x, and the draw that was decoded; in bf16 where the stage computes in it. `discriminator`: None without one.
    `crop`: side in px of the training crops; x is smaller where an `Alteration` has reduced it.
    `seed_of`: for what a regularizer draws. `precision()`: the context to encode and decode further pictures in.
    `compare(x, y)`: the sum of the trial's weighted reconstruction terms for any targets and pictures `b 3 h w`,
    without the terms that these are too small for; raises ValueError if none is left.
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
    """Base of every loss term. It is a module so that frozen networks inside it move with it; nothing trains them.

    `of`: what the term judges. "reconstruction": how y differs from x. "latent": only the posterior or z, so the term
    is left out while the encoder is frozen. "realism": only y, by the discriminator.
    `smallest`: side in px below which the term is left out for pictures smaller than the crops.
    """

    of: Literal["reconstruction", "latent", "realism"]
    smallest: int = 1

    def forward(self, step: Step) -> Tensor:
        """The term, a scalar: a mean over the batch, without its weight."""
        raise TypeError(f"{type(self).__name__} does not define forward")


class Discriminator(nn.Module):
    """Base of every discriminator level."""

    def forward(self, x: Tensor) -> Tensor:
        """Logits, of any shape, for images `b 3 h w` or clips `b 3 t h w` in [-1, 1]; larger means more real."""
        raise TypeError(f"{type(self).__name__} does not define forward")

    def loss(self, real: Tensor, fake: Tensor) -> Tensor:
        """The discriminator's loss, a scalar, from the logits of real and of reconstructed images."""
        raise TypeError(f"{type(self).__name__} does not define loss")

    def generator_loss(self, fake: Tensor) -> Tensor:
        """The autoencoder's loss, a scalar, from the logits of its reconstructions."""
        raise TypeError(f"{type(self).__name__} does not define generator_loss")


Regularizer = Callable[[Autoencoder, Step], Tensor]
"""A further term of the loss: a scalar, its strength included. Left out while the encoder is frozen."""


class Alteration:
    """A regularizer that adds no term but changes what is encoded, decoded and compared.

    All loss terms and the discriminator see the altered x and z. It is left out while the encoder is frozen.
    """

    def before_encoding(self, vae: Autoencoder, x: Tensor, seed_of: SeedOf) -> Tensor:
        """The pictures to encode in place of the batch x, `b 3 h w` in [-1, 1], with sides that the stride divides."""
        return x

    def before_decoding(self, vae: Autoencoder, x: Tensor, z: Tensor, seed_of: SeedOf) -> tuple[Tensor, Tensor]:
        """The target and the latents to decode in place of x and z; the target is `stride` times as large."""
        return x, z


Initializer = Callable[[nn.Module], None]
"""Fills every weight of an autoencoder or a discriminator in place, on the CPU."""


class Inheritance(Protocol):
    """An initializer that can also take over the weights of another network, which the stage before trained.

    Its Config has `inherits = True`, and `misfit` says why two networks do not fit.
    """

    def __call__(self, net: nn.Module) -> None:
        """Fill `net` with fresh weights, in place."""

    def inherit(self, vae: Autoencoder, before: Autoencoder) -> None:
        """Fill the freshly initialised `vae` with weights of `before`, on the CPU, in place."""
