"""Radial spectra of images and of their reconstructions.

Power and cross power are summed over images and over rings of equal radial frequency. The cross power separates detail
that was kept from detail that was made up, because noise that a decoder adds is not in phase with the source.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601


TINY = torch.finfo(torch.float64).tiny  # avoids 0/0


@dataclass(frozen=True)
class Spectra:
    """Sums over rings, one entry per ring, float64 on the CPU; images in [0, 1].

    `frequency` in cycles/px: 1/side, 2/side ... up to 1/2. `white`: the sums that white noise of variance 1 would give.
    """

    frequency: Tensor
    source: Tensor
    reconstruction: Tensor
    cross: Tensor
    white: Tensor

    def band(self, low: float, high: float) -> Tensor:
        """Mask of the rings in (low, high]."""
        return (self.frequency > low) & (self.frequency <= high)

    def transfer(self) -> Tensor:
        """|sum conj(X) Y| / sum |X|^2 of each ring: the modulation transfer function, unaffected by added noise.

        Detail that has moved counts as lost.
        """
        return self.cross.abs() / self.source

    def coherence(self) -> Tensor:
        """|sum conj(X) Y|^2 / (sum |X|^2 sum |Y|^2) of each ring: the share of power linear in X."""
        ratio: Tensor = self.cross.square() / (self.source * self.reconstruction + TINY)
        return ratio


def luma(images: Tensor) -> Tensor:
    """Luma `n h w` of images `n 3 h w`, float64 on the CPU."""
    return torch.einsum("nchw,c->nhw", images.cpu().double(), torch.tensor(LUMA, dtype=torch.float64))


def radial_spectra(x: Tensor, y: Tensor) -> Spectra:
    """Spectra of the luma of sources x and reconstructions y, `n 3 s s`, under a Hann window, without their means.

    A ring is 1/side wide.
    """
    side = x.shape[-1]
    taper = torch.hann_window(side, dtype=torch.float64)
    window = taper * taper[:, None]

    def transform(images: Tensor) -> Tensor:
        values = luma(images)
        spectrum: Tensor = torch.fft.fft2((values - values.mean((-2, -1), keepdim=True)) * window)
        return spectrum

    # sum over images
    source, reconstruction, cross = torch.zeros(3, side, side, dtype=torch.float64)
    for pair in zip(x.split(8), y.split(8), strict=True):
        fx, fy = map(transform, pair)
        source += fx.abs().square().sum(0)
        reconstruction += fy.abs().square().sum(0)
        cross += (fx.conj() * fy).real.sum(0)  # the imaginary parts of opposite bins of a ring cancel

    # sum over rings
    steps = torch.fft.fftfreq(side, dtype=torch.float64) * side
    ring = torch.hypot(steps, steps[:, None]).round().long().flatten()
    rings = slice(1, side // 2 + 1)

    def over_rings(values: Tensor) -> Tensor:
        return torch.bincount(ring, values.flatten())[rings]

    return Spectra(
        frequency=torch.arange(side // 2 + 1, dtype=torch.float64)[rings] / side,
        source=over_rings(source),
        reconstruction=over_rings(reconstruction),
        cross=over_rings(cross),
        white=over_rings(window.square().sum().expand(side, side)) * len(x),
    )
