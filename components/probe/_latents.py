"""Helpers of the probes of the latent: a subset of the pictures, and noise that is the same for all models."""

from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from ablate.slots import Subject


class Pairs(NamedTuple):
    """Pictures `n 3 s s` in [0, 1], their posterior means `n z h w` and reconstructions `n 3 s s`, not clamped."""

    images: Tensor
    latents: Tensor
    reconstruction: Tensor


def subset(subject: Subject, block: int = 1) -> Pairs:
    """Up to 16 of the pictures, evenly spaced, for probes that decode each several times.

    If the latent is not a whole number of blocks, the pictures are cropped on the right and below and encoded again.
    """
    every = slice(None, None, -(-len(subject.images) // 16))
    side = subject.posterior.mean.shape[-1]
    if side % block == 0:
        return Pairs(subject.images[every], subject.posterior.mean[every], subject.reconstruction[every])
    size = side // block * block * pixels_per_position(subject)
    cropped = replace(subject, images=subject.images[every, :, :size, :size])
    return Pairs(cropped.images, cropped.posterior.mean, cropped.reconstruction)


def pixels_per_position(subject: Subject) -> int:
    """Number of pixels of a picture per position of its latent, along a side."""
    return subject.images.shape[-1] // subject.posterior.mean.shape[-1]


def fixed_noise(like: Tensor) -> Tensor:
    """Standard normal noise with the shape, dtype and device of a tensor, the same numbers in every call."""
    return torch.randn(like.shape, generator=torch.Generator().manual_seed(0)).to(like)
