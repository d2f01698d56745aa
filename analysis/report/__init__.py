"""The report of a study: one self-contained HTML page that answers the study's question."""

import io
import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from ablate.analysis.figures import KINDS, panels
from ablate.analysis.figures.style import COLUMN, Panel, compose, figure_style
from ablate.analysis.report import facts, pictures
from ablate.analysis.report.template import render
from ablate.analysis.study_results import StudyResults
from ablate.analysis.tables.build import default_metrics
from ablate.analysis.typeset import html
from ablate.store.files import atomic_write
from ablate.study.titles import title_of

FOREST_WIDTH = 4.6
"""Width of the plot of all effects on the primary metric, inches."""

FIGURES = {
    "interaction": ("Interactions", "Means over seeds and over the levels of all other factors."),
    "pareto": (
        "Trade-off",
        "A point per treatment; no other treatment is better in both metrics than one on the front.",
    ),
    "spectra": ("Spectra of the latents", ""),
    "spectra_drawn": ("Spectra of latents drawn from their posteriors", ""),
    "erasure": ("What erasing high frequencies of the latents costs", ""),
    "diffusion": ("How well a generator learns the latents", ""),
    "balance": ("Balance of the frames of a group", ""),
    "convergence": ("Convergence", ""),
    "curves": ("Training loss", ""),
}
"""Kinds of figures besides the effects: heading and explanation."""

BANDS = "Mean over seeds; the band is one standard deviation to each side."


def write_report(results: StudyResults, path: Path) -> None:
    """Write the page of a study with its results so far."""
    text = page(results)
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def page(results: StudyResults) -> str:
    """The page as text."""
    parts = {**_findings(results), **_drawings(results), **_circumstances(results)}
    return render("page.html.j2", pictures.compare(results), study=results.study, **parts)


def _findings(results: StudyResults) -> dict[str, Any]:
    """The template's variables for the answer, the table, main effects, claims and pictures."""
    table = results.table
    claims = table.claims_layout
    return {
        "answer": table.answer,
        "table": html.table(table.layout),
        "notes": html.notes(table.layout),
        "factorial": [html.table(layout) for layout in table.factorial_layouts],
        "factorial_notes": [html.notes(layout) for layout in table.factorial_layouts],
        "claims": claims,
        "claims_table": html.table(claims) if claims else "",
        "claims_notes": html.notes(claims) if claims else "",
    }


def _drawings(results: StudyResults) -> dict[str, Any]:
    """The template's variables for figures: effects on the primary metric and on the first metric of every other probe,
    then all other figures for which the study has data.
    """
    study = results.study
    others = [name for name in default_metrics(study) if name != study.primary]
    forest: list[str] = []
    small: list[str] = []
    sizes = ""
    with figure_style():
        with suppress(ValueError):
            label = "the largest effects over their smallest effect of interest"
            sizes = _svg_of(panels(results, "answer"), FOREST_WIDTH, label)
        if len(results.table.arms) > 1 and results.has_ended.any():
            label = f"effects on {study.primary_title}"
            forest = [_svg(one, FOREST_WIDTH, label) for one in panels(results, "effects")]
            small = [
                _svg(one, COLUMN, f"effects on {title_of(study.metrics[name])}")
                for name in others
                for one in panels(results, "effects", [name])
            ]
        figures = [figure for kind in FIGURES if (figure := _figure(results, kind))["drawn"]]
    return {
        "primary": title_of(results.primary),
        "sizes": sizes,
        "forest": forest,
        "small": small,
        "figures": figures,
        "not_drawn": results.not_drawn,
    }


def _circumstances(results: StudyResults) -> dict[str, Any]:
    """The template's variables for plan, cost, failures, and how to run the study again."""
    records = facts.records(results)
    return {
        "finished": len(records),
        "plan": facts.plan(results),
        "factors": facts.factors(results),
        "cost": facts.cost(results, records),
        "failures": facts.failures(results),
        "to_come": facts.to_come(results),
        "made_by": facts.made_by(records),
        "command": facts.command(results),
    }


def _figure(results: StudyResults, kind: str) -> dict[str, Any]:
    """A figure's panels, each as an `svg` element; none if the study lacks the data."""
    title, about = FIGURES[kind]
    drawn = []
    if kind != "pareto" or results.study.search:
        with suppress(ValueError):
            drawn = [_svg(panel, COLUMN, KINDS[kind].about) for panel in panels(results, kind)]
    return {"kind": kind, "title": title, "about": about or BANDS, "drawn": drawn}


def _svg(panel: Panel, width: float, label: str) -> str:
    """A panel as an `svg` element."""
    return _svg_of([panel], width, label)


def _svg_of(drawn_panels: Sequence[Panel], width: float, label: str) -> str:
    """Panels below each other as an `svg` element."""
    data = io.StringIO()
    compose(drawn_panels, width).savefig(data, format="svg", metadata={"Date": None}, transparent=True)
    drawn = data.getvalue()
    start, end = drawn.index("<svg"), drawn.index("<metadata>")
    rest = drawn[drawn.index("</metadata>") + len("</metadata>") :]
    plain = re.sub(r'<g id="[^"]*"', "<g", drawn[start:end] + rest)  # nothing refers to groups
    sized = re.sub(r'^<svg ([^>]*?)width="[^"]*" height="[^"]*"', r"<svg \1", plain)
    return sized.replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1)
