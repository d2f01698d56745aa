"""Distances between two sets of pictures, in features of a network.

The Fréchet distance depends on the number of pictures: for two sets of N draws from one Gaussian of unit variance in d
dimensions it is not 0 but about d (d + 1) / (2 N) + 2 d / N, see `null_frechet`.
"""

import math
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

DIRECTIONS = 256  # of `sliced_wasserstein`


class RandomFeatures(nn.Module):
    """64 features of a random convolutional network: pictures `n 3 h w` in [0, 1] to `n 64`.

    The responses of three layers, averaged over the picture and mixed by a random rotation. The weights come from a
    fixed seed, so the numbers of all studies on one set of pictures are comparable. The features respond to colour and
    texture, not to content: use them to rank treatments on one set of pictures, not as an absolute score (no FID).
    """

    size = 64
    widths = (32, 64, 128)
    rotation: Tensor

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)
            pairs = pairwise((3, *self.widths))
            self.convs = nn.ModuleList(nn.Conv2d(before, after, 3, stride=2, padding=1) for before, after in pairs)
            for conv in self.convs:
                nn.init.kaiming_normal_(conv.weight)  # type: ignore[arg-type]
            rotation, _ = torch.linalg.qr(torch.randn(sum(self.widths), self.size))
        self.register_buffer("rotation", rotation)
        self.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        h = x * 2 - 1
        means = []
        for conv in self.convs:
            h = F.relu(conv(h))
            means.append(h.mean((2, 3)))
        features: Tensor = torch.cat(means, 1) @ self.rotation
        return features


def frechet(a: Tensor, b: Tensor) -> float:
    """|m_a - m_b|^2 + tr(S_a + S_b - 2 (S_a S_b)^(1/2)) of features `n d`; Heusel et al., 2017 (arXiv 1706.08500).

    NaN where a feature is not finite.
    """
    if not (a.isfinite().all() and b.isfinite().all()):
        return math.nan
    a = a.cpu().double()
    b = b.cpu().double()
    first = torch.cov(a.T)
    second = torch.cov(b.T)
    values, vectors = torch.linalg.eigh(first)
    root = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    shared = torch.linalg.eigvalsh(root @ second @ root).clamp(min=0).sqrt().sum()
    distance: Tensor = (a.mean(0) - b.mean(0)).square().sum() + first.trace() + second.trace() - 2 * shared
    return distance.item()


def null_frechet(dimensions: int, count: int) -> float:
    """The expected `frechet` of two sets of `count` draws from one standard normal distribution, approximately."""
    return dimensions * (dimensions + 1) / (2 * count) + 2 * dimensions / count


def kernel_distance(a: Tensor, b: Tensor) -> float:
    """Unbiased squared maximum mean discrepancy with the kernel (a·b/d + 1)^3 of KID (Bińkowski et al., 2018).

    For features `n d`. Its mean is 0 for two sets from one distribution, whatever the number of pictures.
    """
    a = a.cpu().double()
    b = b.cpu().double()

    def kernel(x: Tensor, y: Tensor) -> Tensor:
        return (x @ y.T / x.shape[1] + 1) ** 3

    def mean_off_diagonal(x: Tensor) -> Tensor:
        values = kernel(x, x)
        return (values.sum() - values.trace()) / (len(x) * (len(x) - 1))

    distance: Tensor = mean_off_diagonal(a) + mean_off_diagonal(b) - 2 * kernel(a, b).mean()
    return distance.item()


def sliced_wasserstein(a: Tensor, b: Tensor) -> float:
    """Squared 2-Wasserstein distance, averaged over 256 fixed random directions; features `n d` with equal n."""
    directions = torch.randn(a.shape[1], DIRECTIONS, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    directions = directions / directions.norm(dim=0)
    first, second = ((x.cpu().double() @ directions).sort(0).values for x in (a, b))
    distance: Tensor = (first - second).square().mean()
    return distance.item()
