"""Fréchet distance between clips and their reconstructions, in features of a fixed random network or of I3D.

`frechet/random3d` needs no weights. Its network is three random 3D convolutions, the same for all models, and every
position in space and time is a sample, so it compares the distributions of local patterns in space and time. It is no
FVD and not comparable with published numbers.

`fvd` is reported if `i3d` names the TorchScript file that StyleGAN-V and most others use (Unterthiner et al., 2018;
Carreira and Zisserman's I3D trained on Kinetics-400). It is given frames resized bilinearly to 224 px, and its 400
logits are the features of a clip. FVD is only comparable within one implementation, for clips of equal length and
number: two common implementations differ by 10 %. Few clips bias it upwards, since their covariance is rank-deficient.
"""

from itertools import pairwise
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ablate.components.shared.measure import displayed
from ablate.slots import Metric, Probe, ProbeResult, ProbeSettings, Subject

METRICS = (
    Metric("frechet/random3d", "1", "down", "Fréchet distance in features of a random network, times 1000", decimals=3),
    Metric(
        "fvd", "1", "down", "Fréchet video distance, only where I3D is given", needs="the setting `i3d`", interest=10
    ),
)


CHANNELS = (3, 16, 32, 32)  # of the random network
STRIDES = ((1, 2, 2), (2, 2, 2), (1, 1, 1))


I3D_SIDE = 224
I3D_FRAMES = 10


BATCH = 8


class Config(ProbeSettings):
    """`i3d`: path of I3D as a TorchScript file. Loading it runs the code in it: use only files that you trust."""

    i3d: str | None = None

    def smallest(self, stride: int) -> int:
        """Smallest side in px at which the first metric is reported, for a model of this stride."""
        return -(-8 // stride) * stride

    def shortest(self) -> int:
        """Frames of a held-out clip from which on all metrics are reported."""
        return 5 if self.i3d is None else 13  # I3D_FRAMES + 3, so that whole groups of at least 10 frames are left

    def preflight(self) -> None:
        """Raise ValueError if the file of I3D is missing."""
        if self.i3d is not None and not Path(self.i3d).expanduser().is_file():
            raise ValueError(f"probe/frechet: there is no file {self.i3d}")


def build(config: Config) -> Probe:
    def examine(subject: Subject) -> ProbeResult:
        """Reports nothing without clips of two groups, and no FVD for fewer than 10 frames."""
        if subject.clips is None or subject.frames == 1:
            return ProbeResult({})
        x = subject.whole_clips
        y = displayed(subject.clip_reconstruction)
        metrics = {"frechet/random3d": 1000 * frechet_distance(random_features(x), random_features(y))}
        if config.i3d is not None and subject.frames >= I3D_FRAMES:
            i3d = torch.jit.load(str(Path(config.i3d).expanduser()), map_location=x.device).eval()
            metrics["fvd"] = frechet_distance(_logits(i3d, x), _logits(i3d, y))
        return ProbeResult(metrics)

    return examine


@torch.inference_mode()
def random_features(x: Tensor) -> Tensor:
    """Features of clips `n 3 t h w` in [0, 1] at every second frame and fourth pixel: `m 32`, float64 on the CPU."""
    generator = torch.Generator().manual_seed(0)
    weights = [
        torch.randn(after, before, 3, 3, 3, generator=generator) * (2 / (27 * before)) ** 0.5
        for before, after in pairwise(CHANNELS)
    ]
    features = []
    for h in (x * 2 - 1).split(BATCH):
        for weight, stride in zip(weights, STRIDES, strict=True):
            h = F.leaky_relu(F.conv3d(h, weight.to(h), stride=stride, padding=1), 0.2)
        features.append(h.transpose(0, 1).flatten(1).T.double().cpu())
    return torch.cat(features)


def frechet_distance(a: Tensor, b: Tensor) -> float:
    """Fréchet distance of Gaussians fitted to samples `m c`, float64: |difference|^2 + tr(A + B - 2 (AB)^(1/2)).

    A and B are the covariances, the difference is that of the means. NaN for samples that are not finite.
    """
    if not (a.isfinite().all() and b.isfinite().all()):
        return torch.nan
    shift = (a.mean(0) - b.mean(0)).square().sum()
    first = a.T.cov()
    second = b.T.cov()
    root = _root(first)
    cross = torch.linalg.eigvalsh(root @ second @ root).clamp(min=0).sqrt().sum()  # has the eigenvalues of AB
    distance: Tensor = shift + first.trace() + second.trace() - 2 * cross
    return max(0.0, distance.item())


def _root(covariance: Tensor) -> Tensor:
    """Symmetric square root of a covariance matrix."""
    values, vectors = torch.linalg.eigh(covariance)
    root: Tensor = vectors * values.clamp(min=0).sqrt() @ vectors.T
    return root


@torch.inference_mode()
def _logits(i3d: nn.Module, x: Tensor) -> Tensor:
    """I3D's logits of clips `n 3 t s s` in [0, 1]: `n 400`, float64 on the CPU."""
    logits = []
    for clips in x.split(BATCH):
        resized = F.interpolate(clips, (clips.shape[2], I3D_SIDE, I3D_SIDE), mode="trilinear", align_corners=False)
        logits.append(i3d(resized * 2 - 1, rescale=False, resize=False, return_features=True).double().cpu())
    return torch.cat(logits)
