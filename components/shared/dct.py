"""Orthonormal type-II discrete cosine transform of square blocks, and the cut of its high frequencies.

Ahmed, Natarajan and Rao, "Discrete Cosine Transform", 1974. Coefficient (u, v) of an n x n block: u counts half-waves
down the block, v across it. The zigzag order is JPEG's (ITU-T T.81, figure 5): (0, 0), (0, 1), (1, 0), (2, 0), (1, 1),
(0, 2) ... Nothing here synchronises with the GPU.
"""

from typing import Literal

import torch
from torch import Tensor

Cut = Literal["zigzag", "square"]


def dct_matrix(n: int, dtype: torch.dtype = torch.float64, device: torch.device | None = None) -> Tensor:
    """The transform matrix `n n` with orthonormal rows, `coefficients = matrix @ values`; computed in float64."""
    k = torch.arange(n, dtype=torch.float64, device=device)
    matrix: Tensor = torch.cos(torch.pi / n * (k + 0.5) * k[:, None]) * (2 / n) ** 0.5
    matrix[0] /= 2**0.5
    return matrix.to(dtype)


def blocks_dct(x: Tensor, n: int) -> Tensor:
    """Coefficients `b c h/n w/n n n` of the non-overlapping n x n blocks of `b c h w`, in the input's precision.

    Raises ValueError where n does not divide h and w.
    """
    h, w = x.shape[-2:]
    if h % n or w % n:
        raise ValueError(f"blocks of {n} do not fill {h} x {w}")
    matrix = dct_matrix(n, x.dtype, x.device)
    blocks = x.unflatten(-1, (w // n, n)).unflatten(-3, (h // n, n)).transpose(-3, -2)
    coefficients: Tensor = matrix @ blocks @ matrix.T
    return coefficients


def inverse_blocks_dct(coefficients: Tensor) -> Tensor:
    """Turn coefficients `b c h/n w/n n n` back into values `b c h w`."""
    matrix = dct_matrix(coefficients.shape[-1], coefficients.dtype, coefficients.device)
    blocks: Tensor = matrix.T @ coefficients @ matrix
    return blocks.transpose(-3, -2).flatten(-4, -3).flatten(-2)


def zigzag(n: int, device: torch.device | None = None) -> Tensor:
    """Zigzag order of the coefficients: flat indices `u n + v`, `n^2` int64, from low frequencies to high.

    `coefficients.flatten(-2)[..., zigzag(n)]` is in zigzag order; `zigzag(n).argsort()` is each coefficient's rank.
    """
    u = torch.arange(n, device=device)[:, None]
    diagonal = u + u.T
    along = torch.where(diagonal % 2 == 1, u, -u)  # odd diagonals run down and to the left, even ones up
    return (diagonal * 2 * n + along).flatten().argsort()


def kept(n: int, share: float, cut: Cut, device: torch.device | None = None) -> Tensor:
    """Mask `n n` of the coefficients that are kept when the highest `share` in [0, 1) of them is erased.

    `zigzag` keeps the first floor((1 - share) n^2) in that order. `square` keeps the lowest k x k with
    k = floor((1 - share) n), which is (k / n)^2 of the coefficients: half of the frequencies is a quarter of them.
    The mean of the block is always kept.
    """
    if cut == "zigzag":
        return (zigzag(n, device).argsort() < max(1, int((1 - share) * n * n))).view(n, n)
    low = torch.arange(n, device=device) < max(1, int((1 - share) * n))
    return low[:, None] & low


def chop(x: Tensor, n: int, share: float, cut: Cut = "zigzag") -> Tensor:
    """Erase the highest `share` of the coefficients of each n x n block of `b c h w`. Raises as `blocks_dct` does."""
    return inverse_blocks_dct(blocks_dct(x, n) * kept(n, share, cut, x.device))
