"""The factors of a study: every level checked, the baseline's first."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ablate.errors import KeyPath, Problem
from ablate.identity import canonical
from ablate.recipe.paths import full_path
from ablate.recipe.recipe import Recipe
from ablate.recipe.variants import Variants, host
from ablate.study.document import Document
from ablate.study.labels import label_of
from ablate.study.schema import Range, StudyFile

TWO_LEVELS = {"ladder", "leave_one_out"}
"""Designs in which each factor has one level besides the baseline's."""


@dataclass(frozen=True)
class Factor:
    """A slot or setting that a study varies on purpose: its dotted path and its levels, the baseline's level first.

    `labels`: the names that the study gives to the levels; empty for those without one, and empty if none has one.
    `at_baseline`: whether the baseline has this setting; if not, its first level is None. `conditional`: whether the
    setting exists only with some levels of another factor. `range`: the numbers that a search may choose from, whose
    ends are then the levels.
    """

    path: str
    levels: tuple[Any, ...]
    at_baseline: bool = True
    conditional: bool = False
    range: Range | None = None
    labels: tuple[str, ...] = ()

    @property
    def choices(self) -> tuple[Any, ...]:
        """The levels that a treatment can have."""
        return self.levels if self.at_baseline else self.levels[1:]


def read_factors(
    document: Document, file: StudyFile, variants: Variants, problems: list[Problem]
) -> tuple[Factor, ...]:
    """The factors in the order of the file; adds what is wrong with them to `problems`."""
    if "list" in file.design:
        return _listed(document, file, variants, problems)
    found = [_factor(document, file, variants, path, problems) for path in file.factors]
    problems += _named_twice(document, ("factors",), file.factors)
    if not file.factors:
        problems.append(document.problem(("factors",), f"design '{file.design[0]}' needs 'factors'", at_key=True))
    if file.treatments:
        problems.append(document.problem(("treatments",), f"'treatments' is for design 'list', not '{file.design[0]}'"))
    return tuple(factor for factor in found if factor)


def _named_twice(document: Document, parent: KeyPath, paths: Iterable[str]) -> Iterator[Problem]:
    """Factors that are the same setting as one before, as `loss.kl.weight` is `loss.kl`."""
    first: dict[str, str] = {}
    for path in paths:
        other = first.setdefault(full_path(path), path)
        if other != path:
            yield document.problem((*parent, path), f"factor '{path}' overlaps with factor '{other}'", at_key=True)


def check_levels(document: Document, file: StudyFile, variants: Variants, problems: list[Problem]) -> None:
    """Check each level by itself, where the baseline or the design cannot be read; adds to `problems`."""
    for key, factors in (("factors", file.factors), ("nuisance", file.nuisance)):
        for path, given in factors.items():
            if host(path) not in file.factors:  # else the level of another factor may bring the setting
                for position, level in positions(given):
                    try_levels(document, variants, {path: level}, (key, path, position), problems)
    for i, treatment in enumerate(file.treatments):
        for path, level in treatment.items():
            if host(path) not in treatment:
                try_levels(document, variants, {path: level}, ("treatments", i, path), problems)


def positions(levels: list[Any] | Range) -> list[tuple[str | int, Any]]:
    """The levels of a list, or the ends of a range, with their keys in the file."""
    return [("low", levels.low), ("high", levels.high)] if isinstance(levels, Range) else [*enumerate(levels)]


def nothing_to_choose(levels: list[Any] | Range) -> str:
    """Why levels or a range leave no choice; empty if they leave one. One level may do, beside the baseline's."""
    if isinstance(levels, Range):
        return "the range is empty: low equals high" if levels.low == levels.high else ""
    return "" if levels else "no level is listed"


def _factor(
    document: Document, file: StudyFile, variants: Variants, path: str, problems: list[Problem]
) -> Factor | None:
    key: KeyPath = ("factors", path)
    before = len(problems)
    baseline = variants.base
    with_ = _enabling_level(file, variants, path)
    given = file.factors[path]
    if isinstance(given, Range) and "search" not in file.design:
        message = f"a range is for design 'search'; for '{file.design[0]}' list the levels of '{path}'"
        problems.append(document.problem(key, message))
        return None
    if message := nothing_to_choose(given):
        problems.append(document.problem(key, f"{path}: {message}"))
        return None
    levels = [level for _, level in positions(given)]
    recipes = [
        recipe
        for position, level in positions(given)
        if (recipe := try_levels(document, variants, {**with_, path: level}, (*key, position), problems))
    ]
    if len(problems) > before:
        return None
    keys = [recipe.key(path) for recipe in recipes]
    first = {} if with_ else {baseline.key(path): baseline.value(path)}
    problems += _check_number(document, file, key, keys, next(iter(first), None))
    values = dict(first)
    for text, level, recipe in zip(keys, levels, recipes, strict=True):
        values.setdefault(text, level if isinstance(level, dict) else recipe.value(path))
    shown = (*([None] if with_ else []), *values.values())
    labels: tuple[str, ...] = ()
    if isinstance(given, list):
        label_by_key = {text: label_of(document, (*key, i)) for i, text in enumerate(keys)}
        labels = (*([""] if with_ else []), *(label_by_key.get(text, "") for text in values))
    range_ = given if isinstance(given, Range) else None
    return Factor(path, shown, not with_, host(path) in file.factors, range_, labels if any(labels) else ())


def _enabling_level(file: StudyFile, variants: Variants, path: str) -> dict[str, Any]:
    """The other factor and its level with which there is a setting at `path`; empty if the baseline has the setting."""
    slot = host(path)
    if slot is None or slot not in file.factors or variants.has(path, {}):
        return {}
    return next(({slot: level} for level in file.factors[slot] if variants.has(path, {slot: level})), {})


def try_levels(
    document: Document, variants: Variants, levels: Mapping[str, Any], path: KeyPath, problems: list[Problem]
) -> Recipe | None:
    """The recipe with these levels; adds to `problems` what is wrong, at the level's `path` or at its factor's key."""
    factor = path if path[0] == "treatments" else path[:-1]
    try:
        recipe, found = variants.recipe(levels)
    except ValueError as error:
        problems.append(document.problem(factor, str(error), at_key=True))
        return None
    for _, message, at_key in found:  # an unknown name is an error of the factor's key, a bad value one of the level
        problems.append(document.problem(factor if at_key else path, message, at_key=at_key))
    return recipe


def _check_number(
    document: Document, file: StudyFile, path: KeyPath, keys: list[str], baseline: str | None
) -> list[Problem]:
    """Whether the design can use so many levels. `baseline`: the key of its level, None if it has no such setting."""
    message = ""
    name = path[1]
    two_levels = next((design for design in file.design if design in TWO_LEVELS), None)
    fraction = "fraction" in file.design
    others = len(set(keys) - {baseline})
    count = f"{len(keys)} level{'s' * (len(keys) != 1)}"
    if len(set(keys)) < len(keys):
        message = f"factor '{name}' names a level twice"
    elif two_levels and others != 1:
        message = f"design '{two_levels}' needs exactly one level besides the baseline's; '{name}' has {others}"
    elif fraction and not others:
        message = f"design 'fraction' needs a level besides the baseline's; '{name}' has none"
    elif len(keys) < 2 and not (two_levels or fraction) and baseline is not None:
        message = f"factor '{name}' has {count}; it needs at least two to compare"
    elif "grid" in file.design and baseline not in {*keys, None}:
        message = f"factor '{name}' lacks the baseline's level, so the grid would lack the baseline"
    elif baseline is None and file.design == ("one_at_a_time",):
        message = (
            f"the baseline has no '{name}', so 'one_at_a_time' cannot change it alone; "
            f"design 'grid' varies it with the levels of {host(str(name))} that have it"
        )
    return [document.problem(path, message, at_key=True)] if message else []


def _valid_recipe(variants: Variants, levels: Mapping[str, Any]) -> Recipe | None:
    """The recipe with these levels, None if anything is wrong with them."""
    try:
        return variants.recipe(levels)[0]
    except ValueError:
        return None


def _listed(document: Document, file: StudyFile, variants: Variants, problems: list[Problem]) -> tuple[Factor, ...]:
    if file.factors:
        problems.append(
            document.problem(("factors",), "design 'list' names its levels in 'treatments', not in 'factors'")
        )
    if not file.treatments:
        problems.append(document.problem(("design",), "design 'list' needs 'treatments'"))
    varied = {path for treatment in file.treatments for path in treatment}
    conditional = {path for path in varied if host(path) in varied}
    absent = {path for path in conditional if not variants.has(path, {})}
    levels: dict[str, list[Any]] = {}
    names: dict[tuple[str, str], str] = {}
    for i, treatment in enumerate(file.treatments):
        whole = _valid_recipe(variants, treatment)  # levels that go together only need not be right alone
        for path, level in treatment.items():
            together = {other: treatment[other] for other in (host(path), path) if other in treatment}
            if recipe := whole or try_levels(document, variants, together, ("treatments", i, path), problems):
                value = level if isinstance(level, dict) else recipe.value(path)
                known = levels.setdefault(path, [None if path in absent else variants.base.value(path)])
                known += [] if value in known else [value]
                if label := label_of(document, ("treatments", i, path)):
                    names.setdefault((path, repr(value)), label)
    for i, treatment in enumerate(file.treatments):
        problems += _named_twice(document, ("treatments", i), treatment)
    return tuple(
        Factor(
            path, tuple(values), path not in absent, path in conditional,
            labels=tuple(names.get((path, repr(value)), "") for value in values),
        )
        for path, values in levels.items()
    )  # fmt: skip


def repeated_treatments(document: Document, file: StudyFile, variants: Variants) -> Iterator[Problem]:
    """Listed treatments that are the baseline, or the same as one before.

    `variants`: without scale and `--set`, which may make treatments equal that are not so in the file.
    """
    if not variants.complete:
        return
    known = {canonical(variants.base.plain()): "is the baseline"}
    for i, treatment in enumerate(file.treatments):
        recipe = _valid_recipe(variants, treatment)
        if not treatment:
            yield document.problem(("treatments", i), f"treatment {i + 1} changes nothing")
        elif recipe:
            same = known.setdefault(canonical(recipe.plain()), f"is the same as treatment {i + 1}")
            if same != f"is the same as treatment {i + 1}":
                yield document.problem(("treatments", i), f"treatment {i + 1} {same}")
