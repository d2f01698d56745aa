"""Local correlation: neighbouring latent vectors are pulled to point the same way, up to a threshold.

SSVAE, 2025 (arXiv 2512.05394):

    strength * relu(threshold - rho)

with rho the Pearson correlation, over channels, of every two latent vectors in a window of 2 x 2 positions, averaged
over adjacent windows and pictures. On video the paper's windows span two frames. The paper multiplies the weight by an
adaptive ratio of gradients, which is left out here, so its weight of 0.02 is not comparable with `strength`.
"""

from pydantic import Field, NonNegativeFloat
from torch import Tensor
from torch.nn import functional as F

from ablate.slots import Autoencoder, Regularizer, RegularizerSettings, Step


class Config(RegularizerSettings):
    """`strength`: the term's factor in the training loss; 0 is the same as `none`.

    `threshold`: the correlation above which the term is 0.
    """

    strength: NonNegativeFloat
    threshold: float = Field(0.75, gt=-1, le=1)


def build(config: Config) -> Regularizer:
    def penalty(vae: Autoencoder, step: Step) -> Tensor:
        """The weighted loss, a scalar, in fp32. z is the posterior draw that the decoder sees."""
        return config.strength * F.relu(config.threshold - local_correlation(step.z.float()))

    return penalty


def local_correlation(z: Tensor) -> Tensor:
    """rho of latents `b c h w`, a scalar, without an odd last row or column.

    Vectors that are constant over the channels count as uncorrelated with all others.
    Raises ValueError for latents of one channel, or of a single row or column.
    """
    if min(z.shape[1:]) < 2:
        raise ValueError(f"lcr needs two channels and windows of 2 x 2, got latents of {tuple(z.shape[1:])} (c, h, w)")
    units = F.normalize(z - z.mean(1, keepdim=True), dim=1)
    h = z.shape[-2] // 2
    w = z.shape[-1] // 2
    windows = units[..., : 2 * h, : 2 * w].unflatten(-2, (h, 2)).unflatten(-1, (w, 2))  # b c h 2 w 2
    together = windows.sum((3, 5)).square().sum(1)
    alone = windows.square().sum((1, 3, 5))
    correlation: Tensor = ((together - alone) / 12).mean()  # 12 ordered pairs
    return correlation
