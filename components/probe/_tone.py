"""The source as a model's tones would show it: contrast, brightness and colours of the reconstruction, detail kept.

A model that fades or tints pictures has no blur, no grid and no droplet. Probes of structure therefore compare a
reconstruction not with its source but with the source after the best map of colours. The map is fitted on means over
squares of 9 px, which blur, noise and grids hardly change, in two steps:

1. for all images together, y_c = x_c + a curve of each channel + multiples of the brightest and the darkest channel:
   an additive model (Hastie & Tibshirani, "Generalized additive models", Statistical Science 1(3), 1986) of piecewise
   linear curves with knots every 1/8. It holds contrast, clipping, gamma, saturation and turns of hue. Each image has
   an intercept of its own, so only differences within images count.
2. for each image and channel, a gain and an offset, because normalisation layers may scale each image by itself: of
   that map or, where the misfit is then smaller, of the source itself.

Both are least squares, reweighted so that a droplet or a frame, which covers a small part of an image, does not count
(Huber's weights, then Tukey's biweight: Holland & Welsch, Communications in Statistics A6, 1977, with their constants).
Blur changes the means over squares too. The mean over 25 px minus that over 9 px, which is its effect to first order in
the square of the frequency, is fitted beside the map of colours and left out of it.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ablate.components.shared.measure import GREY_LEVELS
from ablate.slots import Subject

LEAST_GAIN = 0.05
"""Contrast below which nothing is left of a picture: probes of detail count what is missing to it as lost."""


KNOTS = tuple(k / 8 for k in range(1, 8))


SQUARE = 9  # px, side of the squares whose means are fitted


WIDER = 25  # px, side of the squares that show the effect of blur


SPACING = 4  # px between the centres of squares, or 8, 16 ... where there would be more than POINTS


POINTS = 16384


HUBER = 1.345  # constants of the weights, in standard deviations


TUKEY = 4.685


ROUNDS = ("huber",) * 6 + ("tukey",) * 6


NORMAL_MEDIAN = 0.6745  # of the absolute value of a standard normal


LEAST_SCALE = 0.02 / GREY_LEVELS  # smallest standard deviation of residuals in the weights


PRIOR = 0.5 / GREY_LEVELS  # sd of detail, in [0, 1], below which the gain of an image stays that of all images


CURVATURE = 1e-3  # price of a bend of a curve, relative to the variance of its channel


@dataclass(frozen=True)
class Toned:
    """`image`: the sources in the reconstructions' tones, `n 3 s s`, exactly the sources where nothing differs.

    `gain`: contrast of each of them over that of its source, `n`, as root mean squares over channels of squares.
    """

    image: Tensor
    gain: Tensor

    def residual(self, y: Tensor) -> Tensor:
        """What no tone explains of the reconstructions `n 3 s s`."""
        return y - self.image


def tones(subject: Subject) -> Toned:
    """The sources of a subject in the tones of its reconstructions, made once and shared by all probes."""
    if "tones" not in subject.shared:
        subject.shared["tones"] = toned(subject.images, subject.reconstruction)
    known: Toned = subject.shared["tones"]
    return known


def toned(x: Tensor, y: Tensor) -> Toned:
    """The sources x in the tones of the reconstructions y, both `n 3 s s`. NaN for images that are not finite."""
    finite = y.isfinite().flatten(1).all(1)
    if finite.all():
        return _toned(x, y)
    image = torch.full_like(x, torch.nan)
    gain = torch.full((len(x),), torch.nan, dtype=torch.float64)
    if finite.any():
        rest = _toned(x[finite], y[finite])
        image[finite] = rest.image
        gain[finite.cpu()] = rest.gain
    return Toned(image, gain)


def _toned(x: Tensor, y: Tensor) -> Toned:
    # one map of colours for all images, and the effect of blur
    step = SPACING
    while len(x) * (x.shape[-1] // step) ** 2 > POINTS:
        step *= 2
    features = torch.cat([_squares(_features(part), step) for part in x.split(8)])
    before = features[:, :3]
    wider = _squares(x, step, WIDER) - before
    change = _squares(y - x, step)
    coefficients = _map_of_colours(torch.cat([features, wider], 1), change)
    colours = coefficients[: features.shape[1]]
    of_colours = torch.einsum("nfp,fc->ncp", features, colours)
    of_blur = torch.einsum("nfp,fc->ncp", wider, coefficients[features.shape[1] :])

    # a gain and an offset for each image and channel, with that map or, where it fits better, without
    plain, mapped = (lines(before + of_blur + part, change - of_blur - part) for part in (0 * of_colours, of_colours))
    use_map = (mapped.misfit < plain.misfit)[:, None, None, None]
    slope, intercept = (
        torch.where(use_map, with_map[..., None, None], without[..., None, None]).to(x)
        for with_map, without in ((mapped.slope, plain.slope), (mapped.intercept, plain.intercept))
    )
    image = x + use_map.to(x) * torch.cat([_combined(_features(part), colours) for part in x.split(8)])
    image = image + slope * image + intercept
    after = _squares(image, step)
    tiny = torch.finfo(torch.float64).tiny  # makes 0/0 one
    return Toned(image, (_contrast(after) + tiny) / (_contrast(before) + tiny))


def _features(x: Tensor) -> Tensor:
    """What the map of colours is made of, at each pixel of `n 3 h w`: the channels first, then bends, then extremes."""
    bends = torch.cat([(x - knot).clamp(min=0) for knot in KNOTS], 1)
    return torch.cat([x, bends, x.amax(1, keepdim=True), x.amin(1, keepdim=True)], 1)


def _combined(features: Tensor, coefficients: Tensor) -> Tensor:
    """Sums `n 3 h w` of features `n f h w` times coefficients `f 3`; not a matmul, which may run in TF32."""
    total = torch.zeros_like(features[:, :3])
    for feature, row in zip(features.unbind(1), coefficients.to(features), strict=True):
        total.add_(feature[:, None] * row[:, None, None])
    return total


def _squares(x: Tensor, step: int, side: int = SQUARE) -> Tensor:
    """Means of `n c h w` over squares `step` px apart, of as much as lies inside: `n c p`, float64 on the CPU."""
    means = F.avg_pool2d(x, side, stride=step, padding=side // 2, count_include_pad=False)
    return means.flatten(2).cpu().double()


def _map_of_colours(features: Tensor, change: Tensor) -> Tensor:
    """Coefficients `f 3` of the features `n f p` that best give the changes `n 3 p` up to a constant for each image."""
    weights = torch.ones_like(change[:, :1])
    coefficients = features.new_zeros(features.shape[1], 3)
    price = features.new_full((features.shape[1],), 1e-6)
    price[3 : 3 * (1 + len(KNOTS))] = CURVATURE
    for kind in ROUNDS:
        total = weights.sum(2, keepdim=True)
        centred = features - (weights * features).sum(2, keepdim=True) / total
        target = change - (weights * change).sum(2, keepdim=True) / total
        products = torch.einsum("nfp,ngp->fg", weights * centred, centred)
        right = torch.einsum("nfp,ncp->fc", weights * centred, target)
        ridge = price * products.diagonal()[:3].mean() + torch.finfo(torch.float64).tiny
        coefficients = torch.linalg.solve(products + ridge.diag(), right)
        misfit = (target - torch.einsum("nfp,fc->ncp", centred, coefficients)).square().mean(1, keepdim=True).sqrt()
        weights = _weights(misfit, kind)
    return coefficients


@dataclass(frozen=True)
class Lines:
    """Slope and intercept of lines, `n c` each, and the mean absolute value of what they miss, `n`."""

    slope: Tensor
    intercept: Tensor
    misfit: Tensor


def lines(x: Tensor, y: Tensor) -> Lines:
    """Robust lines y = slope x + intercept through points `n c p`, for each image and channel; slopes are near 0."""
    weights = torch.ones_like(x)
    for kind in ROUNDS:
        total = weights.sum(2)
        mean_x = (weights * x).sum(2) / total
        mean_y = (weights * y).sum(2) / total
        centred = x - mean_x[..., None]
        products = (weights * centred * (y - mean_y[..., None])).sum(2)
        slope = products / ((weights * centred.square()).sum(2) + PRIOR**2 * total)
        misfit = y - mean_y[..., None] - slope[..., None] * centred
        weights = _weights(misfit.abs(), kind)
    return Lines(slope, mean_y - slope * mean_x, misfit.abs().mean((1, 2)))


def _weights(misfit: Tensor, kind: str) -> Tensor:
    """Weights of points from the size of their misfits, against the median of each row of points `... p`."""
    scale = (misfit.median(-1, keepdim=True).values / NORMAL_MEDIAN).clamp(min=LEAST_SCALE)
    size = misfit / scale
    if kind == "huber":
        return HUBER / size.clamp(min=HUBER)
    return (1 - (size / TUKEY).clamp(max=1).square()).square()


def _contrast(squares: Tensor) -> Tensor:
    return squares.var(2, correction=0).mean(1).sqrt()
