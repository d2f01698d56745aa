"""The protocol of each slot: what a level is given and what it must give back.

Shapes: images `b 3 h w`, features `b c h w`, latents `b z h/f w/f` with f the model's stride. Images are in [-1, 1]
inside models and losses, in [0, 1] in probes. Clips have a time axis before h, `b 3 t h w` with t = 1 + k g for a model
of g frames to a latent frame; their latents are `b z 1+k h/f w/f`. Each level's file defines `build`:

| slot | build(config, ...) | gives |
|---|---|---|
| data | `(split)` with split "train" or "heldout" | iterator of `ablate.data.Picture` |
| model | `(encoder, decoder)`, the `Parts` or `VideoParts` of its halves | `Autoencoder` |
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

import itertools
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ablate.identity import derive

LOGVAR_RANGE = (-30.0, 20.0)
COLOURS = (*itertools.product((32, 128, 224), repeat=3), (0, 128, 0))
"""Of the constant pictures that probes look at, in 1/255: a lattice, and the green of the LTX-2 grid report."""


Padding = Callable[[Tensor, tuple[int, int, int, int]], Tensor]
"""Pad `b c h w` by (left, right, top, bottom) pixels."""


@dataclass(frozen=True)
class Parts:
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


@dataclass
class Subject:
    """A frozen model under examination, with the held-out images `n 3 s s` in [0, 1], fp32, on the model's device.

    Everything in fp32, eval mode, without gradients; latents are posterior means. `training`: crops that the model was
    trained on, `n 3 c c` in [0, 1]; None where they are not known. `draw(count, seed)`: as many further ones as a probe
    likes, the same for the same seed; None likewise.

    A temporal model has the held-out `clips` `n 3 t s s`, whose middle frames are the images, and where it is known
    their motion, `flow` `n 2 t-1 s s` and `visible` `n t-1 s s` as in `ablate.corpus.Motion`. Probes of images see it
    as a model of images: each goes in as a clip of `frames` equal frames, of which the middle one counts, and the
    latent frames are so many times the channels.
    """

    vae: Autoencoder
    images: Tensor
    batch: int = 8
    training: Tensor | None = None
    draw: Callable[[int, int], Tensor] | None = None
    clips: Tensor | None = None
    flow: Tensor | None = None
    visible: Tensor | None = None
    frames: int = 1

    def reconstruct(self, images: Tensor) -> Tensor:
        """Round trip of `n 3 h w` or `n 3 t h w` in [0, 1]; the result is not clamped."""
        return self.decode(self.encode(images).mean)

    @cached_property
    def posterior(self) -> Posterior:
        """The posteriors of `images`, `n z h w`, made once and shared by all probes."""
        return self.encode(self.images)

    @cached_property
    def reconstruction(self) -> Tensor:
        """`reconstruct(images)`, made once and shared by all probes."""
        return self.decode(self.posterior.mean)

    @property
    def whole_clips(self) -> Tensor:
        """The first `frames` frames of `clips`, a whole number of groups: `n 3 t s s`. Raises TypeError without any."""
        if self.clips is None:
            raise TypeError("this subject has no clips")
        return self.clips[:, :, : self.frames]

    @cached_property
    def clip_posterior(self) -> Posterior:
        """The posteriors of `whole_clips`, `n z k s s`, made once and shared by all probes."""
        return self.encode(self.whole_clips)

    @cached_property
    def clip_reconstruction(self) -> Tensor:
        """`reconstruct(whole_clips)`, made once and shared by all probes."""
        return self.decode(self.clip_posterior.mean)

    @property
    def colours(self) -> Tensor:
        """`COLOURS` as `28 3 1 1` in [0, 1]."""
        return self.images.new_tensor(COLOURS)[:, :, None, None] / 255

    @cached_property
    def constants(self) -> Tensor:
        """Reconstructions of constant pictures of the images' size in `colours`, made once and shared by all probes."""
        side = self.images.shape[-1]
        return self.reconstruct(self.colours.expand(-1, -1, side, side))

    @torch.inference_mode()
    def encode(self, images: Tensor) -> Posterior:
        """The posteriors of `n 3 h w` or `n 3 t h w` in [0, 1], a batch at a time."""
        still = self.vae.temporal and images.ndim == 4
        if still:
            images = images.unsqueeze(2).expand(-1, -1, self.frames, -1, -1)
        frames = images.shape[2] if images.ndim == 5 else 1
        chunks = [self.vae.encode(x * 2 - 1) for x in images.split(max(1, self.batch // frames))]
        mean, logvar = torch.cat([chunk.mean for chunk in chunks]), torch.cat([chunk.logvar for chunk in chunks])
        return Posterior(mean.flatten(1, 2), logvar.flatten(1, 2)) if still else Posterior(mean, logvar)

    @torch.inference_mode()
    def decode(self, latents: Tensor) -> Tensor:
        """Images in [0, 1] of `n z h w`, clips of `n z t h w`, a batch at a time; the result is not clamped."""
        still = self.vae.temporal and latents.ndim == 4
        if still:
            latents = latents.unflatten(1, (-1, 1 + (self.frames - 1) // self.vae.groups))
        frames = 1 + (latents.shape[2] - 1) * self.vae.groups if latents.ndim == 5 else 1
        y = torch.cat([self.vae.decode(z) for z in latents.split(max(1, self.batch // frames))]) / 2 + 0.5
        return y[:, :, self.frames // 2] if still else y


@dataclass(frozen=True)
class Findings:
    """What a probe found: a number per metric, per-image values where there are any, `h w 3` uint8 pictures."""

    metrics: dict[str, float]
    per_image: dict[str, list[float]] = field(default_factory=dict)
    pictures: dict[str, np.ndarray[Any, np.dtype[np.uint8]]] = field(default_factory=dict)


Probe = Callable[[Subject], Findings]
