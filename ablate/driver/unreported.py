"""Metrics of a study's probes that its data do not allow: those of clips whose motion must be known."""

from collections.abc import Iterable

from ablate.errors import Problem
from ablate.recipe.recipe import Recipe
from ablate.slots import registry
from ablate.slots.data import DataSettings
from ablate.study.study import Study


def unreported(study: Study, recipes: Iterable[Recipe]) -> tuple[list[Problem], list[str]]:
    """What is wrong if a primary metric is among them, and a note on the others, for each data level once."""
    levels = {probe.level for probe in study.probes}
    absent = [
        metric.name
        for level in sorted(levels)
        for metric in registry.level("probe", level).metrics
        if metric.known_motion
    ]
    primary = {study.primary, *study.primary_of.values()}
    problems: list[Problem] = []
    notes: list[str] = []
    for level in dict.fromkeys(_of_unknown_motion(recipes)) if absent else ():
        why = f"the motion of the clips of data '{level}' is not known"
        notes.append(f"scale {study.scale}: not reported, as {why}: {', '.join(absent)}")
        problems += [
            study.document.problem(("primary",), f"primary: '{name}' is not reported, as {why}; name another metric")
            for name in absent
            if name in primary
        ]
    return problems, notes


def _of_unknown_motion(recipes: Iterable[Recipe]) -> Iterable[str]:
    """The data levels of recipes whose held-out clips come without their motion."""
    for recipe in recipes:
        data = recipe.parts["data"]
        assert isinstance(data.settings, DataSettings)
        if data.settings.heldout_length > 1 and not data.settings.known_motion:
            yield data.level
