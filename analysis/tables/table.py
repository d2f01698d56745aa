"""An ablation table and its output formats."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from ablate.analysis.statistics.effects import Analysis, Effect
from ablate.analysis.statistics.factorial import Decomposition, as_json
from ablate.analysis.statistics.findings import Finding, Judgement, tally
from ablate.analysis.statistics.noise import Noise
from ablate.analysis.statistics.stability import Stability
from ablate.analysis.tables.answer import Answer, answer
from ablate.analysis.tables.claims import describe_verdict, pages
from ablate.analysis.tables.leads import Comparison
from ablate.analysis.tables.rows import UNFINISHED, Arm
from ablate.analysis.tables.searched import SearchResult
from ablate.analysis.typeset import html, latex, markdown
from ablate.analysis.typeset.cells import Layout
from ablate.analysis.typeset.spreadsheet import write_csv
from ablate.plan.labels import format_level
from ablate.slots.settings import Metric
from ablate.study.study import Study


@dataclass(frozen=True, repr=False)
class Table:
    """The results of a study. `csv` and `json` hold `metrics`; the other formats show the metrics of `layout`."""

    study: Study
    arms: tuple[Arm, ...]
    analysis: Analysis
    metrics: tuple[str, ...]
    layout: Layout
    claims: tuple[Finding, ...] = ()
    claims_layout: Layout | None = None
    paper: str = ""
    """The name of the paper whose claims are judged; empty if there is none."""
    search_result: SearchResult | None = None
    """The result of a search; None for a study that does not search."""
    mixed: str = ""
    """A sentence that says by which different code, or from which different data, trials were made; empty if none."""
    factorial: Mapping[str, Decomposition] = field(default_factory=dict)
    """Metric -> main effects and interactions; empty if the design or the results do not allow to estimate them."""
    factorial_layouts: tuple[Layout, ...] = ()
    stability: Stability | None = None
    front: tuple[str, ...] = ()
    """Labels of the Pareto front of the requested metrics, if there are two or more."""
    comparisons: tuple[Comparison, ...] = ()
    """The comparisons on the lead metrics, from which the answer is made; none for a search."""
    open_noises: Mapping[str, Noise] = field(default_factory=dict)
    """Metric -> the noise of the comparisons that are still open."""

    def __repr__(self) -> str:
        return f"<table of {self.study.name} at scale {self.study.scale}: {len(self.arms)} treatments>"

    @cached_property
    def answer(self) -> Answer:
        """What the study has found, in sentences."""
        return answer(self)

    @property
    def noise(self) -> Noise:
        """The noise of the primary metric."""
        return self.analysis.noises.get(self.study.primary, Noise(0, 0, len(self.arms) - 1))

    def latex(self, paper_columns: int = 1, packages: Collection[str] = ()) -> str:
        """The results as LaTeX tables, with the claims split into one table per page.

        They need only booktabs and `packages`. `paper_columns`: columns of the paper, 1 or 2.
        """
        claims = pages(self.claims_layout) if self.claims_layout else []
        layouts = [self.layout, *self.factorial_layouts, *claims]
        return "\n".join(latex.latex(layout, paper_columns, packages) for layout in layouts)

    def markdown(self) -> str:
        """Pipe tables with aligned columns, and notes; then the answer."""
        return "\n".join(
            [*map(markdown.markdown, self.layouts), markdown.sections(self.answer.headline, self.answer.parts)]
        )

    def html(self) -> str:
        """A self-contained HTML page with the tables and the answer."""
        return html.page(self.layouts, html.sections(self.answer.headline, self.answer.parts))

    @property
    def layouts(self) -> list[Layout]:
        """The main table, main effects and interactions, and the claims."""
        claims = [self.claims_layout] if self.claims_layout else []
        return [self.layout, *self.factorial_layouts, *claims]

    def csv(self) -> str:
        """One row per treatment at full precision, with a count per status and nine columns per metric."""
        # The header.
        paths = [factor.path for factor in self.study.factors]
        statuses = ["done", *UNFINISHED]
        fields = ["mean", "sd", "delta", "low", "high", "p", "p_holm", "verdict", "negligible"]
        pareto = ["pareto"] if self.search_result else []
        headings = [f"{name} {key}" for name in self.metrics for key in fields]
        rows: list[list[Any]] = [["treatment", "reference", "judged_by", *paths, *statuses, *pareto, *headings]]

        # The treatments; NaN is empty.
        for arm in self.arms:
            levels = [format_level(arm.treatment.levels[path]) for path in paths]
            counts = [arm.status.get(name, 0) for name in statuses]
            cells = [effect_numbers(arm.effects[name]) for name in self.metrics]
            numbers = ["" if cell[key] != cell[key] else cell[key] for cell in cells for key in fields]
            on_front = [arm.treatment.label in self.search_result.front] if self.search_result else []
            compared = [arm.treatment.reference, arm.judged_by] if arm.treatment.reference else ["", ""]
            rows.append([arm.treatment.label, *compared, *levels, *counts, *on_front, *numbers])
        return write_csv(rows)

    def json(self) -> dict[str, Any]:
        """What `ablate table --json` prints. Numbers that are missing or not finite are None."""
        rows = [
            {
                "treatment": arm.treatment.levels,
                "label": arm.treatment.label,
                "reference": arm.treatment.reference,
                "judged_by": arm.judged_by if arm.treatment.reference else None,
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
            "primary_of": dict(self.study.primary_of),
            "metrics": {name: _metric(self.study.metrics[name]) for name in self.metrics},
            "baseline": self.arms[0].treatment.levels,
            "rows": rows,
            "claims": [_found(finding, self.study.metrics) for finding in self.claims],
            "claims_by_chance": _by_chance(self.claims),
            "noise": _finite(self.noise.numbers()),
            "noises": {name: _finite(noise.numbers()) for name, noise in self.analysis.noises.items()},
            "moderation": {name: _finite(vars(one)) for name, one in self.analysis.moderation.items()},
            "factorial": {name: _finite(as_json(self.study, effects)) for name, effects in self.factorial.items()},
            "stability": _finite(vars(self.stability)) if self.stability else None,
            "front": list(self.front),
            "answer": {"headline": self.answer.headline, **self.answer.parts_by_key},
            "warnings": list(self.analysis.warnings),
        }


def effect_numbers(effect: Effect) -> dict[str, Any]:
    """The numbers of an effect under the names of the JSON and CSV formats."""
    change = effect.change
    return {
        "n": effect.n, "mean": effect.mean, "sd": effect.sd, "pairs": change.n, "delta": change.mean, "low": change.low,
        "high": change.high, "p": change.p, "p_holm": effect.p_holm, "verdict": effect.verdict,
        "negligible": effect.negligible,
    }  # fmt: skip


def _metric(metric: Metric) -> dict[str, Any]:
    """What a reader of JSON needs to know of a metric. `compared`: what differences and verdicts are about."""
    target = metric.target if metric.direction == "target" else None
    return {
        "unit": metric.unit, "direction": metric.direction, "target": target, "interest": metric.interest,
        "exact": metric.exact, "compared": "value" if target is None else "distance to target",
    }  # fmt: skip


def _found(finding: Finding, metrics: Mapping[str, Metric]) -> dict[str, Any]:
    """A claim, its judgement over all contexts, and that in each context."""
    claim = finding.claim
    sides = {"A": claim.a, "B": claim.b}
    contrast = {side: dict(levels) if isinstance(levels, Mapping) else levels for side, levels in sides.items()}
    requires = [
        {name: value for name, value in vars(required).items() if value is not None} for required in claim.requires
    ]
    fields = {name: value for name, value in vars(claim).items() if name not in {"a", "b", "requires"}}
    contexts = [_judged(one, metrics.get(claim.metric)) for one in finding.contexts]
    overall = _judged(finding.overall, metrics.get(claim.metric))
    return {**fields, "contrast": contrast, "requires": requires, **overall, "contexts": contexts}


def _judged(judgement: Judgement, metric: Metric | None) -> dict[str, Any]:
    """A judgement; the margin of "no effect" is part of its verdict, as in the table."""
    verdict = describe_verdict(judgement, metric) if metric else judgement.verdict
    return {**_finite(vars(judgement)), "verdict": verdict}


def _by_chance(findings: Sequence[Finding]) -> dict[str, Any]:
    """How many verdicts chance alone would give, over claims and over all contexts."""
    return {
        "claims": vars(tally([finding.overall for finding in findings])),
        "contexts": vars(tally([one for finding in findings for one in finding.contexts])),
    }


def _finite(value: Any) -> Any:
    """JSON values in which numbers that are not finite are None."""
    if isinstance(value, Mapping):
        return {name: _finite(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
