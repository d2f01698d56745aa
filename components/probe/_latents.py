"""What probes of the latent share: which pictures they look at, and noise that is the same for all models."""

from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from ablate.slots import Subject


class Pairs(NamedTuple):
    """Pictures `n 3 s s` in [0, 1], posterior means `n z h w`, reconstructions `n 3 s s`, not clamped."""

    images: Tensor
    latents: Tensor
    reconstruction: Tensor


def some(subject: Subject, block: int = 1) -> Pairs:
    """Up to 16 of the pictures, spread evenly, for probes that decode each several times.

    Where the latent is not a whole number of blocks, the pictures are cropped, right and below, and encoded anew.
    """
    every = slice(None, None, -(-len(subject.images) // 16))
    side = subject.posterior.mean.shape[-1]
    if side % block == 0:
        return Pairs(subject.images[every], subject.posterior.mean[every], subject.reconstruction[every])
    size = side // block * block * factor(subject)
    cropped = replace(subject, images=subject.images[every, :, :size, :size])
    return Pairs(cropped.images, cropped.posterior.mean, cropped.reconstruction)


def factor(subject: Subject) -> int:
    """How many pixels of a picture there are to a position of its latent, along a side."""
    return subject.images.shape[-1] // subject.posterior.mean.shape[-1]


def fixed_noise(like: Tensor) -> Tensor:
    """Standard normal noise of a tensor's shape and device: the same numbers for every model and every call."""
    return torch.randn(like.shape, generator=torch.Generator().manual_seed(0)).to(like)
