"""An ablation table and its output formats."""

import csv
import io
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from ablate.analysis.statistics.claims import Claim, Judgement
from ablate.analysis.statistics.effects import Analysis, Effect
from ablate.analysis.statistics.factorial import Decomposition, as_json
from ablate.analysis.statistics.stability import Stability
from ablate.analysis.tables.claims import pages
from ablate.analysis.tables.rows import UNFINISHED, Arm
from ablate.analysis.tables.searched import SearchResult
from ablate.analysis.typeset import html, latex, markdown
from ablate.analysis.typeset.cells import Layout
from ablate.plan.labels import format_level
from ablate.study.study import Study


@dataclass(frozen=True, repr=False)
class Table:
    """The results of a study. `csv` and `json` hold `metrics`; the other formats show the metrics of `layout`."""

    study: Study
    arms: tuple[Arm, ...]
    analysis: Analysis
    metrics: tuple[str, ...]
    layout: Layout
    claims: tuple[tuple[Claim, Judgement], ...] = ()
    claims_layout: Layout | None = None
    search_result: SearchResult | None = None
    """The result of a search; None for a study that does not search."""
    mixed: str = ""
    """A sentence that names the levels whose trials were made by different versions of their code; empty if none."""
    factorial: Mapping[str, Decomposition] = field(default_factory=dict)
    """Metric -> main effects and interactions; empty if the design or the results do not allow to estimate them."""
    factorial_layouts: tuple[Layout, ...] = ()
    stability: Stability | None = None
    front: tuple[str, ...] = ()
    """Labels of the Pareto front of the requested metrics, if there are two or more."""

    def __repr__(self) -> str:
        return f"<table of {self.study.name} at scale {self.study.scale}: {len(self.arms)} treatments>"

    def latex(self, paper_columns: int = 1, packages: Collection[str] = ()) -> str:
        """The results as LaTeX tables, with the claims split into one table per page.

        They need only booktabs and `packages`. `paper_columns`: columns of the paper, 1 or 2.
        """
        claims = pages(self.claims_layout) if self.claims_layout else []
        layouts = [self.layout, *self.factorial_layouts, *claims]
        return "\n".join(latex.latex(layout, paper_columns, packages) for layout in layouts)

    def markdown(self) -> str:
        """Pipe tables with aligned columns, and notes."""
        return "\n".join(map(markdown.markdown, self.layouts))

    def html(self) -> str:
        """A self-contained HTML page with the tables."""
        return html.page(self.layouts)

    @property
    def layouts(self) -> list[Layout]:
        """The main table, main effects and interactions, and the claims."""
        claims = [self.claims_layout] if self.claims_layout else []
        return [self.layout, *self.factorial_layouts, *claims]

    def csv(self) -> str:
        """One row per treatment at full precision, with a count per status and eight columns per metric."""
        # The header.
        paths = [factor.path for factor in self.study.factors]
        statuses = ["done", *UNFINISHED]
        fields = ["mean", "sd", "delta", "low", "high", "p", "p_holm", "verdict"]
        pareto = ["pareto"] if self.search_result else []
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        headings = [f"{name} {key}" for name in self.metrics for key in fields]
        writer.writerow(["treatment", "reference", *paths, *statuses, *pareto, *headings])

        # The treatments; NaN is empty.
        for arm in self.arms:
            levels = [format_level(arm.treatment.levels[path]) for path in paths]
            counts = [arm.status.get(name, 0) for name in statuses]
            cells = [effect_numbers(arm.effects[name]) for name in self.metrics]
            numbers = ["" if cell[key] != cell[key] else cell[key] for cell in cells for key in fields]
            on_front = [arm.treatment.label in self.search_result.front] if self.search_result else []
            writer.writerow([arm.treatment.label, arm.treatment.reference or "", *levels, *counts, *on_front, *numbers])
        return text.getvalue()

    def json(self) -> dict[str, Any]:
        """What `ablate table --json` prints. Numbers that are missing or not finite are None."""
        rows = [
            {
                "treatment": arm.treatment.levels,
                "label": arm.treatment.label,
                "reference": arm.treatment.reference,
                "n": arm.seeds.n,
                **({"nuisance": arm.treatment.nuisance} if self.study.tuning else {}),
                "status": arm.status,
                **({"pareto": arm.treatment.label in self.search_result.front} if self.search_result else {}),
                "cells": {name: _finite(effect_numbers(arm.effects[name])) for name in self.metrics},
            }
            for arm in self.arms
        ]
        return {
            "study": self.study.name,
            "scale": self.study.scale,
            "primary": self.study.primary,
            "baseline": self.arms[0].treatment.levels,
            "rows": rows,
            "claims": [_judged(claim, judgement) for claim, judgement in self.claims],
            "noise": _finite(vars(self.analysis.noise)),
            "factorial": {name: _finite(as_json(self.study, effects)) for name, effects in self.factorial.items()},
            "stability": _finite(vars(self.stability)) if self.stability else None,
            "front": list(self.front),
            "warnings": list(self.analysis.warnings),
        }


def effect_numbers(effect: Effect) -> dict[str, Any]:
    """The numbers of an effect under the names of the JSON and CSV formats."""
    change = effect.change
    return {
        "n": effect.n, "mean": effect.mean, "sd": effect.sd, "pairs": change.n, "delta": change.mean, "low": change.low,
        "high": change.high, "p": effect.judged.p, "p_holm": effect.p_holm, "verdict": effect.verdict,
    }  # fmt: skip


def _judged(claim: Claim, judgement: Judgement) -> dict[str, Any]:
    """A claim and its judgement in one dictionary."""
    fields = {name: value for name, value in vars(claim).items() if name not in {"a", "b"}}
    return {**fields, "contrast": {"A": dict(claim.a), "B": dict(claim.b)}, **_finite(vars(judgement))}


def _finite(value: Any) -> Any:
    """JSON values in which numbers that are not finite are None."""
    if isinstance(value, Mapping):
        return {name: _finite(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
