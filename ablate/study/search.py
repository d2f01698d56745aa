"""The objectives, limits and budget of a search. `ablate/adaptive/search.py` chooses the treatments."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from ablate.errors import Problem, nearest
from ablate.slots.settings import Metric
from ablate.study.document import Document
from ablate.study.factors import Factor
from ablate.study.schema import Range, Sampler, SearchSettings, StudyFile

LIMIT = re.compile(r"\s*(<=|>=)\s*([-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?)\s*")


@dataclass(frozen=True)
class Suggestion:
    """A level for each factor that a search has chosen. `notes`: what its sampler keeps with it."""

    levels: Mapping[str, Any]
    notes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Limit:
    """A bound on a metric, such as `border/excess_b4 <= 2`."""

    metric: str
    sign: Literal["<=", ">="]
    bound: float

    def excess(self, value: float) -> float:
        """How far a value lies beyond the bound; 0 or less where the limit is kept."""
        return value - self.bound if self.sign == "<=" else self.bound - value

    def __str__(self) -> str:
        return f"{self.metric} {self.sign} {self.bound:g}"


@dataclass(frozen=True)
class Search:
    """How a study searches. `trials`: how many treatments it tries at most, with the baseline; None for all.

    `tunes`: for a search that tunes one treatment of another study, the signature of what that treatment changes.
    """

    sampler: Sampler
    trials: int | None
    objectives: tuple[Metric, ...]
    limits: tuple[Limit, ...]
    tunes: str = ""

    @property
    def metrics(self) -> list[str]:
        """Names of the metrics of its objectives and limits."""
        return list(dict.fromkeys([goal.name for goal in self.objectives] + [limit.metric for limit in self.limits]))


def read_search(
    document: Document,
    file: StudyFile,
    factors: tuple[Factor, ...],
    metrics: Mapping[str, Metric],
    primary: str,
    problems: list[Problem],
) -> Search | None:
    """The search of a study, None if it has none; adds what is wrong with it to `problems`.

    `primary`: the metric to search for if the file names no objectives.
    """
    before = len(problems)
    settings = file.search
    if settings is None:
        return None
    ranges = [factor.path for factor in factors if factor.range]
    problems += [document.problem(("factors", path), text) for path, text in check_ranges(factors)]
    if settings.sampler == "brute_force" and ranges:
        message = f"brute_force tries every level, and the range of '{ranges[0]}' is not a list of levels; list them"
        problems.append(document.problem(("factors", ranges[0]), message))
    elif settings.sampler != "brute_force" and settings.trials is None:
        message = f"sampler '{settings.sampler}' needs 'trials': how many treatments it may try"
        problems.append(document.problem(("search",), message))
    limits = _read_limits(document, settings, metrics, problems)
    names = settings.objectives or (primary,)
    problems += [document.problem(("search", "objectives", i), text) for i, text in _check_objectives(names, metrics)]
    if len(problems) > before:
        return None
    return Search(settings.sampler, settings.trials, tuple(metrics[name] for name in names), limits)


def check_ranges(factors: tuple[Factor, ...]) -> Iterator[tuple[str, str]]:
    """Path and message of each range that is empty, or that lacks the baseline's level."""
    for factor in factors:
        span: Range | None = factor.range
        if span is None:
            continue
        if span.low >= span.high:
            yield factor.path, f"the range of '{factor.path}' is empty: low {span.low} is not below high {span.high}"
        elif span.log and span.low <= 0:
            yield factor.path, f"a range on a log scale needs low > 0, found {span.low}"
        elif factor.at_baseline and not span.low <= factor.levels[0] <= span.high:
            yield factor.path, f"the range of '{factor.path}' lacks the baseline's level, {factor.levels[0]}"


def _check_objectives(names: tuple[str, ...], metrics: Mapping[str, Metric]) -> Iterator[tuple[int, str]]:
    for i, name in enumerate(names):
        if name not in metrics:
            yield i, f"objectives: none of the probes reports '{name}'{nearest(name, metrics)}"
        elif metrics[name].direction == "none":
            yield i, f"objectives: no direction of '{name}' is better, so it cannot be searched for"
        elif name in names[:i]:
            yield i, f"objectives: '{name}' is named twice"


def _read_limits(
    document: Document, settings: SearchSettings, metrics: Mapping[str, Metric], problems: list[Problem]
) -> tuple[Limit, ...]:
    limits = []
    for name, text in settings.constraints.items():
        path = ("search", "constraints", name)
        parts = LIMIT.fullmatch(text)
        if name not in metrics:
            message = f"constraints: none of the probes reports '{name}'{nearest(name, metrics)}"
            problems.append(document.problem(path, message, at_key=True))
        elif parts is None:
            problems.append(document.problem(path, f"expected a bound such as '<= 2' or '>= 30', found '{text}'"))
        else:
            limits.append(Limit(name, "<=" if parts[1] == "<=" else ">=", float(parts[2])))
    return tuple(limits)
