"""Scale equivariance: latents reduced to half or a quarter of their size must decode to the reduced pictures.

Skorokhodov et al., "Improving the Diffusability of Autoencoders", 2025 (arXiv 2502.14831). With P_s the reduction by s
along both axes, and s drawn from the factors once a step:

    strength * sum_k w_k l_k(D(P_s z), P_s x)

over the reconstruction terms l_k of the trial with their weights w_k. The discriminator and the KL divergence are left
out, and so is perceptual distance below 32 px. The target is the reduced input, not a reduced reconstruction. The
gradient passes through z into the encoder, which alone can give up high frequencies. Terms are means, so `strength`
does not depend on the size. A step costs one more pass of the decoder over 1/s^2 of the area.

Frames of clips are reduced one by one. `temporal_factors` also reduces their number, by averaging r consecutive frames,
except the first frame, which a causal model encodes by itself. At a time stride of 4, 17 frames have 5 latent frames;
r = 2 reduces them to 9 frames and 3 latent frames.

We do not know the strengths that the paper tries. An independent implementation, LatentWaveletDiffusion, uses 0.25.
"""

import math
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field, NonNegativeFloat
from torch import Tensor

from ablate.components.regularizer._rescale import rescale
from ablate.slots import Autoencoder, Regularizer, RegularizerSettings, Step, added


class Config(RegularizerSettings):
    """`strength`: the term's factor in the training loss; 0 is the same as `none`.

    `factors`: by which sides are reduced; each step draws one.
    `resample`: `mean` averages blocks of s x s. `bilinear` (`align_corners=False`), `bilinear_ac` (`True`) and
    `bicubic` sample few points of a block, so that at a factor of 4 they alias the frequencies that the term is to
    suppress; `bicubic_aa` is antialiased. The authors' code offers `mean` and `bilinear_ac`.
    `temporal_factors`: by which the number of frames after the first is reduced; each step draws one. Clips only.
    """

    strength: NonNegativeFloat
    factors: tuple[Annotated[int, Field(gt=1)], ...] = Field((2, 4), min_length=1)
    resample: Literal["mean", "bilinear", "bilinear_ac", "bicubic", "bicubic_aa"] = "mean"
    temporal_factors: tuple[Annotated[int, Field(gt=0)], ...] = added((), absent_means=[])

    @property
    def latent_multiple(self) -> int:
        """Sides of latents must be multiples of this."""
        return math.lcm(*self.factors)

    def smallest_latent(self, side: int) -> int:
        """The smallest side of latents that the decoder is given."""
        return side // max(self.factors)

    @property
    def latent_frames_multiple(self) -> int:
        """The number of latent frames after the first must be a multiple of this; 1 also fits pictures."""
        return math.lcm(*self.temporal_factors)


def build(config: Config) -> Regularizer:
    def penalty(vae: Autoencoder, step: Step) -> Tensor:
        """The weighted loss, a scalar. Raises ValueError if the factor does not divide the latents."""
        rng = np.random.default_rng(step.seed_of("scale"))
        factor = int(rng.choice(config.factors))
        frames = int(rng.choice(config.temporal_factors)) if config.temporal_factors else 1

        def reduced(v: Tensor) -> Tensor:
            return fewer_frames(rescale(v, 1, factor, config.resample), frames)

        with step.precision():
            y = vae.decode(reduced(step.z.float()))
        return config.strength * step.compare(reduced(step.x), y)

    return penalty


def fewer_frames(x: Tensor, by: int) -> Tensor:
    """Average every `by` frames of `b c t h w` after the first, which is kept: `b c 1+(t-1)/by h w`.

    Raises ValueError if `by` does not divide the number of frames after the first.
    """
    if by == 1:
        return x
    if x.ndim != 5 or (x.shape[2] - 1) % by:
        raise ValueError(f"temporal_factors: the frames after the first of {tuple(x.shape)} cannot be reduced by {by}")
    return torch.cat([x[:, :, :1], x[:, :, 1:].unflatten(2, (-1, by)).mean(3)], 2)
