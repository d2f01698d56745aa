"""Local correlation: neighbouring latent vectors are to point the same way, up to a threshold.

SSVAE, 2025 (arXiv 2512.05394):

    strength * relu(threshold - rho)

with rho the mean of Pearson's correlation, over channels, of each two latent vectors in a window of 2 x 2 places, over
windows side by side and pictures. On video its windows span two frames. The paper multiplies the weight by an adaptive
ratio of gradients, which is left out here: its 0.02 is thus not this factor.
"""

from pydantic import Field, NonNegativeFloat
from torch import Tensor
from torch.nn import functional as F

from ablate.slots import Autoencoder, Regularizer, RegularizerSettings, Step


class Config(RegularizerSettings):
    """`strength`: the term's factor in the training loss; 0 is the same as `none`.

    `threshold`: the correlation from which on nothing is asked.
    """

    strength: NonNegativeFloat
    threshold: float = Field(0.75, gt=-1, le=1)


def build(config: Config) -> Regularizer:
    def penalty(vae: Autoencoder, step: Step) -> Tensor:
        """The weighted loss, a scalar, in fp32. z is the draw that the decoder sees."""
        return config.strength * F.relu(config.threshold - local_correlation(step.z.float()))

    return penalty


def local_correlation(z: Tensor) -> Tensor:
    """rho of latents `b c h w`, a scalar; an odd last row or column is left out. Constant vectors correlate with none.

    Raises ValueError for latents of one channel, or of a single row or column.
    """
    if min(z.shape[1:]) < 2:
        raise ValueError(f"lcr needs two channels and windows of 2 x 2, got latents of {tuple(z.shape[1:])} (c, h, w)")
    units = F.normalize(z - z.mean(1, keepdim=True), dim=1)
    h, w = z.shape[-2] // 2, z.shape[-1] // 2
    windows = units[..., : 2 * h, : 2 * w].unflatten(-2, (h, 2)).unflatten(-1, (w, 2))  # b c h 2 w 2
    together, alone = windows.sum((3, 5)).square().sum(1), windows.square().sum((1, 3, 5))
    correlation: Tensor = ((together - alone) / 12).mean()  # 12 ordered pairs
    return correlation
