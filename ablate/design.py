"""Designs: from a study to its treatments. The baseline comes first."""

import itertools
from dataclasses import dataclass
from typing import Any

from ablate.identity import canonical
from ablate.recipe import Recipe
from ablate.spec import Factor, Study


@dataclass(frozen=True)
class Treatment:
    """One level for every factor. `changed` holds those that differ from the baseline; it is empty for the baseline."""

    levels: dict[str, Any]
    changed: dict[str, Any]
    label: str
    recipe: Recipe

    @property
    def is_baseline(self) -> bool:
        return not self.changed


def treatments(study: Study) -> list[Treatment]:
    """The treatments of a study, none twice. Raises StudyError when levels contradict each other in a combination."""
    baseline = {factor.path: factor.levels[0] for factor in study.factors}
    rows = {"one_at_a_time": _one_at_a_time, "grid": _grid, "list": _list}[study.design](study)
    short = short_names(study.factors)
    found: dict[str, Treatment] = {}
    for row in [{}, *rows]:
        changed = {path: level for path, level in row.items() if level != baseline[path]}
        label = " ".join(f"{short[path]}={show(level)}" for path, level in changed.items()) or "baseline"
        if canonical(changed) not in found:
            found[canonical(changed)] = Treatment({**baseline, **changed}, changed, label, study.recipe(changed))
    return list(found.values())


def contrasts(study: Study) -> list[str]:
    """What the design can estimate, in words."""
    if study.design == "grid" and len(study.factors) > 1:
        return [
            "main effect of each factor",
            "interaction of every pair of factors",
            "each treatment against the baseline",
        ]
    if study.design == "one_at_a_time":
        return ["each level against the baseline's level; no interactions"]
    return ["each treatment against the baseline"]


def _one_at_a_time(study: Study) -> list[dict[str, Any]]:
    return [{factor.path: level} for factor in study.factors for level in factor.levels[1:]]


def _grid(study: Study) -> list[dict[str, Any]]:
    paths = [factor.path for factor in study.factors]
    combinations = itertools.product(*(factor.levels for factor in study.factors))
    return [dict(zip(paths, levels, strict=True)) for levels in combinations]


def _list(study: Study) -> list[dict[str, Any]]:
    """The listed treatments, with 1 and 1.0 made equal."""

    def checked(path: str, level: Any) -> Any:
        return level if isinstance(level, dict) else study.recipe({path: level}).value(path)

    return [{path: checked(path, level) for path, level in row.items()} for row in study.listed]


def short_names(factors: tuple[Factor, ...]) -> dict[str, str]:
    """The last word of each path, or the whole path where two factors share it."""
    last = [factor.path.split(".")[-1] for factor in factors]
    return {
        factor.path: name if last.count(name) == 1 else factor.path for factor, name in zip(factors, last, strict=True)
    }


def show(level: Any) -> str:
    """A level as a reader sees it: `0.01`, `1e-06`, `scn`, `16-32-32`, `scn(interp=bilinear)`."""
    if isinstance(level, float):
        return f"{level:g}"
    if isinstance(level, list | tuple):
        return "-".join(map(show, level))
    if isinstance(level, dict):
        name = show(level.get("level", level.get("weight")))
        settings = ",".join(f"{key}={show(value)}" for key, value in level.items() if key not in {"level", "weight"})
        return f"{name}({settings})" if settings else name
    return str(level)
