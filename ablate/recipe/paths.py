"""Raw recipes, as YAML gives them: their slots, their defaults, and how a dotted path changes them."""

import copy
import re
from typing import Any

from ablate.errors import nearest
from ablate.recipe.stages import Train
from ablate.recipe.synonyms import nearest_of
from ablate.slots import registry

Raw = dict[str, Any]
"""A recipe, or a part of one, as YAML values that are not checked yet."""


DEFAULTS: Raw = {
    "padding": "zeros",
    "norm": "group",
    "upsample": "nearest_conv",
    "downsample": "strided_conv",
    "temporal_conv": "causal",
    "branch": "single",
    "context": "none",
    "discriminator": "patchgan",
    "regularizer": "none",
    "init": "scratch",
}


RECIPE_SLOTS = [slot for slot in registry.SLOTS if slot != "probe"]


PLAIN_SLOTS = [slot for slot in RECIPE_SLOTS if slot != "loss"]


def assign(raw: Raw, path: str, value: Any) -> None:
    """Set the level or setting at a dotted path of a raw recipe in place. Raises ValueError if it leads nowhere.

    A new level keeps those settings of the old one that it has too, so that a factor changes only what it names.
    """
    head, *rest = words_of(path)
    if head not in {*RECIPE_SLOTS, "stages"}:
        raise ValueError(f"unknown slot '{head}' in '{path}'{path_hint(path, raw, [*RECIPE_SLOTS, 'stages'])}")
    if head != "stages":
        _assign_slot(raw["base"], head, rest, value, path, {"level": DEFAULTS.get(head)}, {"weight": 0.0})
        return
    if len(rest) < 2 or (len(rest) > 2 and rest[1] not in RECIPE_SLOTS):
        names = ", ".join(raw["stages"])
        raise ValueError(f"'{path}' must be stages.NAME.SETTING, such as stages.NAME.lr (stages: {names})")
    name, what, *deeper = rest
    if name not in raw["stages"]:
        raise ValueError(f"unknown stage '{name}' in '{path}'{nearest(name, raw['stages'])}")
    if what in RECIPE_SLOTS:
        _assign_slot(raw["stages"][name], what, deeper, value, path, {}, {})
    else:
        raw["stages"][name][what] = value


def words_of(path: str) -> list[str]:
    """The words of a dotted path. A loss term may be an object of a module: `loss.my_package.losses:Edges.weight`."""
    term = re.search(r"(?:^|\.)loss\.((?:\w+\.)*\w+:\w+)", path) if ":" in path else None
    if term is None:
        return path.split(".")
    before = path[: term.start(1)].rstrip(".").split(".")
    after = path[term.end(1) :].lstrip(".")
    return [*before, term[1], *(after.split(".") if after else [])]


def full_path(path: str) -> str:
    """A dotted path in its full form: the weight of a loss term is `loss.kl.weight`, in short `loss.kl`."""
    words = words_of(path)
    at = 2 if words[0] == "stages" else 0
    return f"{path}.weight" if words[at : at + 1] == ["loss"] and len(words) == at + 2 else path


def path_hint(path: str, raw: Raw, heads: list[str]) -> str:
    """The way out of a path that begins with none of `heads`: what is missing before it, or the nearest of them."""
    head, _, rest = path.partition(".")
    if head in {"base", "baseline"}:
        return f"; drop '{head}.': '{rest or 'norm'}'"
    if head in {"seeds", "probes"}:
        return f"; '{head}' is no part of the recipe, so it cannot vary between treatments"
    if f"{head}s" in heads:
        return f"; did you mean '{head}s'?"
    if head in raw["stages"]:
        return f"; did you mean 'stages.{path}'?"
    if head in registry.levels("loss"):
        return f"; did you mean 'loss.{path}'?"
    if head in Train.model_fields and not rest:
        return "; did you mean " + " or ".join(f"'stages.{name}.{head}'" for name in raw["stages"]) + "?"
    for slot, value in raw["base"].items() if not rest else ():
        level = value.get("level") if slot in PLAIN_SLOTS and isinstance(value, dict) else None
        if level in registry.levels(slot) and head in registry.level(slot, level).Config.model_fields:
            return f"; did you mean '{slot}.{head}'?"
    return nearest_of("slot", head, heads)


def _assign_slot(
    levels: Raw, slot: str, rest: list[str], value: Any, path: str, missing_level: Raw, missing_term: Raw
) -> None:
    if slot == "loss":
        _assign_loss(levels.setdefault("loss", {}), rest, value, path, missing_term)
    elif len(rest) > 1:
        raise ValueError(f"'{path}' goes too deep: a slot has settings, a setting has no parts")
    elif rest:
        settings = levels.setdefault(slot, missing_level)
        if isinstance(settings, dict):  # else it is wrong in the file, which is an error of its own
            settings[rest[0]] = value
    else:
        levels[slot] = _swap(slot, levels.get(slot, {}), spread(slot, value))


def _assign_loss(losses: Any, rest: list[str], value: Any, path: str, missing_term: Raw) -> None:
    if not rest or len(rest) > 2:
        raise ValueError(f"'{path}' must be loss.TERM or loss.TERM.SETTING, such as loss.kl")
    if not registry.is_level("loss", rest[0]):
        hint = nearest_of("loss", rest[0], registry.levels("loss"))
        raise ValueError(f"unknown loss term '{rest[0]}' in '{path}'{hint}")
    if not isinstance(losses, dict):  # wrong in the file, which is an error of its own
        return
    term = losses.setdefault(rest[0], missing_term)
    term.update(value if isinstance(value, dict) and not rest[1:] else {rest[1] if rest[1:] else "weight": value})


def overlay(base: Raw, own: Raw) -> Raw:
    """The raw levels of a stage: those of the base, in long form, with the stage's own settings in their place."""
    laid = dict(base)
    for slot, value in own.items():
        if slot == "loss" and isinstance(value, dict):
            terms = base.get("loss", {})
            laid["loss"] = {**terms, **{term: {**terms.get(term, {}), **given} for term, given in value.items()}}
        elif isinstance(value, dict) and isinstance(base.get(slot), dict):
            laid[slot] = _swap(slot, base[slot], {"level": base[slot].get("level"), **value})
        else:
            laid[slot] = value
    return laid


def _swap(slot: str, old: Raw, new: Any) -> Any:
    if not isinstance(new, dict) or not isinstance(old, dict) or not isinstance(new.get("level"), str):
        return new
    if not registry.is_level(slot, new["level"]):
        return new
    try:
        fields = registry.level(slot, new["level"]).Config.model_fields
    except registry.LevelError:
        return new
    return {**{name: value for name, value in old.items() if name in fields}, **new}


def spread(slot: str, value: Any) -> Any:
    """The long form of a slot's raw value: a mapping with `level`, or for `loss` terms with `weight`."""
    if slot == "loss" and isinstance(value, dict):
        return {term: dict(given) if isinstance(given, dict) else {"weight": given} for term, given in value.items()}
    if slot != "loss" and isinstance(value, str):
        return {"level": value}
    return copy.deepcopy(value)
