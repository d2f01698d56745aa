"""Chopped high frequencies: the decoder is to turn latents without them into pictures without them.

From the code released with Skorokhodov et al., "Improving the Diffusability of Autoencoders", 2025 (arXiv 2502.14831,
figure 5): scale equivariance, see `se`, with the reduction replaced by a cut C_r of the highest share r of the
coefficients of each block's cosine transform, at full size:

    strength * sum_k w_k l_k(D(C_r z), C_r x),   r uniform in [0, r_max), once a step

Blocks of x are f times those of z, f the model's stride: as many blocks, and of each the same share. It costs a whole
further pass of the decoder.
"""

from typing import Literal

import numpy as np
from pydantic import Field, NonNegativeFloat
from torch import Tensor

from ablate.components.shared.dct import chop
from ablate.slots import Autoencoder, Regularizer, RegularizerSettings, Step


class Config(RegularizerSettings):
    """`strength`: the term's factor in the training loss; 0 is the same as `none`.

    `block`: side of the blocks of the latents. `r_max`: the largest share to erase; ours, the authors' is not known.
    `cut`: `zigzag` erases the last coefficients in JPEG's order; `square` keeps a corner of k x k, with r of the
    frequencies of each axis erased and thus more of the coefficients: half is three quarters.
    """

    strength: NonNegativeFloat
    block: int = Field(8, gt=1)
    r_max: float = Field(0.5, gt=0, lt=1)
    cut: Literal["zigzag", "square"] = "zigzag"

    @property
    def latent_multiple(self) -> int:
        """Sides of latents are to be multiples of this."""
        return self.block


def build(config: Config) -> Regularizer:
    def penalty(vae: Autoencoder, step: Step) -> Tensor:
        """The weighted loss, a scalar. Raises ValueError where the blocks do not fill the latents."""
        share = float(np.random.default_rng(step.seed_of("cut")).uniform(0, config.r_max))
        stride = step.x.shape[-1] // step.z.shape[-1]
        low = chop(step.z.float(), config.block, share, config.cut)
        with step.precision():
            y = vae.decode(low)
        return config.strength * step.compare(chop(step.x, config.block * stride, share, config.cut), y)

    return penalty
