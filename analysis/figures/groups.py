"""Which treatments share a panel, and what they are called there."""

from dataclasses import dataclass

from ablate.analysis.figures.style import ABREAST
from ablate.analysis.results import StudyResults
from ablate.plan.labels import short_names, show
from ablate.plan.treatments import Treatment

PanelKey = tuple[str, str | None]
"""Title of a panel, and the factor by whose levels its treatments are named."""


@dataclass(frozen=True)
class Together:
    """Treatments of one panel beside the baseline: label -> name in its legend."""

    title: str
    names: dict[str, str]
    baseline: str = "baseline"


def together(results: StudyResults) -> list[Together]:
    """All treatments that are drawn; where designs allow, those that differ in one factor alone share a panel."""
    groups: dict[PanelKey, list[Treatment]] = {}
    baseline, *others = results.treatments.values()
    for treatment in others:
        groups.setdefault(_key(results, treatment), []).append(treatment)
    found = []
    for (title, path), rows in groups.items():
        alike = path is not None and all(row.changed.keys() == {path} for row in rows)
        name = f"{show(baseline.levels[path])} (baseline)" if path and alike else "baseline"
        for start in range(0, len(rows), ABREAST):
            part = rows[start : start + ABREAST]
            names = {row.label: show(row.levels[path]) if path else row.label for row in part}
            found.append(Together(title, names, name))
    return found or [Together("", {})]


def _key(results: StudyResults, treatment: Treatment) -> PanelKey:
    names = short_names(results.study.factors)
    if treatment.design == "one_at_a_time":
        (path,) = treatment.changed
        return names[path], path
    if treatment.design == "grid":
        # The factor with the most levels makes the lines, the others the panels.
        main = max(results.study.factors, key=lambda factor: len(factor.levels)).path
        rest = [f"{names[path]} {show(level)}" for path, level in treatment.levels.items() if path != main]
        return ", ".join(rest) or names[main], main
    return (treatment.design or "").replace("_", " "), None
