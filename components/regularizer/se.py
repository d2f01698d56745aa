"""Scale equivariance: the decoder is to turn latents at half or a quarter of their size into pictures of that size.

Skorokhodov et al., "Improving the Diffusability of Autoencoders", 2025 (arXiv 2502.14831). With P_s the reduction by s
along both axes, and s drawn from the factors once a step:

    strength * sum_k w_k l_k(D(P_s z), P_s x)

over the reconstruction terms l_k of the trial with their weights w_k. Neither the discriminator nor the KL divergence
enters, and perceptual distance not below 32 px. The target is the reduced input, not a reduced reconstruction. The
gradient passes through z into the encoder: only there can high frequencies be given up. Terms are means, so that
`strength` does not depend on the size. Each factor costs a pass of the decoder over 1/s^2 of the area. Frames of clips
are reduced each by itself, and with `temporal_factors` their number as well, by means of r frames in a row: of all but
the first, which a causal model holds alone. At a time stride of 4, 17 frames have 5 latents; r = 2 makes 3 of 9 frames.

The strengths that the paper tries are not known to us. An independent implementation, LatentWaveletDiffusion, has 0.25.
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

    `factors`: by which sides are reduced, one of them in each step.
    `resample`: `mean` averages blocks of s x s. `bilinear` (`align_corners=False`), `bilinear_ac` (`True`) and
    `bicubic` take few points of a block and alias by 4 the frequencies that the term is to suppress; `bicubic_aa` is
    antialiased. The authors' code offers `mean` and `bilinear_ac`.
    `temporal_factors`: by which the frames after the first are reduced, one of them in each step; of clips alone.
    """

    strength: NonNegativeFloat
    factors: tuple[Annotated[int, Field(gt=1)], ...] = Field((2, 4), min_length=1)
    resample: Literal["mean", "bilinear", "bilinear_ac", "bicubic", "bicubic_aa"] = "mean"
    temporal_factors: tuple[Annotated[int, Field(gt=0)], ...] = added((), absent_means=[])

    @property
    def latent_multiple(self) -> int:
        """Sides of latents are to be multiples of this."""
        return math.lcm(*self.factors)

    def smallest_latent(self, side: int) -> int:
        """The least side of latents that the decoder is given."""
        return side // max(self.factors)

    @property
    def latent_frames_multiple(self) -> int:
        """Latent frames after the first are to be a multiple of this; 1 asks nothing, of pictures neither."""
        return math.lcm(*self.temporal_factors)


def build(config: Config) -> Regularizer:
    def penalty(vae: Autoencoder, step: Step) -> Tensor:
        """The weighted loss, a scalar. Raises ValueError where the factor does not divide the latents."""
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
    """`b c t h w` with the mean of each `by` frames in place of them, the first left as it is: `b c 1+(t-1)/by h w`.

    Raises ValueError where `by` does not divide the frames after the first.
    """
    if by == 1:
        return x
    if x.ndim != 5 or (x.shape[2] - 1) % by:
        raise ValueError(f"temporal_factors: the frames after the first of {tuple(x.shape)} cannot be reduced by {by}")
    return torch.cat([x[:, :, :1], x[:, :, 1:].unflatten(2, (-1, by)).mean(3)], 2)
