"""An ablation table in all its forms."""

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
from ablate.analysis.tables.rows import TROUBLES, Arm
from ablate.analysis.tables.searched import SearchResult
from ablate.analysis.typeset import html as emit_html
from ablate.analysis.typeset import latex as emit_latex
from ablate.analysis.typeset import markdown as emit_text
from ablate.analysis.typeset.cells import Layout
from ablate.plan.labels import show
from ablate.study.study import Study


@dataclass(frozen=True)
class Table:
    """The results of a study: all forms show the layout's metrics, but `csv` and `json` hold `metrics`."""

    study: Study
    arms: tuple[Arm, ...]
    analysis: Analysis
    metrics: tuple[str, ...]
    layout: Layout
    claims: tuple[tuple[Claim, Judgement], ...] = ()
    claims_layout: Layout | None = None
    found: SearchResult | None = None
    """What a search has found; None for a study that does not search."""
    mixed: str = ""
    """Of which levels different code made the trials, as a sentence; empty if of none."""
    factorial: Mapping[str, Decomposition] = field(default_factory=dict)
    """Main effects and interactions of the metrics that tell them; empty where the design does not."""
    factorial_layouts: tuple[Layout, ...] = ()
    stability: Stability | None = None
    front: tuple[str, ...] = ()
    """The Pareto front of the metrics that were asked for, if these are two or more."""

    def latex(self, paper_columns: int = 1, packages: Collection[str] = ()) -> str:
        """Tables that need no package but booktabs, and `packages`; claims take one for each page."""
        claims = pages(self.claims_layout) if self.claims_layout else []
        layouts = [self.layout, *self.factorial_layouts, *claims]
        return "\n".join(emit_latex.latex(layout, paper_columns, packages) for layout in layouts)

    def markdown(self) -> str:
        """Pipe tables with aligned columns, and notes."""
        return "\n".join(map(emit_text.markdown, self._layouts()))

    def html(self) -> str:
        """A page with the tables, which needs nothing from the network."""
        return emit_html.page(self._layouts())

    def _layouts(self) -> list[Layout]:
        claims = [self.claims_layout] if self.claims_layout else []
        return [self.layout, *self.factorial_layouts, *claims]

    def csv(self) -> str:
        """One row per treatment at full precision, with a count per status and eight columns per metric."""
        paths = [factor.path for factor in self.study.factors]
        statuses = ["done", *TROUBLES]
        fields = ["mean", "sd", "delta", "low", "high", "p", "p_holm", "verdict"]
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        numbered = [f"{name} {key}" for name in self.metrics for key in fields]
        pareto = ["pareto"] if self.found else []
        writer.writerow(["treatment", "reference", *paths, *statuses, *pareto, *numbered])
        for arm in self.arms:
            levels = [show(arm.treatment.levels[path]) for path in paths]
            counts = [arm.status.get(name, 0) for name in statuses]
            cells = [_cell(arm.effects[name]) for name in self.metrics]
            numbers = ["" if cell[key] != cell[key] else cell[key] for cell in cells for key in fields]
            on_front = [arm.treatment.label in self.found.front] if self.found else []
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
                **({"pareto": arm.treatment.label in self.found.front} if self.found else {}),
                "cells": {name: _finite(_cell(arm.effects[name])) for name in self.metrics},
            }
            for arm in self.arms
        ]
        return {
            "study": self.study.name,
            "scale": self.study.scale,
            "primary": self.study.primary,
            "baseline": self.arms[0].treatment.levels,
            "rows": rows,
            "claims": [_judged(claim, found) for claim, found in self.claims],
            "noise": _finite(vars(self.analysis.noise)),
            "factorial": {name: _finite(as_json(self.study, found)) for name, found in self.factorial.items()},
            "stability": _finite(vars(self.stability)) if self.stability else None,
            "front": list(self.front),
            "warnings": list(self.analysis.warnings),
        }


def _cell(effect: Effect) -> dict[str, Any]:
    change = effect.change
    return {
        "n": effect.n, "mean": effect.mean, "sd": effect.sd, "pairs": change.n, "delta": change.mean, "low": change.low,
        "high": change.high, "p": effect.judged.p, "p_holm": effect.p_holm, "verdict": effect.verdict,
    }  # fmt: skip


def _judged(claim: Claim, found: Judgement) -> dict[str, Any]:
    said = {name: value for name, value in vars(claim).items() if name not in {"a", "b"}}
    return {**said, "contrast": {"A": dict(claim.a), "B": dict(claim.b)}, **_finite(vars(found))}


def _finite(value: Any) -> Any:
    """JSON values in which numbers that are not finite are None."""
    if isinstance(value, Mapping):
        return {name: _finite(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
