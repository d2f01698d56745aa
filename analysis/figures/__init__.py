"""Figures for papers and for the report, drawn from the results of a study: `KINDS` lists them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ablate.analysis.figures import answer, comparisons, lines, pictures
from ablate.analysis.figures.style import COLUMN, Panel, compose, figure_style
from ablate.analysis.study_results import StudyResults
from ablate.errors import nearest
from ablate.store.files import atomic_write

VARYING = {"pdf": "CreationDate", "svg": "Date", "png": "Software"}
"""Format of a figure's file -> what is left out of it, so that the same figure is the same file."""

PNG_DPI = 300
"""Pixels per inch of a PNG file: 975 px for a column."""


@dataclass(frozen=True)
class FigureKind:
    """A kind of figure. `metrics`: how many of the study's metrics it takes; `about`: what it shows."""

    panels: Callable[[StudyResults, tuple[str, ...]], list[Panel]]
    metrics: int
    about: str


KINDS = {
    "answer": FigureKind(answer.answer, 0, "the largest effects of each factor over their smallest effect of interest"),
    "effects": FigureKind(comparisons.effects, 1, "changes of a metric from the reference, with intervals"),
    "interaction": FigureKind(comparisons.interaction, 1, "means of a metric by two factors that the design crosses"),
    "pareto": FigureKind(comparisons.pareto, 2, "two metrics against each other, with the front"),
    "pictures": FigureKind(
        pictures.before_and_after, 1, "what each treatment makes of a picture, and the artifact of a metric alone"
    ),
    "spectra": FigureKind(lines.spectra, 0, "spectra of latents beside the pictures’ (probe spectrum)"),
    "spectra_drawn": FigureKind(
        lines.spectra_drawn, 0, "spectra of latents drawn from their posteriors (probe spectrum)"
    ),
    "erasure": FigureKind(lines.erasure, 0, "PSNR after erasing high frequencies (probe erasure)"),
    "diffusion": FigureKind(
        lines.diffusion, 0, "distance of generated pictures while a generator learns (probe diffusability)"
    ),
    "balance": FigureKind(lines.balance, 0, "PSNR by position in a group of frames (probe balance)"),
    "convergence": FigureKind(lines.convergence, 1, "a metric of a quick probe during training (`probe_every`)"),
    "curves": FigureKind(lines.training, 1, "what training logs, by default train/loss"),
}


def panels(results: StudyResults, kind: str, metrics: Sequence[str] = ()) -> list[Panel]:
    """The panels of a figure.

    Raises ValueError for an unknown kind or metric, for a wrong number of metrics, and if the study lacks the data.
    """
    if kind not in KINDS:
        raise ValueError(f"unknown kind '{kind}'{nearest(kind, KINDS)}")
    wanted = KINDS[kind].metrics
    if len(metrics) > wanted or (metrics and len(metrics) < wanted):
        raise ValueError(f"kind '{kind}' takes {wanted or 'no'} metric{'s' * (wanted != 1)}, found {len(metrics)}")
    unknown = [name for name in metrics if name not in results.study.metrics]
    if unknown and kind != "curves":
        raise ValueError(f"unknown metric '{unknown[0]}'{nearest(unknown[0], results.study.metrics)}")
    undirected = [name for name in metrics if kind == "pareto" and results.study.metrics[name].direction == "none"]
    if undirected:
        raise ValueError(f"kind 'pareto' needs metrics with a direction; for '{undirected[0]}' neither is better")
    return KINDS[kind].panels(results, tuple(metrics))


def save_figure(results: StudyResults, kind: str, metrics: Sequence[str], path: Path, width: float = COLUMN) -> None:
    """Draw a figure into a PDF, SVG or PNG file, by its suffix. Raises ValueError for others, and as `panels`."""
    form = path.suffix.removeprefix(".").lower()
    if form not in VARYING:
        raise ValueError(f"cannot write '{path.name}': valid suffixes are {', '.join('.' + form for form in VARYING)}")
    drawn = panels(results, kind, metrics)
    with figure_style(), atomic_write(path) as temporary:
        compose(drawn, width).savefig(temporary, format=form, dpi=PNG_DPI, metadata={VARYING[form]: None})
