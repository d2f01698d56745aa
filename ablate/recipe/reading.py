"""From a raw recipe, as YAML gives it, to checked parts and all that is wrong with them."""

import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from ablate.errors import KeyPath, show_value
from ablate.recipe.paths import DEFAULTS, PLAIN_SLOTS, RECIPE_SLOTS, Raw, overlay, spread
from ablate.recipe.recipe import Part, Recipe
from ablate.recipe.stages import External, StageSettings, stage_kind
from ablate.recipe.synonyms import nearest_of, synonym
from ablate.recipe.validation import EXPECTED, explain, is_finite
from ablate.slots import registry
from ablate.slots.settings import Settings
from ablate.slots.targets import is_target, with_target


class RecipeProblem(NamedTuple):
    """Something wrong with a recipe.

    `path`: where, from `base` or `stages` on. `at_key`: whether the key itself is wrong and not its value.
    """

    path: KeyPath
    message: str
    at_key: bool = False


def read_parts(raw: Raw) -> tuple[Recipe, list[RecipeProblem]]:
    """Check each part of a raw recipe by itself. Gives the recipe of those that are right, and all problems."""
    problems: list[RecipeProblem] = []
    base = {**{slot: spread(slot, value) for slot, value in DEFAULTS.items()}, **raw["base"]}
    if raw["stages"] and all(stage_kind(values) is External for values in raw["stages"].values()):
        base.setdefault("loss", {})  # that is the commands' own affair
    problems += [
        RecipeProblem(("base", slot), f"unknown slot '{slot}'{_slot_hint(slot, base)}", at_key=True)
        for slot in base
        if slot not in RECIPE_SLOTS
    ]
    problems += [
        RecipeProblem(
            ("base",), f"the slot '{slot}' is not filled (valid: {', '.join(registry.levels(slot))})", at_key=True
        )
        for slot in RECIPE_SLOTS
        if slot not in base
    ]
    parts = {slot: read_part(slot, base[slot], ("base", slot), problems) for slot in PLAIN_SLOTS if slot in base}
    losses = _read_losses(base.get("loss", {}), ("base", "loss"), problems)
    stages: dict[str, StageSettings] = {}
    own: dict[str, dict[str, Part]] = {}
    for name, values in raw["stages"].items():
        training = {key: value for key, value in values.items() if key not in RECIPE_SLOTS}
        if settings := _read_stage(name, training, problems):
            stages[name] = settings
        if (levels := {key: value for key, value in values.items() if key in RECIPE_SLOTS}) and not problems:
            own[name] = _read_own(base, levels, ("stages", name), problems)
    return Recipe({slot: part for slot, part in parts.items() if part}, losses, stages, own), problems


def _read_stage(name: str, given: Raw, problems: list[RecipeProblem]) -> StageSettings | None:
    """The settings of a stage; of a command together with the content of what it runs."""
    path: KeyPath = ("stages", name)
    if "content" in given and "command" in given:
        problems.append(RecipeProblem((*path, "content"), "'content' is found, not given; choose another name", True))
        return None
    if isinstance(given.get("command"), str):
        message = f"stage '{name}'.command: expected a list of words, found text; write {given['command'].split()!r}"
        problems.append(RecipeProblem((*path, "command"), message))
        return None
    settings: StageSettings | None = _settings(stage_kind(given), given, path, problems, f"stage '{name}'")
    if not isinstance(settings, External):
        return settings
    try:
        content = registry.own().script(settings.command, settings.cwd, settings.sources)
    except (ValueError, OSError, NotImplementedError) as error:  # the last of a pattern that is no relative path
        problems.append(RecipeProblem((*path, "command"), f"stage '{name}': {error}"))
        return None
    return settings.model_copy(update={"content": content})


def _slot_hint(name: str, base: Raw) -> str:
    """The way out of an unknown slot: the level whose setting it is, or the nearest slot."""
    for slot in PLAIN_SLOTS:
        level = base[slot].get("level") if isinstance(base.get(slot), dict) else None
        if level in registry.levels(slot) and name in registry.level(slot, level).Config.model_fields:
            return f"; '{name}' is a setting of {slot}: {slot}: {{level: {level}, {name}: …}}"
    if name in registry.levels("loss"):
        return f"; '{name}' is a loss term: loss: {{{name}: …}}"
    return nearest_of("slot", name, RECIPE_SLOTS)


def _read_own(base: Raw, levels: Raw, path: KeyPath, problems: list[RecipeProblem]) -> dict[str, Part]:
    """The parts that a stage has for itself. The base is known to be right."""
    laid = overlay(base, levels)
    parts: dict[str, Part] = {}
    for slot, given in levels.items():
        if slot == "loss":
            terms = {term: laid["loss"][term] for term in given} if isinstance(given, dict) else given
            losses = _read_losses(terms, (*path, "loss"), problems)
            parts |= {f"loss.{term}": part for term, part in losses.items()}
        elif part := read_part(slot, laid[slot], (*path, slot), problems):
            parts[slot] = part
    return parts


def _read_losses(value: Any, path: KeyPath, problems: list[RecipeProblem]) -> dict[str, Part]:
    if not isinstance(value, dict):
        message = f"loss: expected a mapping of terms to weights, such as {{l2: 1.0}}, found {show_value(value)}"
        problems.append(RecipeProblem(path, message))
        return {}
    losses = {}
    for term, given in value.items():
        if not registry.is_level("loss", term):
            hint = _elsewhere("loss", term) or nearest_of("loss", term, registry.levels("loss"))
            message = f"unknown loss term '{term}'{hint}"
            problems.append(RecipeProblem((*path, term), message, at_key=True))
        elif (config := _config("loss", term, (*path, term), problems, at_key=True)) and (
            settings := _settings(config, given, (*path, term), problems, f"loss.{term}")
        ):
            losses[term] = Part(term, settings)
    return losses


def read_part(slot: str, value: Any, path: KeyPath, problems: list[RecipeProblem]) -> Part | None:
    """Check one filled slot; adds to `problems` and gives None when it is wrong."""
    if not isinstance(value, dict) or not isinstance(value.get("level"), str):
        found = "a mapping without 'level'" if isinstance(value, dict) and "level" not in value else show_value(value)
        valid = registry.levels(slot)
        hint = f"; to vary it, put it under factors: '{slot}: [LEVEL, …]'" if isinstance(value, list) else ""
        hint = "; write none" if (value is None or value is False) and "none" in valid else hint
        expected = f"expected a level or a mapping with 'level', found {found}{hint} (valid: {', '.join(valid)})"
        message = f"{slot}: {expected}"
        problems.append(RecipeProblem(path, message))
        return None
    name = value["level"]
    if not registry.is_level(slot, name):
        message = f"unknown level '{name}' of {slot}{_level_hint(slot, name, registry.levels(slot))}"
        problems.append(RecipeProblem((*path, "level"), message))
        return None
    given = {key: setting for key, setting in value.items() if key != "level"}
    config = _config(slot, name, (*path, "level"), problems)
    if config and "target" in config.model_fields and isinstance(given.get("target"), str):
        if not is_target(given["target"]):
            message = f"target: expected package.module:Name, found {show_value(given['target'])}"
            problems.append(RecipeProblem((*path, "target"), message))
            return None
        config = _config(slot, given["target"], (*path, "target"), problems)
        config = with_target(config) if config else None
    settings = _settings(config, given, path, problems, f"{slot} '{name}'") if config else None
    return Part(name, settings) if settings else None


def _config(
    slot: str, name: str, path: KeyPath, problems: list[RecipeProblem], *, at_key: bool = False
) -> type[Settings] | None:
    """The settings class of a level; adds to `problems` and gives None when the level's file is wrong."""
    try:
        return registry.level(slot, name).Config
    except registry.LevelError as error:
        message = f"the file of level '{name}' of {slot} is wrong: {error.brief}"
        message = f"{slot}: {error.brief}" if is_target(name) else message
        problems.append(RecipeProblem(path, message, at_key))
        return None


def _level_hint(slot: str, name: str, valid: list[str]) -> str:
    """The nearest level; of a probe also the one that reports the metric of this name."""
    if slot == "probe" and synonym(slot, name) is None:
        for probe in valid:
            if any(metric.name == name for metric in registry.level("probe", probe).metrics):
                return f"; it is a metric of probe '{probe}' (valid: {', '.join(valid)})"
    return _elsewhere(slot, name) or nearest_of(slot, name, valid)


def _elsewhere(slot: str, name: str) -> str:
    """The way out of an own level that lies in the current folder and not beside the study; empty for any other."""
    file = Path("components", slot, f"{name}.py")
    with suppress(OSError):  # of a name that is too long for a file
        if re.fullmatch(r"\w+", name) and file.is_file():
            return f"; there is {file} in the current folder: add --components components"
    return ""


def _settings(config: type[Settings], given: Any, path: KeyPath, problems: list[RecipeProblem], owner: str) -> Any:
    if not isinstance(given, dict):
        problems.append(RecipeProblem(path, f"{owner}: expected a mapping of settings, found {show_value(given)}"))
        return None
    infinite = [name for name, value in given.items() if not is_finite(value)]
    for name in infinite:
        message = f"{owner}.{name}: expected a finite number, found {show_value(given[name])}"
        problems.append(RecipeProblem((*path, name), message))
    unusable = {name: _path_fault(value) for name, value in given.items() if name == "path" or name.endswith("_path")}
    for name, fault in unusable.items():
        if fault:
            problems.append(RecipeProblem((*path, name), f"{owner}.{name}: {fault}"))
    if infinite or any(unusable.values()):
        return None
    try:
        return config.read(given)
    except ValidationError as error:
        found = [item for item in error.errors() if not _follows(item)]
        problems += [_problem(config, given, path, owner, dict(item)) for item in found]
        return None


def _path_fault(value: Any) -> str:
    """Why a text cannot be the path of a file or folder; empty if it can, or if it is no text."""
    if not isinstance(value, str):
        return ""
    if not value.strip():
        return "empty path; name a file or folder"
    if len(value.encode()) > 4095 or any(len(word.encode()) > 255 for word in value.split("/")):
        return f"a path of {len(value)} characters is too long: a name in it has at most 255, the whole at most 4095"
    return ""


def _follows(item: Mapping[str, Any]) -> bool:
    """Whether pydantic finds a list too short only because it leaves out items that are wrong, which it reports too."""
    return item["type"] == "too_short" and bool(len(item["input"]) >= item["ctx"]["min_length"])


def _problem(config: type[Settings], given: Raw, path: KeyPath, owner: str, error: dict[str, Any]) -> RecipeProblem:
    loc: KeyPath = error["loc"]
    name = str(loc[0]) if loc else ""
    if error["type"] == "extra_forbidden":
        message = f"unknown setting '{name}' of {owner}{nearest_of('setting', name, config.model_fields)}"
        return RecipeProblem((*path, name), message, at_key=True)
    if error["type"] == "missing":
        return RecipeProblem(path, f"{owner} needs the setting '{name}'")
    hint = ""
    if isinstance(error["input"], list) and error["type"] in EXPECTED.keys() - {"too_short", "too_long"}:
        dotted = ".".join(map(str, [*path[1 if path[0] == "base" else 0 :], name])).removesuffix(".weight")
        hint = f"; to vary it, put it under factors: '{dotted}: {show_value(given[name])}'"
    return RecipeProblem((*path, *loc), f"{owner}{'.' + name if name else ''}: {explain(error)}{hint}")
