"""Papers: their claims and published values. A paper is named after its file: `vivat` is `analysis/papers/vivat.py`.

Such a file defines `PAPER`; parts of it may be in files beside it whose names start with an underscore.
"""

import importlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ablate.analysis.statistics.claims import Claim
from ablate.errors import nearest
from ablate.slots import registry
from ablate.slots.settings import Metric


@dataclass(frozen=True)
class Published:
    """A table as a paper prints it.

    `rows`: name -> values in the order of `columns`; None where the paper has no value. `source`: its place in the
    paper. `note`: what a reader should know about it.
    """

    title: str
    source: str
    columns: tuple[str, ...]
    rows: Mapping[str, tuple[float | str | None, ...]]
    note: str = ""


@dataclass(frozen=True)
class Paper:
    """A paper with its tables, by number or name, and its claims."""

    name: str
    reference: str
    tables: Mapping[str, Published]
    claims: tuple[Claim, ...]


class PaperError(ValueError):
    """All errors of a paper's claims, each with its place."""


def load(name: str) -> Paper:
    """The paper of this name.

    Raises ValueError, with the nearest name, if there is none, and PaperError if one of its claims cannot be judged.
    """
    if name not in registry.papers():
        raise ValueError(f"unknown paper '{name}'{nearest(name, registry.papers())}")
    paper: Paper = importlib.import_module(f"ablate.analysis.papers.{name}").PAPER
    check_claims(paper.claims, registry.PAPERS / f"{name}.py")
    return paper


def check_claims(claims: Sequence[Claim], path: Path) -> None:
    """Raise PaperError for claims that cannot be judged. `path`: the paper's file."""
    probes = [registry.level("probe", name) for name in registry.levels("probe")]
    metrics = {metric.name: metric for probe in probes for metric in probe.metrics}
    ids = [claim.id for claim in claims]
    problems = [
        f"{_place(path, wrong)}: claim {claim.id}: {text}"
        for claim in claims
        for wrong, text in _problems(claim, metrics)
    ]
    problems += [f"{_place(path, one)}: claim {one}: its id is used twice" for one in set(ids) if ids.count(one) > 1]
    if problems:
        raise PaperError("\n".join(problems))


def _problems(claim: Claim, metrics: Mapping[str, Metric]) -> Iterator[tuple[str, str]]:
    """What is wrong with a claim: the text in its file that is to blame, and the error."""
    # Names of metrics.
    named = {"metric": claim.metric, "against": claim.against}
    named |= {f"requires[{i}].metric": required.metric for i, required in enumerate(claim.requires)}
    unknown = {place: name for place, name in named.items() if name and name not in metrics}
    for place, name in unknown.items():
        yield name, f"{place}: no probe reports '{name}'{nearest(name, metrics)}"

    # Margins and bounds.
    if claim.margin is not None and not claim.margin > 0:
        yield claim.id, f"margin: expected a difference above 0, in the metric's unit, found {claim.margin}"
    if not (claim.is_order or claim.margin or unknown) and metrics[claim.metric].interest is None:
        yield claim.id, f"margin: needed for '{claim.direction}', as {claim.metric} has no smallest effect of interest"
    for i, required in enumerate(claim.requires):
        low, high = required.bounds(metrics[required.metric].interest if required.metric in metrics else 0)
        if low > high:
            yield claim.id, f"requires[{i}]: at_least {low:g} is above at_most {high:g}"
        elif low == -float("inf") and high == float("inf"):
            yield claim.id, f"requires[{i}]: needs a bound, as {required.metric} has no smallest effect of interest"

    # What can be compared.
    constant = isinstance(claim.b, float | int)
    if claim.along and (constant or not claim.is_order or not {claim.along} <= claim.a.keys() & claim.b.keys()):  # type: ignore[union-attr]
        yield claim.id, f"along: both ends of an order must name '{claim.along}'"
    if constant and claim.against:
        yield claim.id, "against: side B is a number and has no metric"


def _place(path: Path, text: str) -> str:
    """File and line of a text in quotes, in a paper's file or in those beside it that are parts of it."""
    parts = [path, *sorted(path.parent.glob(f"_{path.stem}*.py"))]
    for part in parts:
        for number, line in enumerate(part.read_text(encoding="utf-8").splitlines(), 1):
            if f'"{text}"' in line or f"'{text}'" in line:
                return f"{part}:{number}"
    return str(path)
