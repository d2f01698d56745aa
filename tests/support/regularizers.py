"""The terms for diffusable latents with settings, and what they are called with: a model, a step, pictures."""

from functools import partial

import torch
import torch.nn.functional as F
from torch import nn

from ablate.identity import derive
from ablate.slots.training import Autoencoder, Posterior, Step

ADDED = {
    "se": {"strength": 0.25},
    "chf": {"strength": 0.25, "block": 4},
    "hf_penalty": {"strength": 0.1, "block": 4},
    "eq_explicit": {"strength": 0.1},
    "af_shift": {"strength": 1.0},
    "lcr": {"strength": 0.02},
    "spectrum_matching": {"strength": 0.01, "rings": 8},
}
"""Terms of the loss; the others change what is decoded."""


ALTERING = {"eq": {"strength": 0.5}, "latent_denoise": {"strength": 3.0}}


LEVELS = ADDED | ALTERING


LOSS = "loss: {l2: 1.0, kl: 1e-4}"
"""The losses of the tiny study, for tests that replace them."""


def normal(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def power_law(exponent, shape, seed=0):
    """Gaussian fields with power f^-exponent; their means have the power of the lowest frequency."""
    side = shape[-1]
    f = torch.fft.fftfreq(side, dtype=torch.float64)
    radius = torch.hypot(f, f[:, None])
    radius[0, 0] = 1 / side
    return torch.fft.ifft2(
        torch.fft.fft2(normal(*shape, seed=seed, dtype=torch.float64)) * radius ** (-exponent / 2)
    ).real


class Linear(Autoencoder):
    """One convolution each way, stride 4."""

    stride = 4
    latent_channels = 4

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.encoder = nn.Conv2d(3, 4, 4, stride=4)
        self.decoder = nn.ConvTranspose2d(4, 3, 4, stride=4)

    def encode(self, x):
        mean = self.encoder(x)
        return Posterior(mean, torch.full_like(mean, -4))

    def decode(self, z):
        return self.decoder(z)


def make_step(vae, x, step=1, compare=F.mse_loss):
    """The round trip of pictures as the training loop hands it to a regularizer."""
    posterior = vae.encode(x)
    seed_of = partial(derive, 0, "train", step)
    return Step(x, vae.decode(posterior.mean), posterior, posterior.mean, None, x.shape[-1], seed_of, compare=compare)
