"""`ablate.load`: a study, and its plan."""

import json
import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ablate.adaptive.recall import plan_study
from ablate.api.printed import WIDTH, printed
from ablate.driver.overview import summarise, summarise_measured
from ablate.driver.plan_text import print_plan
from ablate.driver.studies import StudyRequest, StudySource, find_document, validate_study
from ablate.errors import UsageError
from ablate.plan.commands import DEFAULT_STORE
from ablate.plan.labels import format_level
from ablate.plan.plan import Plan
from ablate.schedule.resources import gpu_count
from ablate.store.folders import Store, open_store
from ablate.study.document import parse_value
from ablate.study.study import Study, read_study

Location = str | Path
"""A file or a folder, or a location in object storage such as `s3://bucket/runs`."""

Changes = Mapping[str, Any] | Iterable[str]
"""What `--set` changes: path -> value, or texts `path=value`."""


@dataclass(frozen=True, repr=False)
class LoadedStudy:
    """A study that has been read from its file and checked. `store`: where its results are or will be."""

    spec: Study
    source: StudySource
    store: Store

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def question(self) -> str:
        return self.spec.question

    @property
    def scale(self) -> str:
        return self.spec.scale

    @property
    def factors(self) -> dict[str, list[str]]:
        """Path of each factor -> its levels as text, the baseline's first."""
        return {factor.path: [format_level(level) for level in factor.levels] for factor in self.spec.factors}

    def plan(self, *, measure: bool = False) -> "StudyPlan":
        """What a sweep would do; nothing is started, but the models are built and folders looked at, as by `check`.

        `measure`: measure the cost by a few real steps of each kind. Raises StudyError for what cannot run.
        """
        checked = validate_study(self.source, self.store)
        say_notes(checked.notes)
        plan = plan_study(checked.study, self.store)
        return StudyPlan(plan, summarise_measured(plan, 1, say) if measure else summarise(plan))

    def __repr__(self) -> str:
        spec = self.spec
        varied = ", ".join(f"{path} {' / '.join(levels)}" for path, levels in self.factors.items())
        text = f"{spec.name}: {' '.join(spec.question.split())} (scale {spec.scale}; {varied}; {len(spec.seeds)} seeds)"
        return text if len(text) <= 2 * WIDTH else f"{text[: 2 * WIDTH - 2]}…)"


@dataclass(frozen=True, repr=False)
class StudyPlan:
    """The plan of a study. `summary`: what `ablate plan --json` prints."""

    plan: Plan
    summary: dict[str, Any]

    def __repr__(self) -> str:
        return printed(lambda console: print_plan(self.plan, self.summary, console))


def load(study: Location, *, scale: str | None = None, set: Changes = (), store: Location | None = None) -> LoadedStudy:
    """Read a study from its file, from the store or from the examples, and check it.

    `scale`: a scale of the file; by default `gpu` or `cpu`, by machine. `set`: changes, as by `--set`: a mapping such
    as {"loss.kl": 1e-3}, or texts such as "loss.kl=1e-3". `store`: by default the one that ABLATE_STORE names, or else
    `runs`. Raises StudyError with every error of the file, StoreError for a store that cannot be used.
    """
    runs = find_store(store)
    source = find_document(StudyRequest(str(study), scale, read_changes(set)), runs)
    spec = read_study(source.document, source.scale, source.overrides, gpu=gpu_count() > 0)
    say_notes([source.note] if source.note else [])
    return LoadedStudy(spec, source, runs)


def find_store(store: Location | None) -> Store:
    """The store at a location; without one, the store that ABLATE_STORE names, or else `runs`."""
    return open_store(store if store is not None else os.environ.get("ABLATE_STORE", DEFAULT_STORE))


def read_changes(changes: Changes) -> tuple[str, ...]:
    """Changes as texts `path=value`. Raises UsageError for a value that YAML cannot hold."""
    if isinstance(changes, str):
        return (changes,)
    if not isinstance(changes, Mapping):
        return tuple(changes)
    try:
        return tuple(f"{path}={_text(value)}" for path, value in changes.items())
    except (TypeError, ValueError) as error:
        raise UsageError(f"set: a value must be a number, a text, a list or a mapping of these; {error}") from None


def _text(value: Any) -> str:
    """A value as YAML reads it; text without quotes where it needs none."""
    if isinstance(value, Path):
        value = str(value)
    if isinstance(value, str) and parse_value(value) == value:
        return value
    return json.dumps(value, allow_nan=False, default=_plain)


def _plain(value: Any) -> Any:
    """A path as text, and a number of NumPy or torch as one of Python. Raises TypeError for anything else."""
    if isinstance(value, Path):  # within a list or a mapping
        return str(value)
    if hasattr(value, "item"):
        return value.item()
    raise TypeError(f"found {value!r:.60}")


def say(text: str) -> None:
    """Write a line to stderr."""
    sys.stderr.write(f"{text}\n")


def say_notes(notes: Iterable[str]) -> None:
    """Write notes to stderr, as the command does."""
    for note in notes:
        say(f"note: {note}")
