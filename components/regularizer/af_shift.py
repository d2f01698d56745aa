"""Shift equivariance of encoder and decoder, under shifts by fractions of a latent position.

Zhou et al., "Alias-Free Latent Diffusion Models", 2025 (arXiv 2503.09419). With T a shift by whole pixels in both
directions, up to `reach` of the side, T/f the same shift of latents, and stopped gradients marked by ':

    strength * (mean |E(T x) - T/f E(x)'|^2 + mean |D(T/f z') - T D(z)'|^2)

Latents are shifted ideally, by phases of the Fourier transform; pictures wrap around when shifted by whole pixels. The
means are over the positions that come from within the picture. E is the posterior's mean here; the authors' code draws
twice from the posterior, which adds twice its variance. The term costs one more pass of encoder and decoder.
"""

import math

import numpy as np
import torch
from pydantic import Field, NonNegativeFloat
from torch import Tensor
from torch.nn import functional as F

from ablate.slots import Autoencoder, Regularizer, RegularizerSettings, Step


class Config(RegularizerSettings):
    """`strength`: the term's factor in the training loss, 1 in the paper; 0 is the same as `none`.

    `reach`: the longest shift as a share of the side.
    """

    strength: NonNegativeFloat
    reach: float = Field(0.375, gt=0, lt=1)


def build(config: Config) -> Regularizer:
    def penalty(vae: Autoencoder, step: Step) -> Tensor:
        """The weighted loss, a scalar, in fp32."""
        side = step.x.shape[-1]
        stride = step.x.shape[-1] // step.z.shape[-1]
        reach = int(config.reach * side)
        # shift by whole pixels, at most `reach` of the side in either direction
        down, across = np.random.default_rng(step.seed_of("shift")).integers(-reach, reach, 2, endpoint=True).tolist()
        # encode the shifted picture and decode the shifted latents
        mean = step.posterior.mean.detach().float()
        z = step.z.detach().float()
        y = step.y.detach()
        with step.precision():
            encoded = vae.encode(torch.roll(step.x, (down, across), (-2, -1))).mean.float()
            decoded = vae.decode(shift(z, down / stride, across / stride)).float()
        # compare with the latents and the reconstruction, shifted likewise
        of_encoder = inside_error(encoded, shift(mean, down / stride, across / stride), down / stride, across / stride)
        of_decoder = inside_error(decoded, torch.roll(y, (down, across), (-2, -1)), down, across)
        return config.strength * (of_encoder + of_decoder)

    return penalty


def shift(x: Tensor, down: float, across: float) -> Tensor:
    """Shift `b c h w` periodically by any, even fractional, number of positions, by phases of its Fourier transform."""
    for dim, by in ((-2, down), (-1, across)):
        side = x.shape[dim]
        turns = torch.fft.rfftfreq(side, dtype=x.dtype, device=x.device) * by
        phases = torch.polar(torch.ones_like(turns), -2 * torch.pi * turns)
        spectrum = torch.fft.rfft(x.movedim(dim, -1)) * phases
        x = torch.fft.irfft(spectrum, side).movedim(-1, dim)
    return x


def inside_error(x: Tensor, y: Tensor, down: float, across: float) -> Tensor:
    """Mean squared difference over the positions that hold content from within the picture after the shift."""
    h, w = x.shape[-2:]
    rows, columns = (
        slice(max(0, math.ceil(by)), side + min(0, math.floor(by))) for side, by in ((h, down), (w, across))
    )
    return F.mse_loss(x[..., rows, columns], y[..., rows, columns])
