"""Intrinsic dimension: how many directions do latents vary in, near each other and altogether?

`idim/twonn` is that of Facco, d'Errico, Rodriguez & Laio, "Estimating the intrinsic dimension of datasets by a minimal
neighborhood information", Scientific Reports 7, 2017: where points lie on a d-dimensional manifold, the ratio mu of the
distances to a point's second and first neighbour has P(mu > m) = m^-d. The points are latent vectors of single
positions (posterior means), 2048 of them at most, drawn once from all positions of all pictures; so it hardly exceeds
the number of channels. EQ-VAE (arXiv 2502.09509, table 5) reports 39 to 62 for a latent of 4 channels, hence not of
single positions: another number. It depends on the number of points, and in a smooth latent a position's neighbours
are those beside it, so that it tends to 2.

`idim/viv` is the variance of the velocity that a flow-matching model must predict and cannot, from "Diffusing in the
Right Space" (arXiv 2606.03578). For a Gaussian with eigenvalues l of its covariance, on the straight path to white
noise, it is the sum of l / ((1 - t)^2 + t^2 l), and its integral over t is pi/2 times the sum of sqrt(l); here the mean
over dimensions, of channels scaled to variance 1: pi/2 for white noise, less the more is shared between positions and
channels. The covariance is taken for a Kronecker product of one of positions and one of channels, as there. What
differs from there: both factors are averages over the other index, since a fit by maximum likelihood (flip-flop) of a
latent that is no such product may have several times its variance; the Gaussian is one for all pictures, not one per
class; and the latent is cut into windows of 8 x 8, so that latents of all sizes compare. So the numbers are not those
of that paper. Structure beyond 8 positions is not seen, nor anything that is not Gaussian.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from ablate.components.shared.measure import sheet
from ablate.slots import Metric, Probe, ProbeResult, ProbeSettings, Subject

METRICS = (
    Metric("idim/twonn", "1", "none", "dimension of latent vectors of single positions, by two nearest neighbours"),
    Metric("idim/viv", "1", "down", "variance of the velocity left to a Gaussian model, mean; pi/2 for white noise"),
)


WINDOW = 8


POINTS = 2048


PICTURES = 4


TINY = torch.finfo(torch.float64).tiny


FITTED = 0.9
"""The share of points of smallest ratio that the line is fitted to, as in the paper: the largest are unreliable."""


class Config(ProbeSettings):
    """No settings: numbers of all studies are comparable."""

    def smallest(self, stride: int) -> int:
        """Side in px from which on the first metric is reported, for a model of that stride."""
        return 8 * stride  # a window


def build(config: Config) -> Probe:
    return examine


def examine(subject: Subject) -> ProbeResult:
    """Reports nothing for latents under 8 x 8, and no `idim/viv` of too few windows to fit the covariance to.

    Picture: pictures beside the first three principal components of their latents, as red, green and blue.
    """
    z = subject.posterior.mean.cpu().double()
    if z.shape[-1] < WINDOW:
        return ProbeResult({})
    vectors = z.transpose(1, 3).flatten(0, 2)
    chosen = torch.randperm(len(vectors), generator=torch.Generator().manual_seed(0))[:POINTS]
    metrics = {"idim/twonn": two_nearest_neighbours(vectors[chosen])}
    windows = z.unfold(2, WINDOW, WINDOW).unfold(3, WINDOW, WINDOW)  # n z rows columns 8 8
    windows = windows.permute(0, 2, 3, 1, 4, 5).flatten(4).flatten(0, 2)  # m z 64
    count, channels, positions = windows.shape
    if count * channels >= 2 * positions and count * positions >= 2 * channels:
        metrics["idim/viv"] = irreducible_variance(windows)
    shown = enlarge(components(z[:PICTURES]), subject.images.shape[-1])
    return ProbeResult(metrics, pictures={"latent_pca": sheet(subject.images[:PICTURES].cpu(), shown)})


def components(z: Tensor) -> Tensor:
    """The first three principal components of latent vectors `n z h w`, each from 0 to 1 over 2 sds either way."""
    n, channels, height, width = z.shape
    vectors = z.transpose(0, 1).flatten(1)
    vectors = vectors - vectors.mean(1, keepdim=True)
    if not vectors.isfinite().all():
        return torch.full((n, 3, height, width), math.nan)
    values, axes = torch.linalg.eigh(vectors @ vectors.T / vectors.shape[1])
    axes = axes * torch.where(axes.sum(0) < 0, -1.0, 1.0)  # an axis has no sign of its own
    count = min(3, channels)
    scores = axes[:, -count:].flip(1).T @ vectors / (values[-count:].flip(0)[:, None].clamp(min=TINY).sqrt())
    shown = F.pad(scores, (0, 0, 0, 3 - count)).view(3, n, height, width).transpose(0, 1)
    return (shown / 4 + 0.5).clamp(0, 1)


def enlarge(x: Tensor, side: int) -> Tensor:
    """Each place of `n c s s` as a square, cut to `side` px."""
    factor = -(-side // x.shape[-1])
    return x.repeat_interleave(factor, 2).repeat_interleave(factor, 3)[..., :side, :side].float()


def two_nearest_neighbours(points: Tensor) -> float:
    """Intrinsic dimension of `n d`: the slope through 0 of -log(1 - F(mu)) over log mu, F the empirical distribution.

    Points that have an equal are left out; NaN where fewer than two remain, or one is not finite.
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
    """pi/2 times the mean of sqrt(eigenvalues) of the covariance of `m c p`, channels scaled to variance 1.

    The eigenvalues of a Kronecker product are the products, so the mean over all is the product of the means. A channel
    that never varies counts as eigenvalues of 0. NaN where a value is not finite.
    """
    if not windows.isfinite().all():
        return math.nan
    centred = windows - windows.mean((0, 2), keepdim=True)
    scaled = centred / centred.std((0, 2), correction=0, keepdim=True).clamp(min=torch.finfo(torch.float64).tiny)
    eigenvalues: list[Tensor] = [torch.linalg.eigvalsh(part) for part in kronecker(scaled)]
    of_positions, of_channels = (values.clamp(min=0).sqrt().mean().item() for values in eigenvalues)
    return math.pi / 2 * of_positions * of_channels


def kronecker(windows: Tensor) -> tuple[Tensor, Tensor]:
    """Covariances of positions `p p` and of channels `c c` of centred `m c p`; their product has its variance."""
    count, channels, positions = windows.shape
    rows, columns = windows.flatten(0, 1), windows.transpose(1, 2).flatten(0, 1)
    of_positions = rows.T @ rows / (count * channels)
    of_channels = columns.T @ columns / (count * positions)
    variance = of_positions.diagonal().mean().clamp(min=torch.finfo(windows.dtype).tiny)
    return of_positions / variance, of_channels
