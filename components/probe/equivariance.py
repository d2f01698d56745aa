"""Equivariance: how well encoder and decoder commute with scaling, rotation and shifts of the picture.

The error compares E(T x) with T E(x), and D(T z) with T D(z), z being the posterior mean: the squared difference summed
over all pictures, divided by the likewise summed variance of E(T x), or of T D(z), within channels. 0 means that they
commute. EQ-VAE (arXiv 2502.09509, appendix C) defines the encoder's error and divides by the power of E(T x) with its
offset. Without normalisation the error would depend on the latent's scale, and with the offset included on the offset.
These numbers are therefore not comparable with published ones.

Scaling averages squares of 2 x 2 or 4 x 4, as in "Improving the Diffusability of Autoencoders" (arXiv 2502.14831),
whose regulariser trains the decoder for what `equi/dec_scale*` measures. Rotation is by 90 degrees. The shift is by one
stride and is compared in the middle, a quarter of the side from the border. A convolutional model commutes with it
except for what normalisation and attention see of the context, so it is the control.

A latent without detail commutes with everything, so low errors alone are no merit: an explicit penalty on such an error
gives the lowest errors and ruins the model (EQ-VAE, table 7).
"""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from ablate.components.probe._latents import pixels_per_position, subset
from ablate.components.shared.measure import sheet
from ablate.slots import Metric, Probe, ProbeResult, ProbeSettings, Subject

METRICS = (
    Metric(
        "equi/dec_scale2",
        "1",
        "down",
        "decoder: error of decoding the latent at half its size",
        decimals=3,
        interest=0.02,
    ),
    Metric(
        "equi/dec_scale4", "1", "down", "the same at a quarter; latents of 16 x 16 or more", decimals=3, interest=0.02
    ),
    Metric("equi/dec_rot90", "1", "down", "the same for a rotation by 90 degrees", decimals=3, interest=0.02),
    Metric(
        "equi/dec_shift", "1", "down", "the same for a shift by one stride, as a control", decimals=3, interest=0.02
    ),
    Metric(
        "equi/enc_scale2",
        "1",
        "down",
        "encoder: error of encoding the picture at half its size",
        decimals=3,
        interest=0.02,
    ),
    Metric(
        "equi/enc_scale4", "1", "down", "the same at a quarter; latents of 16 x 16 or more", decimals=3, interest=0.02
    ),
    Metric("equi/enc_rot90", "1", "down", "the same for a rotation by 90 degrees", decimals=3, interest=0.02),
    Metric(
        "equi/enc_shift", "1", "down", "the same for a shift by one stride, as a control", decimals=3, interest=0.02
    ),
)


LEAST = 4
"""Smallest side of a scaled latent in positions: with fewer, models see little but their padding."""


TINY = torch.finfo(torch.float64).tiny  # avoids 0/0


Transform = Callable[[Tensor], Tensor]


class Config(ProbeSettings):
    """No settings, so that the numbers of all studies are comparable."""

    def smallest(self, stride: int) -> int:
        """Smallest side in px at which the first metric is reported, for a model of this stride."""
        return 8 * stride


def build(config: Config) -> Probe:
    return examine


def examine(subject: Subject) -> ProbeResult:
    """Uses up to 16 pictures, cropped to what can be scaled. Reports nothing for latents under 8 x 8.

    Picture: pictures at half the size | their reconstructions at half the size | decodings of the halved latents.
    """
    scales = [s for s in (2, 4) if subject.posterior.mean.shape[-1] // s >= LEAST]
    if not scales:
        return ProbeResult({})
    x, z, y = subset(subject, scales[-1])

    # scaling and rotation
    transforms: dict[str, Transform] = {f"scale{s}": partial(F.avg_pool2d, kernel_size=s) for s in scales}
    transforms["rot90"] = partial(torch.rot90, dims=(2, 3))
    pairs: dict[str, tuple[Tensor, Tensor]] = {}
    for name, transform in transforms.items():
        pairs[f"equi/dec_{name}"] = transform(y), subject.decode(transform(z))
        pairs[f"equi/enc_{name}"] = subject.encode(transform(x)).mean, transform(z)

    # shift by one stride
    step = pixels_per_position(subject)
    moved_x = x[..., step:, step:]
    moved_z = z[..., 1:, 1:]
    moved_y = y[..., step:, step:]
    pairs["equi/dec_shift"] = _middle(moved_y), _middle(subject.decode(moved_z))
    pairs["equi/enc_shift"] = _middle(subject.encode(moved_x).mean), _middle(moved_z)
    return ProbeResult(
        metrics={name: error(*pair) for name, pair in pairs.items()},
        pictures={"equivariance_half": sheet(transforms["scale2"](x), *pairs["equi/dec_scale2"])},
    )


def error(expected: Tensor, actual: Tensor) -> float:
    """Sum of squared differences of `n c h w` over the summed variance of the expected values within channels."""
    expected = expected.cpu().double()
    actual = actual.cpu().double()
    spread = expected - expected.mean((0, 2, 3), keepdim=True)
    return ((actual - expected).square().sum() / (spread.square().sum() + TINY)).item()


def _middle(x: Tensor) -> Tensor:
    """The middle half of `n c s s` along each side."""
    margin = x.shape[-1] // 4
    return x[..., margin:-margin, margin:-margin]
