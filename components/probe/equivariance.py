"""Equivariance: do encoder and decoder commute with scaling, rotation and moves of the picture?

Error of E(T x) against T E(x), and of D(T z) against T D(z), z the posterior mean: squares summed over all pictures,
over the variance of E(T x) and of T D(z) within channels, also summed. 0: commutes. EQ-VAE (arXiv 2502.09509, appendix
C) defines the former and divides by the power of E(T x) with its offset; without a normalisation the error would follow
the latent's scale, and with an offset in it, the offset. So these numbers do not compare with published ones.

Scaling is the mean of squares of 2 x 2 or 4 x 4, as in "Improving the Diffusability of Autoencoders" (arXiv
2502.14831), whose regulariser asks of the decoder what `equi/dec_scale*` measure. Rotation is by 90 degrees. The move,
by one stride, is compared in the middle, a quarter of the side from the border: a convolutional model commutes with it
but for what normalisation and attention see of the context, so it is the control.

What the numbers do not tell: a latent without detail commutes with everything. An explicit penalty on such an error
gives the lowest errors and ruins the model (EQ-VAE, table 7).
"""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from ablate.components.probe._latents import factor, some
from ablate.components.shared.measure import sheet
from ablate.slots import Metric, Probe, ProbeResult, ProbeSettings, Subject

METRICS = (
    Metric("equi/dec_scale2", "1", "down", "decoder: error of decoding the latent at half its size", decimals=3),
    Metric("equi/dec_scale4", "1", "down", "the same at a quarter; latents of 16 x 16 or more", decimals=3),
    Metric("equi/dec_rot90", "1", "down", "the same for a rotation by 90 degrees", decimals=3),
    Metric("equi/dec_shift", "1", "down", "the same for a move by one stride, as a control", decimals=3),
    Metric("equi/enc_scale2", "1", "down", "encoder: error of encoding the picture at half its size", decimals=3),
    Metric("equi/enc_scale4", "1", "down", "the same at a quarter; latents of 16 x 16 or more", decimals=3),
    Metric("equi/enc_rot90", "1", "down", "the same for a rotation by 90 degrees", decimals=3),
    Metric("equi/enc_shift", "1", "down", "the same for a move by one stride, as a control", decimals=3),
)


LEAST = 4
"""Positions along the side of a scaled latent: fewer, and models see little but their padding."""


TINY = torch.finfo(torch.float64).tiny


Transform = Callable[[Tensor], Tensor]


class Config(ProbeSettings):
    """No settings: numbers of all studies are comparable."""

    def smallest(self, stride: int) -> int:
        """Side in px from which on the first metric is reported, for a model of that stride."""
        return 8 * stride


def build(config: Config) -> Probe:
    return examine


def examine(subject: Subject) -> ProbeResult:
    """Of up to 16 pictures, cropped to what can be scaled. Reports nothing for latents under 8 x 8.

    Picture: pictures at half the size | their reconstruction, made smaller | what the smaller latent decodes to.
    """
    scales = [s for s in (2, 4) if subject.posterior.mean.shape[-1] // s >= LEAST]
    if not scales:
        return ProbeResult({})
    x, z, y = some(subject, scales[-1])
    transforms: dict[str, Transform] = {f"scale{s}": partial(F.avg_pool2d, kernel_size=s) for s in scales}
    transforms["rot90"] = partial(torch.rot90, dims=(2, 3))
    pairs: dict[str, tuple[Tensor, Tensor]] = {}
    for name, transform in transforms.items():
        pairs[f"equi/dec_{name}"] = transform(y), subject.decode(transform(z))
        pairs[f"equi/enc_{name}"] = subject.encode(transform(x)).mean, transform(z)

    step = factor(subject)
    moved_x, moved_z, moved_y = x[..., step:, step:], z[..., 1:, 1:], y[..., step:, step:]
    pairs["equi/dec_shift"] = _middle(moved_y), _middle(subject.decode(moved_z))
    pairs["equi/enc_shift"] = _middle(subject.encode(moved_x).mean), _middle(moved_z)
    return ProbeResult(
        metrics={name: error(*pair) for name, pair in pairs.items()},
        pictures={"equivariance_half": sheet(transforms["scale2"](x), *pairs["equi/dec_scale2"])},
    )


def error(expected: Tensor, found: Tensor) -> float:
    """Squared difference of `n c h w` over the variance of what is expected within channels, both summed."""
    expected, found = expected.cpu().double(), found.cpu().double()
    spread = expected - expected.mean((0, 2, 3), keepdim=True)
    return ((found - expected).square().sum() / (spread.square().sum() + TINY)).item()


def _middle(x: Tensor) -> Tensor:
    """The middle half of `n c s s` along each side."""
    margin = x.shape[-1] // 4
    return x[..., margin:-margin, margin:-margin]
