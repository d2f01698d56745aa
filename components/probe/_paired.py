"""Distances in features between pictures and their reconstructions, row i of one set to row i of the other.

Both are 0 for equal sets. Both compare distributions, so that errors which cancel over the pictures are not seen.
"""

import math
from collections.abc import Callable

import torch
from scipy.stats import t as student
from torch import Tensor

from ablate.components.probe._distance import frechet

GROUPS = 20
"""Into which the jackknife divides the pictures."""


def paired_frechet(a: Tensor, b: Tensor) -> float:
    """`frechet` of features `n d`; of fewer pictures than features in n^3 steps instead of d^3.

    S_a = X^T X / (n - 1) and S_b = Y^T Y / (n - 1) of centred features X and Y, so that S_a S_b has the eigenvalues of
    (X Y^T)(X Y^T)^T / (n - 1)^2 apart from zeros, and tr (S_a S_b)^(1/2) is the sum of the singular values of X Y^T
    over n - 1. NaN where a feature is not finite.
    """
    count, dimensions = a.shape
    if count > dimensions or not (a.isfinite().all() and b.isfinite().all()):
        return frechet(a, b)
    a, b = a.cpu().double(), b.cpu().double()
    first, second = a - a.mean(0), b - b.mean(0)
    spread = first.square().sum() + second.square().sum() - 2 * torch.linalg.svdvals(first @ second.T).sum()
    distance: Tensor = (a.mean(0) - b.mean(0)).square().sum() + spread / (count - 1)
    return distance.item()


def paired_kernel_distance(a: Tensor, b: Tensor) -> float:
    """Squared maximum mean discrepancy of features `n d` with KID's kernel (x·y/d + 1)^3, without bias.

    Gretton et al., "A Kernel Two-Sample Test", JMLR 13, 2012, lemma 6: the mean of k(a_i, a_j) + k(b_i, b_j) - k(a_i,
    b_j) - k(a_j, b_i) over i ≠ j. It compares no picture with its own reconstruction, which would bias the distance
    downwards as the two are not independent. Kernel: Bińkowski et al., 2018 (arXiv 1801.01401).
    """
    a, b = a.cpu().double(), b.cpu().double()

    def kernel(x: Tensor, y: Tensor) -> Tensor:
        return (x @ y.T / x.shape[1] + 1) ** 3

    across = kernel(a, b)
    values = kernel(a, a) + kernel(b, b) - across - across.T
    distance: Tensor = (values.sum() - values.trace()) / (len(a) * (len(a) - 1))
    return distance.item()


def half_interval(distance: Callable[[Tensor, Tensor], float], a: Tensor, b: Tensor) -> float:
    """Half of the 95 % interval of a distance over pictures, for other pictures of the same kind and number.

    By the jackknife over groups of pictures (Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter
    11): each group is left out once, with its reconstructions. A bootstrap would repeat pictures, which lowers the rank
    of covariances. The interval does not cover the bias that a Fréchet distance of few pictures has.
    """
    groups = min(GROUPS, len(a))
    number = torch.arange(len(a)) % groups
    values = torch.tensor([distance(a[number != group], b[number != group]) for group in range(groups)])
    error = math.sqrt((groups - 1) * values.var(correction=0).item())
    return float(student.ppf(0.975, groups - 1)) * error
