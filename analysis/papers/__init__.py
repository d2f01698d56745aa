"""Papers: their claims and published values. A paper is named after its file: `vivat` is `analysis/papers/vivat.py`.

Such a file defines `PAPER`; parts of it may be in files beside it whose names start with an underscore.
"""

import importlib
import linecache
import re
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ablate.analysis.statistics.claims import Claim
from ablate.errors import Problem, StudyError, nearest
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


def load(name: str) -> Paper:
    """The paper of this name.

    Raises ValueError, with the nearest name, if there is none; StudyError if its file cannot be used, or if one of its
    claims cannot be judged.
    """
    if name not in registry.papers():
        raise ValueError(f"unknown paper '{name}'{nearest(name, registry.papers())}")
    path = registry.PAPERS / f"{name}.py"
    try:
        paper: Paper = importlib.import_module(f"ablate.analysis.papers.{name}").PAPER
    except Exception as error:  # whatever its author has written there
        raise StudyError([_failure(path, error)]) from error
    check_claims(paper.claims, path)
    return paper


def check_claims(claims: Sequence[Claim], path: Path) -> None:
    """Raise StudyError for claims that cannot be judged. `path`: the paper's file."""
    probes = [registry.level("probe", name) for name in registry.levels("probe")]
    metrics = {metric.name: metric for probe in probes for metric in probe.metrics}
    ids = [claim.id for claim in claims]
    problems = [
        _placed(path, wrong, f"claim {claim.id}: {text}")
        for claim in claims
        for wrong, text in _problems(claim, metrics)
    ]
    problems += [_placed(path, one, f"claim {one}: its id is used twice") for one in set(ids) if ids.count(one) > 1]
    if problems:
        raise StudyError(problems)


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


def _placed(path: Path, text: str, message: str) -> Problem:
    """A problem at a text in quotes, in a paper's file or in those beside it that are parts of it."""
    for part in [path, *sorted(path.parent.glob(f"_{path.stem}*.py"))]:
        for number, line in enumerate(part.read_text(encoding="utf-8").splitlines(), 1):
            if found := re.search(f"[\"']{re.escape(text)}[\"']", line):
                return Problem(str(part), number, found.start() + 1, message, line)
    return Problem(str(path), 0, 0, message)


def _failure(path: Path, error: Exception) -> Problem:
    """Why a paper's file, or a part of it, cannot be imported, at the last of its lines that was run."""
    message = f"{type(error).__name__}: {error}"
    if isinstance(error, SyntaxError) and error.filename:
        return Problem(error.filename, error.lineno or 0, error.offset or 1, message, (error.text or "").rstrip())
    frames = [
        frame for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename).parent == path.parent
    ]
    own = [frame for frame in frames if frame.filename != __file__]
    if not own:
        return Problem(str(path), 0, 0, f"{message}; a paper's file defines PAPER")
    line = linecache.getline(own[-1].filename, own[-1].lineno or 0).rstrip()
    return Problem(own[-1].filename, own[-1].lineno or 0, 1, message, line)
