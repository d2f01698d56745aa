"""Which treatments share a panel, and their names in its legend."""

from dataclasses import dataclass

from ablate.analysis.figures.style import LINES_PER_PANEL
from ablate.analysis.study_results import StudyResults
from ablate.plan.treatments import Treatment

PanelKey = tuple[str, str | None]
"""The title of a panel, and the path of the factor whose levels name its treatments, if any."""


@dataclass(frozen=True)
class PanelGroup:
    """The treatments of one panel: `names` is label -> name in the legend, `baseline` the name of the baseline."""

    title: str
    names: dict[str, str]
    baseline: str = "baseline"


def panel_groups(results: StudyResults) -> list[PanelGroup]:
    """All drawn treatments in groups that share a panel.

    In one-at-a-time designs and grids, treatments that differ in a single factor are in one group; in other designs,
    all treatments are. Groups with more than `LINES_PER_PANEL` treatments are split.
    """
    groups: dict[PanelKey, list[Treatment]] = {}
    baseline, *others = results.treatments.values()
    for treatment in others:
        groups.setdefault(_key(results, treatment), []).append(treatment)
    result = []
    for (title, path), rows in groups.items():
        # If nothing else is changed, the baseline is a level of the factor too.
        only_path = path is not None and all(row.changed.keys() == {path} for row in rows)
        name = f"{results.names.level(path, baseline.levels[path])} (baseline)" if path and only_path else "baseline"
        for start in range(0, len(rows), LINES_PER_PANEL):
            part = rows[start : start + LINES_PER_PANEL]
            names = {
                row.label: results.names.level(path, row.levels[path]) if path else results.names.treatment(row.label)
                for row in part
            }
            result.append(PanelGroup(title, names, name))
    return result or [PanelGroup("", {})]


def _key(results: StudyResults, treatment: Treatment) -> PanelKey:
    """The panel of a treatment."""
    shown = results.names
    names = shown.factors
    if treatment.design == "one_at_a_time":
        (path,) = treatment.changed
        return names[path], path
    if treatment.design == "grid":
        # The levels of the factor with the most levels are lines; each combination of the other factors is a panel.
        main = max(results.study.factors, key=lambda factor: len(factor.levels)).path
        rest = [f"{names[path]} {shown.level(path, level)}" for path, level in treatment.levels.items() if path != main]
        return ", ".join(rest) or names[main], main
    return (treatment.design or "").replace("_", " "), None
