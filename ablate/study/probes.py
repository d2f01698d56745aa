"""The probes of a study, and the smallest effects of interest of the metrics that they report."""

from collections.abc import Iterable, Iterator
from contextlib import suppress

from ablate.errors import Problem, nearest, show_value
from ablate.recipe.paths import Raw
from ablate.recipe.reading import RecipeProblem, read_part
from ablate.recipe.recipe import Part
from ablate.slots import registry
from ablate.slots.level_file import Level, LevelError
from ablate.slots.settings import Metric
from ablate.study.document import Document
from ablate.study.schema import StudyFile


def read_probes(raw: Raw) -> tuple[tuple[Part, ...], list[RecipeProblem]]:
    """The probes that are right, and what is wrong with the others."""
    problems: list[RecipeProblem] = []
    parts = [read_part("probe", value, ("probes", name), problems) for name, value in raw["probes"].items()]
    return tuple(part for part in parts if part), problems


def reported(probes: Iterable[Part]) -> dict[str, Metric]:
    """Name -> metric, of all metrics that these probes report."""
    return {metric.name: metric for probe in probes for metric in registry.level("probe", probe.level).metrics}


def check_interest(document: Document, file: StudyFile, probes: tuple[Part, ...], *, complete: bool) -> list[Problem]:
    """Whether each smallest effect of interest is above 0, and of a metric that a probe reports (if all are known)."""
    known = [*reported(probes)]
    problems = []
    for name, margin in file.interest.items():
        if complete and name not in known:
            text = f"interest.{name}: none of the probes reports '{name}'{nearest(name, known)}"
            problems.append(document.problem(("interest", name), text, at_key=True))
        if margin <= 0:
            text = f"interest.{name}: expected a difference above 0, in the metric's unit, found {show_value(margin)}"
            problems.append(document.problem(("interest", name), text))
    return problems


def every_probe() -> Iterator[Level]:
    """All probes but those whose file is wrong."""
    for name in registry.levels("probe"):
        with suppress(LevelError):
            yield registry.level("probe", name)
