"""Scales and `--set`: changes of a study's raw recipe that come after its base."""

import copy
from collections.abc import Iterable
from typing import Any

from ablate.errors import Problem, StudyError, nearest
from ablate.identity import signature
from ablate.recipe.paths import RECIPE_SLOTS, Raw, assign, path_hint, words_of
from ablate.study.document import Document, parse_value
from ablate.study.file import FileCheck, list_seeds
from ablate.study.schema import StudyFile


def choose_scale(check: FileCheck, scale: str | None, problems: list[Problem], *, gpu: bool) -> tuple[str, str]:
    """The name of the scale to use, "base" for none, and why; adds to `problems` where `scale` is unknown."""
    scales = check.file.scales
    if scale is not None:
        if scale not in scales and "scales" not in check.wrong:
            hint = nearest(scale, scales) or "; the study has no scales: leave --scale out"
            problems.append(Problem(f"--scale {scale}", 0, 0, f"unknown scale '{scale}'{hint}"))
        return scale, "asked for"
    name, why = ("gpu", "this machine has a GPU") if gpu else ("cpu", "this machine has no GPU")
    if name in scales:
        return name, why
    return "base", f"the study has no scale '{name}'"


def at_scale(document: Document, raw: Raw, file: StudyFile, scale: str) -> tuple[Raw, list[Problem]]:
    """A raw recipe with the changes of a scale, and what is wrong with their paths."""
    scaled = copy.deepcopy(raw)
    problems = []
    for path, value in file.scales.get(scale, {}).items():
        try:
            _assign(scaled, path, value, "a scale changes")
        except ValueError as error:
            problems.append(document.problem(("scales", scale, path), str(error), at_key=True))
    return scaled, problems


def override(raw: Raw, text: str) -> list[Problem]:
    """Apply one `--set`, as `PATH=VALUE`, in place. Gives what is wrong with it."""
    path, equals, value = text.partition("=")
    if not equals or not path.strip():
        return [Problem(f"--set {text}" if text else "--set", 0, 0, f"expected PATH=VALUE, found '{text}'")]
    try:
        _assign(raw, path.strip(), parse_value(value), "--set changes")
    except StudyError as error:
        return [Problem(f"--set {text}", 0, 0, problem.message) for problem in error.problems]
    except ValueError as error:
        return [Problem(f"--set {text}", 0, 0, str(error))]
    return []


def settle(overrides: Iterable[str]) -> list[tuple[str, Any]]:
    """Path and value of each `--set`, without those that a later one replaces, in the order of the paths."""
    settled: dict[str, Any] = {}
    for text in overrides:
        path, _, value = text.partition("=")
        path = path.strip()
        settled = {other: kept for other, kept in settled.items() if other != path and not other.startswith(f"{path}.")}
        try:
            settled[path] = parse_value(value)
        except StudyError:  # `override` says what is wrong with it
            settled[path] = value
    return sorted(settled.items())


def name_variant(scale: str, overrides: Iterable[str]) -> str:
    """The scale and, where `--set` changes the study, a hash of the changes: `cpu`, `cpu+3f2a91c0`."""
    changes = settle(overrides)
    return f"{scale}+{signature(changes)[:8]}" if changes else scale


def _assign(raw: Raw, path: str, value: Any, changed_by: str) -> None:
    """As `assign`, also for seeds and the settings of probes, which are no part of a recipe and thus no factor."""
    head, *rest = words_of(path)
    heads = [*RECIPE_SLOTS, "stages", "probes", "seeds"]
    if path == "seeds" and isinstance(value, dict):
        raise ValueError("seeds: bounds such as {from: 2, to: 4} are for the file only; give a count or a list here")
    if path == "seeds":
        raw["seeds"] = list_seeds(value)
    elif head == "seeds":
        raise ValueError(f"unknown setting '{path}'; seeds have no settings: write 'seeds'")
    elif head in StudyFile.model_fields.keys() - {*heads, "base"}:
        message = f"'{head}' is a key of the file; {changed_by} only the recipe, stages, seeds and probes"
        raise ValueError(message)
    elif head not in heads:
        raise ValueError(f"unknown slot '{head}' in '{path}'{path_hint(path, raw, heads)}")
    elif head != "probes":
        assign(raw, path, value)
    elif len(rest) != 2:
        raise ValueError(f"'{path}' must be probes.PROBE.SETTING")
    elif rest[0] not in raw["probes"]:
        raise ValueError(f"no probe '{rest[0]}' is run{nearest(rest[0], raw['probes'])}")
    else:
        raw["probes"][rest[0]][rest[1]] = value
