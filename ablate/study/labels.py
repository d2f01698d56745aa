"""The names that a study gives to its metrics, factors and levels; they are no part of any signature."""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from ablate.errors import KeyPath, Problem, nearest, show_value
from ablate.recipe.paths import Raw, full_path
from ablate.recipe.recipe import Part
from ablate.study.document import Document
from ablate.study.probes import reported
from ablate.study.schema import StudyFile

if TYPE_CHECKING:
    from ablate.study.factors import Factor

KEY = "label"
"""The key of a level's name, beside the level itself."""


def without_labels(document: Document, data: Raw) -> tuple[Raw, list[Problem]]:
    """The keys of a study without the names of levels, and what is wrong with these.

    `{level: scn, label: SCN (ours)}` becomes `scn`, and so does `{weight: 1, label: strong}` become `1`.
    """
    problems: list[Problem] = []
    changed = dict(data)
    if isinstance(data.get("factors"), dict):
        changed["factors"] = {
            path: [_without(document, ("factors", path, i), level, problems) for i, level in enumerate(levels)]
            if isinstance(levels, list)
            else levels
            for path, levels in data["factors"].items()
        }
    if isinstance(data.get("treatments"), list):
        changed["treatments"] = [
            {path: _without(document, ("treatments", i, path), level, problems) for path, level in row.items()}
            if isinstance(row, dict)
            else row
            for i, row in enumerate(data["treatments"])
        ]
    return changed, problems


def _without(document: Document, path: KeyPath, level: Any, problems: list[Problem]) -> Any:
    """A level without its name."""
    if not isinstance(level, dict) or KEY not in level:
        return level
    name = level[KEY]
    rest = {key: value for key, value in level.items() if key != KEY}
    where = f"{'.'.join(word for word in path if isinstance(word, str))}.{KEY}"
    if not isinstance(name, str) or not name.strip():
        problems.append(document.problem((*path, KEY), f"{where}: expected text, found {show_value(name)}"))
    if not rest:
        message = f"{where}: the level that it names is missing, as in {{level: …, label: {name}}}"
        problems.append(document.problem((*path, KEY), message, at_key=True))
    return next(iter(rest.values())) if rest.keys() in ({"level"}, {"weight"}) else rest


def label_of(document: Document, path: KeyPath) -> str:
    """The name of the level at a position of the file; empty if it has none."""
    level: Any = document.data
    for word in path:
        level = level[word]
    return " ".join(str(level[KEY]).split()) if isinstance(level, dict) and KEY in level else ""


def check_labels(
    document: Document, file: StudyFile, factors: "Iterable[Factor]", probes: tuple[Part, ...], *, complete: bool
) -> Iterator[Problem]:
    """Names of what the study does not have, empty names, and levels of a factor that have the same name."""
    factors = list(factors)
    known = [*reported(probes), *(factor.path for factor in factors)]
    paths = {full_path(factor.path) for factor in factors}
    for name, label in file.labels.items():
        if complete and name not in known and full_path(name) not in paths:
            message = f"labels.{name}: the study has no such metric or factor{nearest(name, known)}"
            yield document.problem(("labels", name), message, at_key=True)
        if not label.strip():
            yield document.problem(("labels", name), f"labels.{name}: expected text, found {show_value(label)}")
    for factor in factors:
        given = [label for label in factor.labels if label]
        if repeated := [label for i, label in enumerate(given) if label in given[:i]]:
            message = f"two levels of '{factor.path}' have the label '{repeated[0]}'"
            yield document.problem(("factors", factor.path), message, at_key=True)
