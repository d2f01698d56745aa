"""The levels of every slot with their settings, and the JSON schema of study files."""

from dataclasses import asdict
from typing import Any

from ablate.driver.settings import describe_settings, read_meanings
from ablate.recipe.paths import RECIPE_SLOTS
from ablate.recipe.stages import External, Train
from ablate.slots import registry
from ablate.slots.settings import Metric, Settings
from ablate.slots.targets import TARGET
from ablate.study.schema import StudyFile

STAGES = "stages"
"""Listed like a slot: the stages of training."""


def catalogue(slots: list[str]) -> dict[str, Any]:
    """Slot -> level -> `doc`, `settings`, for probes `metrics`, and of an own level its `file`.

    They are empty for a level whose file is wrong, and `error` says why. `STAGES` stands for the stages of training.
    """
    return {slot: _stages() if slot == STAGES else _levels(slot) for slot in slots}


def _levels(slot: str) -> dict[str, Any]:
    return {name: _describe(slot, name) for name in registry.levels(slot)}


def _stages() -> dict[str, Any]:
    doc = "a leg of training; name it as you like and give its settings under the name"
    command = "a command of yours that trains, once per trial (docs/own_code.md)"
    settings = {name: item for name, item in describe_settings(External).items() if name != "content"}  # not given
    return {
        "train": {"doc": doc, "settings": describe_settings(Train)},
        "external": {"doc": command, "settings": settings},
    }


def _describe(slot: str, name: str) -> dict[str, Any]:
    try:
        level = registry.level(slot, name)
    except registry.LevelError as error:
        return {"doc": "", "settings": {}, "error": error.brief}
    described: dict[str, Any] = {
        "doc": level.doc.split("\n\n")[0].replace("\n", " "),
        "settings": describe_settings(level.Config),
    }
    if level.folder:
        described["file"] = str(level.path)
    if level.metrics:
        described["metrics"] = {metric.name: {**asdict(metric), "better": _better(metric)} for metric in level.metrics}
    return described


def _better(metric: Metric) -> str:
    """Which values are better, in words."""
    return {"up": "higher", "down": "lower", "target": f"near {metric.target:g}", "none": ""}[metric.direction]


def schema() -> dict[str, Any]:
    """The JSON schema of a study file, with the levels and settings of this installation.

    Levels whose file is wrong are left out.
    """
    document: dict[str, Any] = StudyFile.model_json_schema()
    slots = {slot: _slot_schema(slot) for slot in RECIPE_SLOTS if slot != "loss"}
    terms = {
        name: {"anyOf": [{"type": "number", "minimum": 0}, _with_meanings(registry.level("loss", name).Config)]}
        for name in _usable("loss")
    }
    objects: dict[str, Any] = {f"^{TARGET.pattern}$": {}}
    slots["loss"] = {
        "type": "object", "properties": terms, "patternProperties": objects, "additionalProperties": False
    }  # fmt: skip
    document["properties"]["base"] |= {"properties": slots, "additionalProperties": False}
    stage = _with_meanings(Train)
    stage["properties"] |= {slot: {} for slot in RECIPE_SLOTS}  # anything: settings without a level are allowed here
    command = _with_meanings(External)
    del command["properties"]["content"]
    stages = {"anyOf": [stage, command]}
    document["properties"]["stages"]["items"] = {"type": "object", "additionalProperties": stages}
    document["properties"]["probes"]["items"] = _slot_schema("probe")
    return document


def _with_meanings(config: type[Settings]) -> dict[str, Any]:
    """The JSON schema of settings, with what each means, which editors show beside it."""
    schema = config.model_json_schema()
    for name, meaning in read_meanings(config).items():
        schema["properties"][name].setdefault("description", meaning)
    return schema


def _usable(slot: str) -> list[str]:
    """Names of the slot's levels whose files are right."""
    return [name for name, level in catalogue([slot])[slot].items() if "error" not in level]


def _slot_schema(slot: str) -> dict[str, Any]:
    names = _usable(slot)
    mappings = []
    for name in names:
        settings = _with_meanings(registry.level(slot, name).Config)
        properties = {"level": {"const": name}, **settings.get("properties", {})}
        mappings.append(
            {"type": "object", "properties": properties, "required": ["level"], "additionalProperties": False}
        )
    target = {"type": "string", "pattern": f"^{TARGET.pattern}$"}
    mappings.append({"type": "object", "properties": {"level": target}, "required": ["level"]})
    return {"anyOf": [{"enum": names}, target, *mappings]}
