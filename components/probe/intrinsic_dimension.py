"""Intrinsic dimension: in how many directions latents vary, locally and overall.

`idim/twonn` is the estimator of Facco, d'Errico, Rodriguez & Laio, "Estimating the intrinsic dimension of datasets by a
minimal neighborhood information", Scientific Reports 7, 2017: for points on a d-dimensional manifold, the ratio mu of
the distances to a point's second and first neighbour has P(mu > m) = m^-d. The points are latent vectors of single
positions (posterior means), at most 2048, drawn once from all positions of all pictures, so the estimate hardly exceeds
the number of channels. EQ-VAE (arXiv 2502.09509, table 5) reports 39 to 62 for a latent of 4 channels, which cannot be
of single positions, so it is another number. The estimate depends on the number of points. In a smooth latent the
nearest neighbours of a vector are those beside it in the picture, so the estimate tends to 2.

`idim/viv` is the irreducible variance of the velocity that a flow-matching model must predict, from "Diffusing in the
Right Space" (arXiv 2606.03578). For a Gaussian whose covariance has eigenvalues l, on the straight path to white noise,
it is the sum of l / ((1 - t)^2 + t^2 l), and its integral over t is pi/2 times the sum of sqrt(l). Reported here is the
mean over dimensions, with channels scaled to variance 1: pi/2 for white noise, and less the more positions and channels
are correlated. As in the paper, the covariance is assumed to be a Kronecker product of one of positions and one of
channels. Three things differ from the paper, so the numbers are not comparable with it. Both factors are averages over
the other index, since a maximum-likelihood fit (flip-flop) of a latent that is no such product may have several times
its variance. There is one Gaussian for all pictures, not one per class. And the latent is cut into windows of 8 x 8, so
that latents of all sizes are comparable. Structure beyond 8 positions, or that is not Gaussian, is not measured.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from ablate.components.shared.measure import sheet
from ablate.slots import Metric, Probe, ProbeResult, ProbeSettings, Subject

METRICS = (
    Metric(
        "idim/twonn",
        "1",
        "none",
        "dimension of latent vectors of single positions, by two nearest neighbours",
        interest=0.5,
    ),
    Metric(
        "idim/viv",
        "1",
        "down",
        "velocity variance that a Gaussian model cannot predict, mean; pi/2 for white noise",
        interest=0.05,
    ),
)


WINDOW = 8  # positions along each side


POINTS = 2048


PICTURES = 4  # shown with the components of their latents


TINY = torch.finfo(torch.float64).tiny  # avoids 0/0


FITTED = 0.9
"""Share of points, of smallest ratio, that the line is fitted to, as in the paper: the largest are unreliable."""


class Config(ProbeSettings):
    """No settings, so that the numbers of all studies are comparable."""

    def smallest(self, stride: int) -> int:
        """Smallest side in px at which the first metric is reported, for a model of this stride."""
        return 8 * stride  # a window


def build(config: Config) -> Probe:
    return examine


def examine(subject: Subject) -> ProbeResult:
    """Reports nothing for latents under 8 x 8, and no `idim/viv` with too few windows to fit the covariance.

    Picture: pictures beside the first three principal components of their latents, as red, green and blue.
    """
    z = subject.posterior.mean.cpu().double()
    if z.shape[-1] < WINDOW:
        return ProbeResult({})

    # local dimension, of single positions
    vectors = z.transpose(1, 3).flatten(0, 2)
    chosen = torch.randperm(len(vectors), generator=torch.Generator().manual_seed(0))[:POINTS]
    metrics = {"idim/twonn": two_nearest_neighbours(vectors[chosen])}

    # overall dimension, of windows
    windows = z.unfold(2, WINDOW, WINDOW).unfold(3, WINDOW, WINDOW)  # n z rows columns 8 8
    windows = windows.permute(0, 2, 3, 1, 4, 5).flatten(4).flatten(0, 2)  # m z 64
    count, channels, positions = windows.shape
    if count * channels >= 2 * positions and count * positions >= 2 * channels:
        metrics["idim/viv"] = irreducible_variance(windows)
    shown = enlarge(components(z[:PICTURES]), subject.images.shape[-1])
    return ProbeResult(metrics, pictures={"latent_pca": sheet(subject.images[:PICTURES].cpu(), shown)})


def components(z: Tensor) -> Tensor:
    """The first three principal components of latent vectors `n z h w`; 0 to 1 spans 2 sds either way of the mean."""
    n, channels, height, width = z.shape
    vectors = z.transpose(0, 1).flatten(1)
    vectors = vectors - vectors.mean(1, keepdim=True)
    if not vectors.isfinite().all():
        return torch.full((n, 3, height, width), math.nan)
    values, axes = torch.linalg.eigh(vectors @ vectors.T / vectors.shape[1])
    axes = axes * torch.where(axes.sum(0) < 0, -1.0, 1.0)  # the sign of an axis is arbitrary
    count = min(3, channels)
    scores = axes[:, -count:].flip(1).T @ vectors / (values[-count:].flip(0)[:, None].clamp(min=TINY).sqrt())
    shown = F.pad(scores, (0, 0, 0, 3 - count)).view(3, n, height, width).transpose(0, 1)
    return (shown / 4 + 0.5).clamp(0, 1)


def enlarge(x: Tensor, side: int) -> Tensor:
    """Enlarge each position of `n c s s` to a square, and crop to `side` px."""
    factor = -(-side // x.shape[-1])
    return x.repeat_interleave(factor, 2).repeat_interleave(factor, 3)[..., :side, :side].float()


def two_nearest_neighbours(points: Tensor) -> float:
    """Intrinsic dimension of `n d`: slope through 0 of -log(1 - F(mu)) over log mu, F being the empirical distribution.

    Points with a duplicate are left out; NaN if fewer than two remain, or if a value is not finite.
    """
    if not points.isfinite().all():
        return math.nan
    distance = torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist")
    nearest = distance.fill_diagonal_(torch.inf).topk(2, largest=False).values
    first, second = nearest[nearest[:, 0] > 0].unbind(1)
    log_mu = (second / first).log().sort().values
    fitted = log_mu[: int(len(log_mu) * FITTED)]
    survival = -torch.log1p(-torch.arange(1, len(fitted) + 1, dtype=torch.float64) / len(log_mu))
    slope: Tensor = (fitted * survival).sum() / fitted.square().sum()
    return slope.item()


def irreducible_variance(windows: Tensor) -> float:
    """pi/2 times the mean of sqrt(eigenvalues) of the covariance of windows `m c p`, channels scaled to variance 1.

    The eigenvalues of a Kronecker product are the products of the factors', so the mean over all is the product of the
    means. A channel that never varies has eigenvalues of 0. NaN if a value is not finite.
    """
    if not windows.isfinite().all():
        return math.nan
    centred = windows - windows.mean((0, 2), keepdim=True)
    scaled = centred / centred.std((0, 2), correction=0, keepdim=True).clamp(min=torch.finfo(torch.float64).tiny)
    eigenvalues: list[Tensor] = [torch.linalg.eigvalsh(part) for part in kronecker(scaled)]
    of_positions, of_channels = (values.clamp(min=0).sqrt().mean().item() for values in eigenvalues)
    return math.pi / 2 * of_positions * of_channels


def kronecker(windows: Tensor) -> tuple[Tensor, Tensor]:
    """Covariances of positions `p p` and of channels `c c` of centred `m c p`; their product has the same variance."""
    count, channels, positions = windows.shape
    rows = windows.flatten(0, 1)
    columns = windows.transpose(1, 2).flatten(0, 1)
    of_positions = rows.T @ rows / (count * channels)
    of_channels = columns.T @ columns / (count * positions)
    variance = of_positions.diagonal().mean().clamp(min=torch.finfo(windows.dtype).tiny)
    return of_positions / variance, of_channels
