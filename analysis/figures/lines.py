"""Figures of curves, a line per treatment: spectra, erasure, balance, convergence, training."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ablate.analysis.figures import curves
from ablate.analysis.figures.curves import Curve
from ablate.analysis.figures.groups import PanelGroup, panel_groups
from ablate.analysis.figures.style import (
    FAINT,
    LEGEND_WRAP,
    LINES,
    MARKERS,
    Panel,
    fold,
    legend,
    legend_columns,
    log_scale,
)
from ablate.analysis.study_results import StudyResults
from ablate.analysis.typeset.cells import arrow, unit
from ablate.study.titles import title_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MAX_MARKERS = 8
"""Approximate largest number of markers along a line."""


def spectra(results: StudyResults, metrics: tuple[str, ...]) -> list[Panel]:
    """Spectra of the latents, and of the pictures at the size of the latents. Raises MissingCurve."""
    return _spectra(results, "spec/profile")


def spectra_drawn(results: StudyResults, metrics: tuple[str, ...]) -> list[Panel]:
    """Spectra of latents drawn from their posteriors, and of the pictures. Raises MissingCurve."""
    return _spectra(results, "spec/profile_draw")


def _spectra(results: StudyResults, name: str) -> list[Panel]:
    by_treatment = curves.of_probe(results, name, "spectrum")
    pictures = curves.of_probe(results, "spec/profile_rgb", "spectrum")["baseline"]
    labels = "DCT coefficient, zigzag order", "log amplitude over DC"
    return _panels(results, by_treatment, labels, ("pictures at the latent’s size", pictures))


def erasure(results: StudyResults, metrics: tuple[str, ...]) -> list[Panel]:
    """PSNR after erasing the highest frequencies of the latents, and of the pictures. Raises MissingCurve."""
    by_treatment = curves.of_probe(results, "erase/curve", "erasure", "erase/shares")
    pictures = curves.of_probe(results, "erase/curve_rgb", "erasure", "erase/shares")["baseline"]
    labels = "share of the coefficients that is erased", "PSNR (dB)"
    return _panels(results, by_treatment, labels, ("pictures, erased alike", pictures))


def diffusion(results: StudyResults, metrics: tuple[str, ...]) -> list[Panel]:
    """Distance of generated pictures from real ones while a generator learns the latents. Raises MissingCurve."""
    by_treatment = curves.of_probe(results, "diff/curve_fd", "diffusability", "diff/curve_steps")
    return _panels(results, by_treatment, ("steps of the transformer", "Fréchet distance"), log=True)


def balance(results: StudyResults, metrics: tuple[str, ...]) -> list[Panel]:
    """PSNR by a frame's position among those that share a latent frame. Raises MissingCurve."""
    by_treatment = curves.of_metrics(results, {float(p): f"balance/psnr_{p}" for p in (1, 2, 3, 4)}, "balance")
    return _panels(results, by_treatment, ("position in a group of frames", "PSNR (dB)"), ticks=(1, 2, 3, 4))


def convergence(results: StudyResults, metrics: tuple[str, ...]) -> list[Panel]:
    """A metric of a quick probe during training. Raises MissingCurve."""
    (name,) = metrics or (results.study.primary,)
    metric = results.study.metrics.get(name)
    hint = ": it is logged by quick probes, in stages with `probe_every`"
    by_treatment = curves.of_steps(results, f"during/{name}", hint)
    label = f"{title_of(metric)} ({unit(metric)}) {arrow(metric)}".replace(" () ", " ") if metric else name
    return _panels(results, by_treatment, ("training step", label))


def training(results: StudyResults, metrics: tuple[str, ...]) -> list[Panel]:
    """A number that training logs, by default the loss. Raises MissingCurve."""
    (name,) = metrics or ("train/loss",)
    return _panels(results, curves.of_steps(results, name), ("training step", name), log=name.startswith("train/"))


def _panels(
    results: StudyResults,
    by_treatment: Mapping[str, Curve],
    labels: tuple[str, str],
    beside: tuple[str, Curve] | None = None,
    *,
    log: bool = False,
    ticks: Sequence[float] = (),
) -> list[Panel]:
    """A panel per group of treatments. `by_treatment`: label -> curve. `labels`: of the x and y axes.

    `beside`: name and curve of a grey line in each panel. `log`: a logarithmic y axis if all values are positive.
    `ticks`: positions of the ticks on the x axis, if it has few values.
    """
    positive = all((curve.mean[curve.mean == curve.mean] > 0).all() for curve in by_treatment.values())

    def panel(group: PanelGroup) -> Panel:
        def draw(axes: "Axes") -> None:
            axes.set(xlabel=labels[0], ylabel=labels[1])
            if ticks:
                axes.set_xticks(ticks)
            if beside:
                axes.plot(beside[1].x, beside[1].mean, color=FAINT, linewidth=2.4, alpha=0.6, label=beside[0])
            for index, (label, name) in enumerate({"baseline": group.baseline, **group.names}.items()):
                if label in by_treatment:
                    _line(axes, by_treatment[label], "\n".join(fold(name, LEGEND_WRAP)), results.colors[label], index)
            if log and positive:
                log_scale(axes)
            legend(axes, columns)

        named = [*([beside[0]] if beside else []), group.baseline, *group.names.values()]
        columns = legend_columns(named)
        lines = sum(len(fold(name, LEGEND_WRAP)) for name in named)
        return Panel(group.title, 1.75 + 0.16 * math.ceil(lines / columns), draw)

    groups = panel_groups(results)
    drawn = [group for group in groups if not group.names.keys().isdisjoint(by_treatment)]
    return [panel(group) for group in drawn or groups[:1]]


def _line(axes: "Axes", curve: Curve, name: str, color: str, index: int) -> None:
    """The mean with a band of one sd to each side; the baseline, at index 0, is solid and without markers."""
    style = LINES[index % len(LINES)]
    marker = MARKERS[index % len(MARKERS)] if index else ""
    every = max(1, len(curve.x) // MAX_MARKERS)
    axes.plot(curve.x, curve.mean, color=color, linestyle=style, marker=marker, markevery=every, label=name)
    if curve.n > 1:
        axes.fill_between(curve.x, curve.mean - curve.sd, curve.mean + curve.sd, color=color, alpha=0.15, linewidth=0)
