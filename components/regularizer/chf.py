"""Chopped high frequencies: latents without their highest frequencies must decode to pictures without theirs.

From the code released with Skorokhodov et al., "Improving the Diffusability of Autoencoders", 2025 (arXiv 2502.14831,
figure 5): scale equivariance as in `se`, at full size, with the reduction replaced by a cut C_r of the highest share r
of the coefficients of each block's cosine transform:

    strength * sum_k w_k l_k(D(C_r z), C_r x),   r uniform in [0, r_max), once a step

Blocks of x are f times as large as those of z, f being the model's stride, so there are as many blocks and each loses
the same share. The term costs one more full pass of the decoder.
"""

from typing import Literal

import numpy as np
from pydantic import Field, NonNegativeFloat
from torch import Tensor

from ablate.components.shared.dct import chop
from ablate.slots import Autoencoder, Regularizer, RegularizerSettings, Step


class Config(RegularizerSettings):
    """`strength`: the term's factor in the training loss; 0 is the same as `none`.

    `block`: side of the blocks of the latents. `r_max`: the largest share to erase; the authors' value is not known.
    `cut`: `zigzag` erases the last coefficients in JPEG's order; `square` keeps a corner of k x k and erases a share r
    of the frequencies of each axis, hence more of the coefficients: r of a half erases three quarters of them.
    """

    strength: NonNegativeFloat
    block: int = Field(8, gt=1)
    r_max: float = Field(0.5, gt=0, lt=1)
    cut: Literal["zigzag", "square"] = "zigzag"

    @property
    def latent_multiple(self) -> int:
        """Sides of latents must be multiples of this."""
        return self.block


def build(config: Config) -> Regularizer:
    def penalty(vae: Autoencoder, step: Step) -> Tensor:
        """The weighted loss, a scalar. Raises ValueError if the blocks do not fill the latents."""
        share = float(np.random.default_rng(step.seed_of("cut")).uniform(0, config.r_max))
        stride = step.x.shape[-1] // step.z.shape[-1]
        low = chop(step.z.float(), config.block, share, config.cut)
        with step.precision():
            y = vae.decode(low)
        return config.strength * step.compare(chop(step.x, config.block * stride, share, config.cut), y)

    return penalty
