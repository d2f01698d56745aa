"""The nuisance settings that a study tunes for each treatment.

A nuisance setting (Godbole et al., "Deep Learning Tuning Playbook", 2023) is of no interest in itself, but a comparison
at one value of it favours the treatment that this value suits. How it is tuned: see `ablate/adaptive/tuning.py`.
"""

from dataclasses import dataclass

from ablate.errors import KeyPath, Problem
from ablate.recipe.paths import full_path
from ablate.recipe.variants import Variants
from ablate.slots.settings import Metric
from ablate.study.document import Document
from ablate.study.factors import Factor, nothing_to_choose, positions, try_levels
from ablate.study.schema import Range, Sampler, StudyFile
from ablate.study.search import check_ranges


@dataclass(frozen=True)
class Tuning:
    """The settings that are tuned, and the budget of each treatment: `trials` settings, each with all `seeds`."""

    factors: tuple[Factor, ...]
    trials: int
    seeds: tuple[int, ...]
    sampler: Sampler


def read_tuning(
    document: Document,
    file: StudyFile,
    factors: tuple[Factor, ...],
    variants: Variants,
    primary: Metric,
    problems: list[Problem],
) -> Tuning | None:
    """The tuning of a study, None if it has none; adds what is wrong with it to `problems`."""
    before = len(problems)
    settings = file.tuning
    if settings is None:
        return None
    varied = [factor.path for factor in factors]
    for path in file.nuisance:
        other = next((name for name in file.nuisance if full_path(name) == full_path(path)), path)
        if other != path:
            message = f"nuisance '{path}' overlaps with nuisance '{other}'"
            problems.append(document.problem(("nuisance", path), message, at_key=True))
        for other in varied:
            if f"{path}.".startswith(f"{other}.") or f"{other}.".startswith(f"{path}."):
                message = f"nuisance '{path}' overlaps with factor '{other}', which is varied on purpose"
                problems.append(document.problem(("nuisance", path), message, at_key=True))
    if len(problems) > before:
        return None
    factors_or_none = [_factor(document, file, variants, path, problems) for path in file.nuisance]
    tuned = tuple(factor for factor in factors_or_none if factor)
    problems += [document.problem(("nuisance", path), text) for path, text in check_ranges(tuned)]
    ranges = [factor.path for factor in tuned if factor.range]
    if settings.sampler == "brute_force" and ranges:
        message = f"brute_force tries every level, and the range of '{ranges[0]}' is not a list of levels; list them"
        problems.append(document.problem(("nuisance", ranges[0]), message))
    if primary.direction == "none":
        message = f"no direction of '{primary.name}' is better, so nothing can be tuned for it"
        problems.append(document.problem(("primary",), message))
    return None if len(problems) > before else Tuning(tuned, settings.trials, settings.seeds, settings.sampler)


def _factor(
    document: Document, file: StudyFile, variants: Variants, path: str, problems: list[Problem]
) -> Factor | None:
    """A nuisance setting with its levels or range, the file's own level first."""
    key: KeyPath = ("nuisance", path)
    before = len(problems)
    given = file.nuisance[path]
    if message := nothing_to_choose(given):
        problems.append(document.problem(key, f"{path}: {message}"))
        return None
    levels = dict(positions(given))
    recipes = [try_levels(document, variants, {path: level}, (*key, i), problems) for i, level in levels.items()]
    if len(problems) > before:
        return None
    values = {recipe.key(path): recipe.value(path) for recipe in [variants.base, *recipes] if recipe}
    if len(values) < 2 or len({recipe.key(path) for recipe in recipes if recipe}) < len(recipes):
        message = f"nuisance '{path}' needs different levels to choose from, found {[*levels.values()]}"
        problems.append(document.problem(key, message, at_key=True))
        return None
    span = given if isinstance(given, Range) else None
    return Factor(path, tuple(values.values()), range=span)
