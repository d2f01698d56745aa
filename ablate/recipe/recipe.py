"""A recipe: one level for every slot, and the stages of training. Raw YAML values in, checked settings out.

Raw form, as in a study's `base`: a level's name (`padding: reflect`), or a mapping with the level and its settings
(`data: {level: photos, crop: 64}`). `loss` maps each term to its weight or to a mapping with `weight` and settings.
Dotted paths address all of it: `norm`, `norm.groups`, `loss.kl`, `loss.perceptual.trunk`, `stages.train.lr`.

A stage may have levels and settings of its own in place of the recipe's, beside those of its training:
`- image: {steps: 500, lr: 3e-3, data: {frames: 1}, model: {latent_channels: 4}}`, `stages.image.model.latent_channels`.
"""

from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from typing import Any

from pydantic import ValidationError

from ablate.errors import KeyPath, nearest
from ablate.identity import Canonical, canonical
from ablate.recipe.paths import DEFAULTS, PLAIN_SLOTS, RECIPE_SLOTS, Raw, overlay, spread
from ablate.recipe.stages import Stage, Train, make_stages
from ablate.slots import registry
from ablate.slots.settings import Settings


@dataclass(frozen=True)
class Part:
    """A level with its checked settings."""

    level: str
    settings: Any
    """A level's `Config`, whose fields and methods depend on the slot: see `Settings`."""

    def identity(self) -> Raw:
        return {"level": self.level, **self.settings.identity()}

    @cached_property
    def start(self) -> int:
        """The step at which it enters; 0 for a part without such a setting."""
        return getattr(self.settings, "start", 0)

    def tells(self, name: str, default: Any) -> Any:
        """What its settings say under a name, or the default. Recipes share parts, and a miss of pydantic's is slow."""
        if name not in self._told:
            self._told[name] = getattr(self.settings, name, None)
        told = self._told[name]
        return default if told is None else told

    @cached_property
    def _told(self) -> dict[str, Any]:
        return {}

    @cached_property
    def temporal(self) -> bool:
        """Whether it is the model of clips."""
        return getattr(self.settings, "temporal", False)

    @cached_property
    def texts(self) -> tuple[str, str]:
        """In canonical form, `identity` and that of the settings alone, which is a loss term's."""
        return canonical(self.identity()), canonical(self.settings.identity())

    def plain(self) -> Raw:
        return {"level": self.level, **self.settings.plain()}


@dataclass(frozen=True)
class Recipe:
    """Everything that decides what a stage of training computes, except the seed.

    `settings`: of every stage in the order of the study, those without steps included. `own`: by stage, the parts that
    it has in place of these, by slot or `loss.TERM`.
    """

    parts: dict[str, Part]
    losses: dict[str, Part]
    settings: dict[str, Train]
    own: dict[str, dict[str, Part]] = field(default_factory=dict)

    @cached_property
    def stages(self) -> tuple[Stage, ...]:
        """The stages that are run."""
        return _make_stages(tuple(self.settings.items()))

    def at(self, stage: str) -> "Recipe":
        """What holds in a stage: its own parts in place of the recipe's."""
        own = self.own.get(stage, {})
        if not own:
            return self
        losses = {unit.partition(".")[2]: part for unit, part in own.items() if "." in unit}
        parts = {slot: part for slot, part in own.items() if "." not in slot}
        return replace(self, parts={**self.parts, **parts}, losses={**self.losses, **losses}, own={})

    @cached_property
    def setups(self) -> list["Recipe"]:
        """What holds in each stage that is run."""
        return [self.at(stage.name) for stage in self.stages]

    @property
    def present(self) -> dict[str, Part]:
        """The parts that take part: an image model knows nothing of the slots of video models."""
        if self.parts["model"].temporal:
            return self.parts
        return {slot: part for slot, part in self.parts.items() if slot not in registry.VIDEO_SLOTS}

    def identity(self, *, regularize: bool = True) -> Raw:
        """What distinguishes this recipe. A term of weight 0 is absent, and so is a discriminator without its term.

        A regularizer of strength 0 counts as `none`, and so does any where `regularize` is false.
        """
        losses = {name: part.settings.identity() for name, part in self.losses.items() if weight(part)}
        parts = {slot: part.identity() for slot, part in self.present.items()}
        if "adversarial" not in losses:
            del parts["discriminator"]
        if not (regularize and regularizes(self.parts["regularizer"])):
            parts["regularizer"] = {"level": "none"}
        return {"loss": losses, **parts}

    def canonical(self, *, regularize: bool = True) -> Canonical:
        """The canonical text of `identity`, put together from that of the parts, which recipes share."""
        losses = {name: part.texts[1] for name, part in self.losses.items() if weight(part)}
        absent = () if self.parts["model"].temporal else registry.VIDEO_SLOTS
        texts = {slot: part.texts[0] for slot, part in self.parts.items() if slot not in absent}
        if "adversarial" not in losses:
            del texts["discriminator"]
        if not (regularize and regularizes(self.parts["regularizer"])):
            texts["regularizer"] = NO_REGULARIZER
        return _object({**texts, "loss": _object(losses)})

    @cached_property
    def late(self) -> tuple[Part, ...]:
        """The parts that enter after the first step."""
        opponent, played = self.parts["discriminator"], self.losses.get("adversarial")
        found = tuple(term for term in self.losses.values() if term.start and weight(term))
        return (*found, opponent) if opponent.start and played and weight(played) else found

    def up_to(self, step: int) -> "Recipe":
        """This recipe without what the first `step` steps of a trial do not depend on.

        A term that enters later is left out, and with it its discriminator. One that trains already keeps a term that
        has not entered by then, the same in all recipes.
        """
        if all(part.start < step for part in self.late):
            return self
        losses = {name: term for name, term in self.losses.items() if term.start < step}
        term = self.losses.get("adversarial")
        if term and weight(term) and term.start >= step > self.parts["discriminator"].start:
            losses["adversarial"] = Part("adversarial", type(term.settings)(weight=1.0, start=step))
        return replace(self, losses=losses)

    def has(self, path: str) -> bool:
        """Whether a path leads somewhere. A slot's level may lack a setting that another level of the slot has."""
        slot, *rest = path.split(".")
        if slot == "stages" and rest[1:] and rest[1] in RECIPE_SLOTS:
            return self.at(rest[0]).has(".".join(rest[1:]))
        return slot not in self.parts or not rest or rest[0] in type(self.parts[slot].settings).model_fields

    def key(self, path: str) -> str:
        """Equal for recipes with the same level at a dotted path, settings included; terms of weight 0 are all one."""
        head, *rest = path.split(".")
        if head == "stages" and rest[1] in RECIPE_SLOTS:
            return self.at(rest[0]).key(".".join(rest[1:]))
        if head == "loss" and len(rest) == 1:
            term = self.losses.get(rest[0])
            return canonical(term.settings.plain() if term and weight(term) else 0)
        return canonical(self.value(path) if rest else self.parts[head].plain())

    def plain(self) -> Raw:
        """Every setting as JSON, for workers, the store and MLflow. A stage with parts of its own comes with all."""
        stages = [
            {
                "name": stage.name,
                **stage.settings.plain(),
                **(self.at(stage.name)._plain_parts() if self.own.get(stage.name) else {}),
            }
            for stage in self.stages
        ]
        return {**self._plain_parts(), "stages": stages}

    def _plain_parts(self) -> Raw:
        losses = {name: part.settings.plain() for name, part in self.losses.items()}
        return {**{slot: part.plain() for slot, part in self.present.items()}, "loss": losses}

    def value(self, path: str) -> Any:
        """The level or setting at a dotted path; a loss term's value is its weight (0 where it is absent)."""
        head, *rest = path.split(".")
        if head == "loss":
            term = self.losses.get(rest[0])
            return term.settings.plain()[rest[1] if rest[1:] else "weight"] if term else 0.0
        if head == "stages":
            own = rest[1] in RECIPE_SLOTS
            return self.at(rest[0]).value(".".join(rest[1:])) if own else self.settings[rest[0]].plain()[rest[1]]
        return self.parts[head].settings.plain()[rest[0]] if rest else self.parts[head].level


_make_stages = lru_cache(maxsize=4096)(make_stages)


def _object(texts: dict[str, str]) -> Canonical:
    """A JSON object of values in canonical form; the keys are the names of slots and levels, which need no escapes."""
    return Canonical("{" + ",".join([f'"{name}":{texts[name]}' for name in sorted(texts)]) + "}")


NO_REGULARIZER = canonical({"level": "none"})


def weight(term: Part) -> float:
    """The weight of a loss term."""
    return float(term.settings.weight)


def regularizes(part: Part) -> bool:
    """Whether a regularizer does anything: neither `none` nor of strength 0."""
    return part.level != "none" and getattr(part.settings, "strength", 1.0) != 0


Complaint = tuple[KeyPath, str, bool]
"""Where (within `base` or `stages`), what is wrong, and whether the key rather than the value is at fault."""


def read_parts(raw: Raw) -> tuple[Recipe, list[Complaint]]:
    """Check each part of a raw recipe by itself. Gives the recipe of those that are right, and all complaints."""
    complaints: list[Complaint] = []
    base = {**{slot: spread(slot, value) for slot, value in DEFAULTS.items()}, **raw["base"]}
    for slot in sorted(set(base) ^ set(RECIPE_SLOTS)):
        if slot in base:
            complaints.append((("base", slot), f"unknown slot '{slot}'{nearest(slot, RECIPE_SLOTS)}", True))
        else:
            complaints.append(
                (("base",), f"the slot '{slot}' is not filled{nearest('', registry.levels(slot))}", False)
            )
    parts = {slot: read_part(slot, base[slot], ("base", slot), complaints) for slot in PLAIN_SLOTS if slot in base}
    losses = _read_losses(base.get("loss", {}), ("base", "loss"), complaints)
    stages: dict[str, Train] = {}
    own: dict[str, dict[str, Part]] = {}
    for name, values in raw["stages"].items():
        training = {key: value for key, value in values.items() if key not in RECIPE_SLOTS}
        if settings := _settings(Train, training, ("stages", name), complaints, f"stage '{name}'"):
            stages[name] = settings
        if (levels := {key: value for key, value in values.items() if key in RECIPE_SLOTS}) and not complaints:
            own[name] = _read_own(base, levels, ("stages", name), complaints)
    return Recipe({slot: part for slot, part in parts.items() if part}, losses, stages, own), complaints


def _read_own(base: Raw, levels: Raw, here: KeyPath, complaints: list[Complaint]) -> dict[str, Part]:
    """The parts that a stage has for itself. The base is known to be right."""
    laid = overlay(base, levels)
    found: dict[str, Part] = {}
    for slot, given in levels.items():
        if slot == "loss":
            terms = {term: laid["loss"][term] for term in given} if isinstance(given, dict) else given
            losses = _read_losses(terms, (*here, "loss"), complaints)
            found |= {f"loss.{term}": part for term, part in losses.items()}
        elif part := read_part(slot, laid[slot], (*here, slot), complaints):
            found[slot] = part
    return found


def _read_losses(value: Any, here: KeyPath, complaints: list[Complaint]) -> dict[str, Part]:
    if not isinstance(value, dict):
        complaints.append((here, f"expected a mapping of loss terms to weights, found {value!r}", False))
        return {}
    losses = {}
    for term, given in value.items():
        if term not in registry.levels("loss"):
            message = f"unknown loss term '{term}'{nearest(term, registry.levels('loss'))}"
            complaints.append(((*here, term), message, True))
        elif (config := _config("loss", term, (*here, term), complaints, at_key=True)) and (
            settings := _settings(config, given, (*here, term), complaints, f"loss.{term}")
        ):
            losses[term] = Part(term, settings)
    return losses


def read_part(slot: str, value: Any, here: KeyPath, complaints: list[Complaint]) -> Part | None:
    """Check one filled slot; adds to `complaints` and gives None when it is wrong."""
    if not isinstance(value, dict) or not isinstance(value.get("level"), str):
        expected = "a level's name or a mapping with 'level'"
        complaints.append(
            (here, f"{slot}: expected {expected}, found {value!r}{nearest('', registry.levels(slot))}", False)
        )
        return None
    name = value["level"]
    if name not in registry.levels(slot):
        place = (*here, "level")
        complaints.append((place, f"unknown level '{name}' of {slot}{nearest(name, registry.levels(slot))}", False))
        return None
    given = {key: setting for key, setting in value.items() if key != "level"}
    config = _config(slot, name, (*here, "level"), complaints)
    settings = _settings(config, given, here, complaints, f"{slot} '{name}'") if config else None
    return Part(name, settings) if settings else None


def _config(
    slot: str, name: str, here: KeyPath, complaints: list[Complaint], *, at_key: bool = False
) -> type[Settings] | None:
    """The settings class of a level; adds to `complaints` and gives None when the level's file is wrong."""
    try:
        return registry.level(slot, name).Config
    except registry.LevelError as error:
        complaints.append((here, f"the file of level '{name}' of {slot} is wrong: {error.brief}", at_key))
        return None


def _settings(config: type[Settings], given: Any, here: KeyPath, complaints: list[Complaint], owner: str) -> Any:
    if not isinstance(given, dict):
        complaints.append((here, f"{owner}: expected a mapping of settings, found {given!r}", False))
        return None
    try:
        return config.read(given)
    except ValidationError as error:
        complaints += [_complaint(config, given, here, owner, dict(item)) for item in error.errors()]
        return None


def _complaint(config: type[Settings], given: Raw, here: KeyPath, owner: str, error: dict[str, Any]) -> Complaint:
    loc: KeyPath = error["loc"]
    name = str(loc[0]) if loc else ""
    if error["type"] == "extra_forbidden":
        return (*here, name), f"unknown setting '{name}' of {owner}{nearest(name, config.model_fields)}", True
    if error["type"] == "missing":
        return here, f"{owner} needs the setting '{name}'", False
    found = "" if name not in given else f", found {error['input']!r}"
    reason = error["msg"].removeprefix("Value error, ")
    return (*here, *loc), f"{owner}{'.' + name if name else ''}: {reason[:1].lower() + reason[1:]}{found}", False
