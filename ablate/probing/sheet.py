"""A sheet (PNG) that shows what a VAE does to a photograph and a flat field: errors, spectra, pattern, border."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ablate.components.shared.measure import GREY_LEVELS, displayed
from ablate.components.shared.periodic import amplitude, fold, interior
from ablate.slots.probe import COLOURS, Subject

if TYPE_CHECKING:
    from matplotlib.axes import Axes

GAIN = 50
"""The factor by which differences are enlarged."""


GREEN = COLOURS.index((0, 128, 0))
"""The flat field that is shown."""


CROP = 128
"""The side of the centre whose spectrum is shown, px."""


PERIODS = (2, 4, 8, 16, 32)
"""Periods of patterns that are looked for, px."""


REACH = 48
"""The largest distance from the border in the profile, px."""


def draw(subject: Subject, metrics: Mapping[str, float], title: str, path: Path) -> None:
    """Draw the sheet and write it to `path`.

    First row: a photograph. Second row: the green flat field (0, 128, 0). Each as source | reconstruction | absolute
    difference times 50 | FFT of the source | FFT of the reconstruction. Third row: measurements of both.
    """
    from matplotlib.figure import Figure

    photo = subject.reconstruction[0].cpu()
    flat = subject.constants[GREEN].cpu()
    source = subject.colours[GREEN].cpu().expand_as(flat)
    figure = Figure(figsize=(16, 10), layout="constrained")
    figure.suptitle(title, fontsize=13, x=0.01, ha="left", parse_math=False)
    rows = figure.subfigures(3, 1, squeeze=False, height_ratios=(1, 1, 0.95))[:, 0]
    _row(rows[0], subject.images[0].cpu(), photo, "photograph")
    _row(rows[1], source, flat, "flat field (0, 128, 0)")
    axes = rows[2].subplots(1, 4, width_ratios=(1, 1, 1.2, 1.2))
    constant = subject.constants - subject.colours
    _pattern(axes[0], constant, "pattern on flat fields, mean of 28")
    _pattern(axes[1], subject.reconstruction - subject.images, f"pattern on {len(subject.images)} photographs")
    _periods(axes[2], metrics)
    _profile(axes[3], {"photographs": subject.reconstruction - subject.images, "flat fields": constant})
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)


def _row(figure: Any, x: Tensor, y: Tensor, name: str) -> None:
    """A row of five pictures for a source x and its reconstruction y, `3 s s` in [0, 1]."""
    axes = figure.subplots(1, 5)
    worst = GREY_LEVELS * (y - x).abs().max().item()
    shown = {
        name: x, "reconstruction": displayed(y).nan_to_num(),
        f"|difference| × {GAIN} (largest: {worst:.3g} gl)": ((y - x).abs() * GAIN).nan_to_num(nan=1).clamp(0, 1),
    }  # fmt: skip
    for ax, (label, picture) in zip(axes, shown.items(), strict=False):
        ax.imshow(picture.permute(1, 2, 0).numpy(), vmin=0, vmax=1, interpolation="nearest")
        ax.set_title(label, fontsize=10)
    spectra = [_log_magnitude(picture) for picture in (x, y)]
    high = max(spectrum.max() for spectrum in spectra)
    for ax, spectrum, label in zip(axes[3:], spectra, ("source", "reconstruction"), strict=True):
        ax.imshow(spectrum, vmin=high - 7, vmax=high, cmap="magma", interpolation="nearest")
        ax.set_title(f"log₁₀ |FFT| of {label}, green", fontsize=10)
    for ax in axes:
        ax.set_xticks([])
        ax.set_yticks([])


def _log_magnitude(picture: Tensor) -> np.ndarray[Any, np.dtype[np.float64]]:
    """log10 |FFT| of the centre of the green channel, at most 128 x 128 px, with frequency 0 in the middle.

    Peaks are widened to 3 pixels, so that they can be seen.
    """
    side = min(CROP, picture.shape[-1])
    first = (picture.shape[-1] - side) // 2
    green = displayed(picture[1, first : first + side, first : first + side].double()).nan_to_num()
    magnitude = torch.fft.fftshift(torch.fft.fft2(green).abs())
    widened: np.ndarray[Any, np.dtype[np.float64]] = F.max_pool2d(magnitude[None], 3, stride=1, padding=1)[0].numpy()
    return np.log10(widened + 1e-9)


def _pattern(ax: "Axes", residual: Tensor, title: str) -> None:
    """The pattern that repeats in all residuals with the longest period that fits; brightness only."""
    fitting = [p for p in PERIODS if interior(residual[:1], p).shape[-1]]
    pattern = fold(interior(residual, fitting[-1]), fitting[-1]).mean(0)
    grey = (GREY_LEVELS * pattern.mean(0)).nan_to_num()
    reach = max(grey.abs().max().item(), 0.05)
    image = ax.imshow(grey.numpy(), cmap="RdBu_r", vmin=-reach, vmax=reach, interpolation="nearest")
    ax.set_title(f"{title}\n{fitting[-1]} px shown, rms {amplitude(pattern):.3g} gl", fontsize=10)
    ax.set_xticks([])
    ax.set_yticks([])
    bar = ax.figure.colorbar(image, ax=ax, shrink=0.8)
    bar.set_label("grey levels")


def _periods(ax: "Axes", metrics: Mapping[str, float]) -> None:
    """Bars: the amplitude of each period alone on flat fields, where it was measured."""
    amplitudes = {p: metrics[name] for p in PERIODS if (name := f"flatfield/period{p}") in metrics}
    heights = np.nan_to_num(list(amplitudes.values()))
    bars = ax.bar([str(p) for p in amplitudes], list(heights), color="#4c72b0")
    ax.bar_label(bars, [f"{value:.2g}" for value in amplitudes.values()], fontsize=9)
    ax.set_ylim(0, 1.15 * max([0.5, *heights]))
    ax.axhline(0.25, color="#c44e52", linewidth=1, linestyle="--")
    ax.set_title("each period alone, on flat fields\n(dashed: 0.25 gl, the threshold of an alarm)", fontsize=10)
    ax.set_xlabel("period, px")
    ax.set_ylabel("amplitude, grey levels")


def _profile(ax: "Axes", residuals: Mapping[str, Tensor]) -> None:
    """Curves: the mean absolute error at each distance from the border."""
    top = 0.05
    for (name, residual), colour in zip(residuals.items(), ("#4c72b0", "#dd8452"), strict=True):
        error = GREY_LEVELS * residual.abs().mean((0, 1)).cpu()
        steps = torch.arange(error.shape[-1])
        nearest = torch.minimum(steps, steps.flip(0))
        distance = torch.minimum(nearest[:, None], nearest)
        rings = [error[distance == d].mean().item() for d in range(min(REACH, int(distance.max()) + 1))]
        ax.plot(rings, label=name, color=colour, linewidth=2)
        top = max([top, *np.nan_to_num(rings)])
    ax.set_ylim(0, 1.3 * top)  # room for the legend
    ax.set_title("error across the border", fontsize=10)
    ax.set_xlabel("distance from the border, px")
    ax.set_ylabel("mean |error|, grey levels")
    ax.legend(frameon=False)
