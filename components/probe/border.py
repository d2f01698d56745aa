"""Border: what padding costs, measured on the same pixels at a border and in an interior.

The centre of each held-out image is reconstructed alone and compared with the same place in the reconstruction of
the whole image. This controls for the content, which the error near the border of whole images does not. The middle
of the crop is the control for the change of context that normalisation and attention see; where it has another mean
colour when cropped, the whole crop is corrected by the difference, channel by channel. The artifact is one of those in
VIVAT (arXiv 2506.07863).

Crops are half as large as the images, in whole strides. With d the distance in px to the crop's border and h its
size, the middle is d >= 3h/8; a band that would reach it is not reported. The corner squares have a side of 16 px, but
at most a quarter of the crop's. Their excess error is compared with that of the edges between them at the same d, so
that a frame of even depth gives 0. The frame that VIVAT shows is a blur; detail is measured as the variance of the
Laplacian.
"""

import torch
from torch import Tensor

from ablate.components.shared.measure import GREY_LEVELS
from ablate.slots import Metric, Probe, ProbeResult, ProbeSettings, Subject

METRICS = (
    Metric(
        "border/excess_b4",
        "gl",
        "target",
        "extra absolute error in the outer 4 px when they are a border",
        interest=0.5,
    ),
    Metric("border/excess_b16", "gl", "target", "the same in the outer 16 px; crops of 43 px or more", interest=0.5),
    Metric(
        "border/cc_ratio",
        "1",
        "down",
        "change by cropping within 16 px (at most a quarter) over that in the middle",
        interest=0.1,
    ),
    Metric(
        "border/extent_px",
        "px",
        "down",
        "distance from the border at which that change first is below twice the middle's",
        interest=1,
    ),
    Metric(
        "border/corner_excess",
        "gl",
        "target",
        "extra absolute error in corner squares minus that of edges as far from the border",
        interest=0.5,
    ),
    Metric(
        "border/hf_ratio",
        "1",
        "target",
        "detail kept in the band when it is a border, over that kept in the middle",
        target=1.0,
        interest=0.05,
    ),
)


FLOOR = 0.01  # gl added to both sides of a ratio, so that it is 1 where cropping changes nothing


class Config(ProbeSettings):
    """No settings, so that the numbers of all studies are comparable."""

    def smallest(self, stride: int) -> int:
        """Smallest side in px at which the first metric is reported, for a model of this stride."""
        return 2 * max(2 * stride, -(-11 // stride) * stride)  # a band of 4 px fits within 3/8 of the crop


def build(config: Config) -> Probe:
    return examine


def examine(subject: Subject) -> ProbeResult:
    """Reports nothing for images under four strides: their crops have no neighbourhood to pad from."""
    stride = subject.vae.stride
    side = subject.images.shape[-1]
    size = side // 2 // stride * stride
    if size < 2 * stride:
        return ProbeResult({})

    # the centre, reconstructed alone and as part of the whole image
    start = (side - size) // 2 // stride * stride  # in whole strides, so that both have the same phase
    window = (..., slice(start, start + size), slice(start, start + size))
    source = subject.images[window]
    inside = subject.reconstruction[window]
    distance = _distance(size)
    is_middle = distance >= 3 * size / 8
    alone = subject.reconstruct(source)
    shift = (alone - inside)[..., is_middle.to(source.device)].mean(-1)
    alone = alone - shift[..., None, None]

    # error that cropping adds, and change that it makes
    excess = GREY_LEVELS * ((alone - source).abs() - (inside - source).abs()).mean(1).cpu()  # n h h
    change = GREY_LEVELS * (alone - inside).abs().mean((0, 1)).cpu()  # h h
    middle = change[is_middle].mean() + FLOOR

    # near the border, against the middle
    bands = {f"border/excess_b{b}": excess[:, distance < b].mean(1) for b in (4, 16) if b <= 3 * size / 8}
    reach = min(16, size // 4)
    if reach > 1:
        bands["border/corner_excess"] = _corner_excess(excess, distance, reach)
    metrics = {name: values.mean().item() for name, values in bands.items()}
    metrics["border/cc_ratio"] = ((change[distance < reach].mean() + FLOOR) / middle).item()
    metrics["border/extent_px"] = _extent(change, distance, middle)
    if reach > 1:
        metrics["border/hf_ratio"] = _detail_ratio(alone, inside, distance, reach)
    return ProbeResult(
        metrics=metrics,
        per_image={name: values.tolist() for name, values in bands.items()},
    )


def _distance(size: int) -> Tensor:
    """Distance of each pixel of a square to its border, 0 for the outermost: `size size`."""
    steps = torch.arange(size)
    nearest = torch.minimum(steps, steps.flip(0))
    return torch.minimum(nearest[:, None], nearest)


def _corner_excess(excess: Tensor, distance: Tensor, reach: int) -> Tensor:
    """Mean over the corner squares of each pixel's excess minus that of the edges at its distance; `n h h` to `n`."""
    near = distance.diagonal() < reach  # rows (or columns) of the band, `h`
    corners = near[:, None] & near
    edges = [excess[:, (distance == d) & ~corners].mean(1) for d in range(reach)]
    return excess[:, corners].mean(1) - torch.stack(edges, 1)[:, distance[corners]].mean(1)


def _detail_ratio(alone: Tensor, inside: Tensor, distance: Tensor, reach: int) -> float:
    """Variance of the Laplacian when cropped over that when not, in the band, over the same ratio in the middle.

    The outermost pixels, which lack a neighbour, are left out. The source is the same, so it cancels.
    """
    inner = distance[1:-1, 1:-1]
    band = inner < reach
    middle = inner >= 3 * len(distance) / 8
    cropped, whole = (_laplacian(GREY_LEVELS * y.mean(1).cpu()) for y in (alone, inside))
    kept, kept_in_middle = ((_variance(cropped, at) + FLOOR) / (_variance(whole, at) + FLOOR) for at in (band, middle))
    return (kept / kept_in_middle).item()


def _laplacian(grey: Tensor) -> Tensor:
    """Laplacian of `n h h`: `n h-2 h-2`."""
    centre = grey[:, 1:-1, 1:-1]
    return grey[:, :-2, 1:-1] + grey[:, 2:, 1:-1] + grey[:, 1:-1, :-2] + grey[:, 1:-1, 2:] - 4 * centre


def _variance(values: Tensor, at: Tensor) -> Tensor:
    """Variance over the positions of a mask in each image, averaged over images."""
    return values[:, at].var(1, correction=0).mean()


def _extent(change: Tensor, distance: Tensor, middle: Tensor) -> float:
    """Distance in px at which the mean change first is below twice that of the middle; NaN if not finite."""
    if not change.isfinite().all():
        return torch.nan
    rings = torch.stack([change[distance == d].mean() for d in range(int(distance.max()) + 1)]) + FLOOR
    quiet = (rings < 2 * middle).nonzero()
    return float(quiet[0]) if len(quiet) else float(len(rings))
