"""The levels of every slot with their settings, and the JSON schema of study files."""

from typing import Any

from ablate.recipe.paths import RECIPE_SLOTS
from ablate.recipe.stages import External, Train
from ablate.slots import registry
from ablate.slots.targets import TARGET
from ablate.study.schema import StudyFile


def catalogue(slots: list[str]) -> dict[str, Any]:
    """Slot -> level -> `doc` and `settings`, of an own level also its `file`.

    Doc and settings are empty for a level whose file is wrong, and `error` says why.
    """
    return {slot: {name: _describe(slot, name) for name in registry.levels(slot)} for slot in slots}


def _describe(slot: str, name: str) -> dict[str, Any]:
    try:
        level = registry.level(slot, name)
    except registry.LevelError as error:
        return {"doc": "", "settings": {}, "error": error.brief}
    own = {"file": str(level.path)} if level.folder else {}
    settings = {}
    for field, info in level.Config.model_fields.items():
        kind = str(info.annotation).removeprefix("<class '").removesuffix("'>")
        settings[field] = {"type": kind, "default": None if info.is_required() else info.default}
    return {"doc": level.doc.split("\n\n")[0].replace("\n", " "), "settings": settings, **own}


def schema() -> dict[str, Any]:
    """The JSON schema of a study file, with the levels and settings of this installation.

    Levels whose file is wrong are left out.
    """
    document: dict[str, Any] = StudyFile.model_json_schema()
    slots = {slot: _slot_schema(slot) for slot in RECIPE_SLOTS if slot != "loss"}
    terms = {
        name: {"anyOf": [{"type": "number", "minimum": 0}, registry.level("loss", name).Config.model_json_schema()]}
        for name in _usable("loss")
    }
    objects: dict[str, Any] = {f"^{TARGET.pattern}$": {}}
    slots["loss"] = {
        "type": "object", "properties": terms, "patternProperties": objects, "additionalProperties": False
    }  # fmt: skip
    document["properties"]["base"] |= {"properties": slots, "additionalProperties": False}
    stage = Train.model_json_schema()
    stage["properties"] |= {slot: {} for slot in RECIPE_SLOTS}  # anything: settings without a level are allowed here
    command = External.model_json_schema()
    del command["properties"]["content"]
    stages = {"anyOf": [stage, command]}
    document["properties"]["stages"]["items"] = {"type": "object", "additionalProperties": stages}
    document["properties"]["probes"]["items"] = _slot_schema("probe")
    return document


def _usable(slot: str) -> list[str]:
    """Names of the slot's levels whose files are right."""
    return [name for name, level in catalogue([slot])[slot].items() if "error" not in level]


def _slot_schema(slot: str) -> dict[str, Any]:
    names = _usable(slot)
    mappings = []
    for name in names:
        settings = registry.level(slot, name).Config.model_json_schema()
        properties = {"level": {"const": name}, **settings.get("properties", {})}
        mappings.append(
            {"type": "object", "properties": properties, "required": ["level"], "additionalProperties": False}
        )
    target = {"type": "string", "pattern": f"^{TARGET.pattern}$"}
    mappings.append({"type": "object", "properties": {"level": target}, "required": ["level"]})
    return {"anyOf": [{"enum": names}, target, *mappings]}
