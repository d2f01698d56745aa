"""What a probe is given, a `Subject`, and what it returns, a `ProbeResult`."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ablate.slots.training import Autoencoder, Posterior

COLOURS = (*itertools.product((32, 128, 224), repeat=3), (0, 128, 0))
"""Colours of the constant pictures that probes examine, in 1/255: a lattice, and the green of the LTX-2 grid report."""


@dataclass
class Subject:
    """A trained model to examine, with held-out images `n 3 s s` in [0, 1], fp32, on the model's device.

    Everything is in fp32, in eval mode and without gradients; latents are posterior means. `batch`: images at once.
    `training`: crops that the model was trained on, `n 3 c c` in [0, 1]; None where they are not known.
    `draw(count, seed)`: as many more of them as a probe needs, the same for the same seed; None where not known.

    A temporal model has held-out `clips` `n 3 t s s`, whose middle frames are `images`, and where it is known their
    motion: `flow` `n 2 t-1 s s` and `visible` `n t-1 s s`, as in `Motion`. Probes of images see it as a model of
    images: each image goes in as a clip of `frames` equal frames, of which the middle one counts, and the channels of
    all latent frames are stacked.

    `shared`: what a probe has computed and others may use, by name.
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
    shared: dict[str, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

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
class ProbeResult:
    """The result of a probe.

    `metrics`: a float for each metric in METRICS. A probe leaves out what it cannot measure on this subject, such as
    metrics of larger pictures; NaN is for models whose output is not finite or gives no value. `per_image`: lists of
    numbers by any name, for instance one for each image. `pictures`: `h w 3` uint8, by name.
    """

    metrics: dict[str, float]
    per_image: dict[str, list[float]] = field(default_factory=dict)
    pictures: dict[str, np.ndarray[Any, np.dtype[np.uint8]]] = field(default_factory=dict)


Probe = Callable[[Subject], ProbeResult]
"""Examines a subject, which it leaves as it was."""
