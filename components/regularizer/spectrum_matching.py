"""Encoding spectrum matching (ESM): the spectrum of latents is to be that of the picture, tilted.

Ning et al., "Spectrum Matching: a Unified Perspective for Superior Diffusability in Latent Diffusion", 2026 (arXiv
2603.14645), as in the authors' code. x is reduced to the size of z, both lose their means, and the power of the whole
picture's cosine transform, mean over channels, is averaged over rings of equal frequency r = |(u, v)| and normalised to
p_x and p_z, for each picture by itself:

    strength * mean over pictures of KL(p_x || p_z),   p_x from power times r^delta

A delta of 0 asks for the picture's own spectrum, larger ones for a flatter one. The paper's ESM runs have a strength of
0.01, a delta of 1 and no KL term. x is reduced by the mean of blocks here, which neither blurs nor aliases much, where
the authors blur and take points. The size of z is free: no gradient along it.
"""

import torch
from pydantic import Field, NonNegativeFloat
from torch import Tensor

from ablate.components.regularizer._rescale import rescale
from ablate.components.shared.dct import dct_matrix
from ablate.slots import Autoencoder, Regularizer, RegularizerSettings, Step

FLOOR = 1e-8
"""Of a ring's share, so that its logarithm is finite."""


class Config(RegularizerSettings):
    """`strength`: the term's factor in the training loss; 0 is the same as `none`.

    `delta`: the power of frequency that flattens the picture's spectrum. `rings`: their number.
    """

    strength: NonNegativeFloat
    delta: NonNegativeFloat = 1.0
    rings: int = Field(16, gt=1)


def build(config: Config) -> Regularizer:
    def penalty(vae: Autoencoder, step: Step) -> Tensor:
        """The weighted loss, a scalar, in fp32. z is the draw that the decoder sees."""
        z = step.z.float()
        x = rescale(step.x, z.shape[-1], step.x.shape[-1], "mean")
        target = spectrum(x, config.rings, config.delta)
        divergence: Tensor = (target * (target.log() - spectrum(z, config.rings).log())).sum(1).mean()
        return config.strength * divergence

    return penalty


def spectrum(x: Tensor, rings: int, delta: float = 0.0) -> Tensor:
    """Shares of power `b rings` of `b c h w`, from low frequencies to high, that sum to 1.

    Each ring counts by the mean, not the sum, of its coefficients; one without any has the floor.
    """
    h, w = x.shape[-2:]
    rows, columns = (dct_matrix(side, x.dtype, x.device) for side in (h, w))
    power = (rows @ x @ columns.T).square().mean(1)
    u, v = (torch.arange(side, dtype=x.dtype, device=x.device) for side in (h, w))
    radius = torch.hypot(u[:, None], v)
    ring = (radius / radius.max() * rings).long().clamp(max=rings - 1).flatten()
    member = (ring == torch.arange(rings, device=x.device)[:, None]).to(x.dtype)
    member[:, 0] = 0  # the mean of the picture is no part of its spectrum
    means = (power * radius**delta).flatten(1) @ (member / member.sum(1, keepdim=True).clamp(min=1)).T
    shares = means / means.sum(1, keepdim=True).clamp(min=torch.finfo(x.dtype).tiny) + FLOOR
    return shares / shares.sum(1, keepdim=True)
