"""Direct penalty on the high frequencies of latents: the higher the frequency, the larger the penalty.

From the code released with Skorokhodov et al., "Improving the Diffusability of Autoencoders", 2025 (arXiv 2502.14831),
on the orthonormal cosine transform of each block of z, the posterior draw that the decoder sees:

    strength * mean over all coefficients of |DCT(z)_uv| (u' + v')^power / 4,   u', v' = u, v / (block - 1)

The term falls with the magnitude of z as well as with its spectrum. If nothing holds the magnitude, the latents may
shrink and the decoder's first layer grow instead: see `normalize`.
"""

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat
from torch import Tensor

from ablate.components.shared.dct import blocks_dct
from ablate.slots import Autoencoder, Regularizer, RegularizerSettings, Step


class Config(RegularizerSettings):
    """`strength`: the penalty's factor in the training loss; 0 is the same as `none`.

    `block`: side of the blocks. `power`: how steeply the penalty rises with the frequency.
    `normalize`: first divide each channel by its standard deviation over the batch, so that the term does not depend on
    the magnitude of z; this is our addition.
    """

    strength: NonNegativeFloat
    block: int = Field(8, gt=1)
    power: PositiveFloat = 2.0
    normalize: bool = False

    @property
    def latent_multiple(self) -> int:
        """Sides of latents must be multiples of this."""
        return self.block


def build(config: Config) -> Regularizer:
    def penalty(vae: Autoencoder, step: Step) -> Tensor:
        """The weighted loss, a scalar, in fp32. Raises ValueError if the blocks do not fill the latents."""
        z = step.z.float()
        if config.normalize:
            z = z / (z.var((0, 2, 3), correction=0, keepdim=True) + 1e-12).sqrt()
        return config.strength * high_frequencies(z, config.block, config.power)

    return penalty


def high_frequencies(z: Tensor, block: int, power: float) -> Tensor:
    """Mean of the amplitudes of latents `b c h w`, weighted by frequency; a scalar."""
    frequency = torch.linspace(0, 1, block, dtype=z.dtype, device=z.device)
    weights = (frequency[:, None] + frequency) ** power / 4
    weighted: Tensor = blocks_dct(z, block).abs() * weights
    return weighted.mean()
