"""Recipes that differ from one raw recipe in some levels. What they share is checked and stored once."""

import copy
from collections.abc import Mapping
from typing import Any

from ablate.recipe.consistency import contradictions
from ablate.recipe.paths import PLAIN_SLOTS, RECIPE_SLOTS, Raw, assign, words_of
from ablate.recipe.reading import RecipeProblem, read_parts
from ablate.recipe.recipe import Part, Recipe
from ablate.recipe.stages import External, StageSettings, Train

UnitLevels = tuple[tuple[str, str], ...]
"""The levels that change one unit: dotted path and the level's `repr`."""


Unit = tuple[Part | StageSettings | None, dict[str, Part], list[RecipeProblem]]
"""A checked unit: the part, or a stage's settings; stage -> the part it has of its own; problems of any of them."""


class Variants:
    """The recipes that a raw recipe becomes with other levels.

    A recipe consists of units that are read one by one: a slot, a loss term, the training of a stage, each with its
    settings. The part that a stage has of its own in a slot belongs to that slot's unit. A study of 100,000 treatments
    has a few dozen different units, so for each treatment only contradictions between units remain to be checked.
    """

    def __init__(self, raw: Raw):
        self.raw = raw
        self.base, self._base_problems = read_parts(raw)
        self.complete = not self._base_problems and bool(self.base.settings) and not any(contradictions(self.base))
        """Whether the raw recipe itself is right, so that what is wrong with its variants is due to their levels."""
        self._units: dict[str, str] = {}
        self._read: dict[UnitLevels, Unit] = {}

    def recipe(self, levels: Mapping[str, Any]) -> tuple[Recipe | None, list[RecipeProblem]]:
        """The recipe with these levels, or None and all problems that the levels bring.

        Raises ValueError for a path that leads nowhere.
        """
        recipe, problems = self.merge(levels)
        if self.complete:
            problems = problems or list(contradictions(recipe))
        return (None if problems else recipe), problems

    def merge(self, levels: Mapping[str, Any]) -> tuple[Recipe, list[RecipeProblem]]:
        """The recipe with these levels and the problems of its units; contradictions between units are not checked."""
        given: dict[str, list[tuple[str, str]]] = {}
        for path, level in levels.items():
            unit = self._units.get(path) or self._unit(path)
            given.setdefault(unit, []).append((path, repr(level)))
        base = self.base
        own = base.own
        parts: dict[str, Part] = {}
        losses: dict[str, Part] = {}
        settings: dict[str, StageSettings] = {}
        problems: list[RecipeProblem] = []
        for unit, changes in given.items():
            key = tuple(changes)
            part, replaced, wrong = self._read.get(key) or self._part(unit, key, levels)
            if wrong:
                problems += wrong
            elif isinstance(part, Train | External):
                settings[unit.partition(".")[2]] = part
            elif part and unit in base.parts:
                parts[unit] = part
            elif part:
                losses[unit.partition(".")[2]] = part
            for stage, its_part in replaced.items():
                own = {**own, stage: {**own.get(stage, {}), unit: its_part}}
        return Recipe(
            {**base.parts, **parts} if parts else base.parts,
            {**base.losses, **losses} if losses else base.losses,
            {**base.settings, **settings} if settings else base.settings,
            own,
        ), problems

    def has(self, path: str, levels: Mapping[str, Any]) -> bool:
        """Whether the recipe with these levels has the setting at `path`; False too where they cannot be read."""
        recipe, problems = self.merge({other: level for other, level in levels.items() if other == host(path)})
        return not problems and recipe.has(path)

    def _unit(self, path: str) -> str:
        """The unit that a dotted path belongs to.

        `norm` for `norm.groups` and `stages.train.norm.groups`, `loss.kl` for `loss.kl.reduction`, `stages.train` for
        `stages.train.lr`. Raises ValueError for `norm.level`, which is written `norm`.
        """
        words = words_of(path)
        if words[0] == "stages" and words[2:] and words[2] in RECIPE_SLOTS:
            words = words[2:]
        if words[1:] == ["level"] and words[0] in PLAIN_SLOTS:
            raise ValueError(f"'{path}' is the level of a slot; write '{path.removesuffix('.level')}'")
        self._units[path] = ".".join(words[: 2 if words[0] in {"loss", "stages"} else 1])
        return self._units[path]

    def _part(self, unit: str, key: UnitLevels, levels: Mapping[str, Any]) -> Unit:
        """Read a unit with the changes that `key` names."""
        raw = copy.deepcopy(self.raw)
        for path, _ in key:
            assign(raw, path, levels[path])
        recipe, problems = read_parts(raw)
        problems = [problem for problem in problems if problem not in self._base_problems]
        head, _, name = unit.partition(".")
        if head == "stages":
            self._read[key] = recipe.settings.get(name), {}, problems
        else:
            part = (recipe.losses if name else recipe.parts).get(name or head)
            own = {stage: parts[unit] for stage, parts in recipe.own.items() if unit in parts}
            self._read[key] = part, own, problems
        return self._read[key]


def host(path: str) -> str | None:
    """The slot whose level decides whether there is a setting at `path`; None for a slot, a loss term or a stage."""
    slot, *rest = words_of(path)
    return slot if rest and slot in PLAIN_SLOTS else None
