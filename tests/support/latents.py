"""Autoencoders whose latents are known, and fields of a power law, for the tests of the probes of the latent."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ablate.slots.probe import Subject
from ablate.slots.training import Autoencoder, Posterior


class Identity(Autoencoder):
    """The latent is the picture in [-1, 1], with noise of sd `noise` in its posterior."""

    stride = 1
    latent_channels = 3

    def __init__(self, noise: float = 1e-6) -> None:
        super().__init__()
        self.logvar = 2 * math.log(noise)

    def encode(self, x: Tensor) -> Posterior:
        return Posterior(x, torch.full_like(x, self.logvar))

    def decode(self, z: Tensor) -> Tensor:
        return z


class Scrambled(Identity):
    """The same with low and high frequencies of the latent exchanged, which costs the reconstruction nothing."""

    def encode(self, x: Tensor) -> Posterior:
        return super().encode(x * checkerboard(x))

    def decode(self, z: Tensor) -> Tensor:
        return z * checkerboard(z)


class Pooled(Autoencoder):
    """Means of squares of 4 px, and their mean over colours with white noise of sd `planted`, which is not decoded."""

    stride = 4
    latent_channels = 4

    def __init__(self, planted: float = 0.0) -> None:
        super().__init__()
        self.planted = planted

    def encode(self, x: Tensor) -> Posterior:
        z = F.avg_pool2d(x, 4)
        noise = torch.randn(z[:, :1].shape, generator=torch.Generator().manual_seed(1))
        z = torch.cat([z, z.mean(1, keepdim=True) + self.planted * noise], 1)
        return Posterior(z, torch.full_like(z, -30.0))

    def decode(self, z: Tensor) -> Tensor:
        return F.interpolate(z[:, :3], scale_factor=4)


def checkerboard(x: Tensor) -> Tensor:
    rows, columns = torch.arange(x.shape[-2]), torch.arange(x.shape[-1])
    return 1.0 - 2 * ((rows[:, None] + columns) % 2)


def power_law(exponent: float, n: int = 128, channels: int = 3) -> Tensor:
    """Gaussian fields `n c 32 32` of unit variance whose power falls as f^-exponent, float64."""
    generator = torch.Generator().manual_seed(0)
    steps = torch.fft.fftfreq(32, dtype=torch.float64)
    frequency = torch.hypot(steps, steps[:, None])
    frequency[0, 0] = 1 / 32
    white = torch.randn(n, channels, 32, 32, generator=generator, dtype=torch.float64)
    field = torch.fft.ifft2(torch.fft.fft2(white) * frequency ** (-exponent / 2)).real
    return field / field.std()


def of_field(field: Tensor, noise: float = 1e-6) -> Subject:
    """A subject whose latent is the field, and whose pictures are it too."""
    return Subject(Identity(noise), (field / 2 + 0.5).float())
