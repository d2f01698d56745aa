"""Encoding spectrum matching (ESM): pulls the spectrum of the latents to a flattened spectrum of the picture.

Ning et al., "Spectrum Matching: a Unified Perspective for Superior Diffusability in Latent Diffusion", 2026 (arXiv
2603.14645), as in the authors' code. x is reduced to the size of z, and the means of both are removed. The power of the
cosine transform of the whole picture, averaged over channels, is averaged over rings of equal frequency r = |(u, v)|
and normalised to p_x and p_z, for each picture by itself:

    strength * mean over pictures of KL(p_x || p_z),   p_x from power times r^delta

A delta of 0 asks for the picture's own spectrum, a larger one for a flatter spectrum. The paper's ESM runs have a
strength of 0.01, a delta of 1 and no KL term. Here x is reduced by block means, which neither blur nor alias much; the
authors blur and subsample. The term does not depend on the magnitude of z and has no gradient along it.
"""

import torch
from pydantic import Field, NonNegativeFloat
from torch import Tensor

from ablate.components.regularizer._rescale import rescale
from ablate.components.shared.dct import dct_matrix
from ablate.slots import Autoencoder, Regularizer, RegularizerSettings, Step

FLOOR = 1e-8
"""Added to the share of each ring, so that its logarithm is finite."""


class Config(RegularizerSettings):
    """`strength`: the term's factor in the training loss; 0 is the same as `none`.

    `delta`: the power of frequency that flattens the picture's spectrum. `rings`: their number.
    """

    strength: NonNegativeFloat
    delta: NonNegativeFloat = 1.0
    rings: int = Field(16, gt=1)


def build(config: Config) -> Regularizer:
    def penalty(vae: Autoencoder, step: Step) -> Tensor:
        """The weighted loss, a scalar, in fp32. z is the posterior draw that the decoder sees."""
        z = step.z.float()
        x = rescale(step.x, z.shape[-1], step.x.shape[-1], "mean")
        target = spectrum(x, config.rings, config.delta)
        divergence: Tensor = (target * (target.log() - spectrum(z, config.rings).log())).sum(1).mean()
        return config.strength * divergence

    return penalty


def spectrum(x: Tensor, rings: int, delta: float = 0.0) -> Tensor:
    """Shares `b rings` of the power of `b c h w`, from low frequencies to high, which sum to 1.

    Each ring counts by the mean, not the sum, of its coefficients; a ring without any gets the floor.
    """
    # power of the cosine transform
    h, w = x.shape[-2:]
    rows, columns = (dct_matrix(side, x.dtype, x.device) for side in (h, w))
    power = (rows @ x @ columns.T).square().mean(1)
    u, v = (torch.arange(side, dtype=x.dtype, device=x.device) for side in (h, w))
    # mean power of each ring
    radius = torch.hypot(u[:, None], v)
    ring = (radius / radius.max() * rings).long().clamp(max=rings - 1).flatten()
    member = (ring == torch.arange(rings, device=x.device)[:, None]).to(x.dtype)
    member[:, 0] = 0  # the picture's mean does not count
    means = (power * radius**delta).flatten(1) @ (member / member.sum(1, keepdim=True).clamp(min=1)).T
    shares = means / means.sum(1, keepdim=True).clamp(min=torch.finfo(x.dtype).tiny) + FLOOR
    return shares / shares.sum(1, keepdim=True)
