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

from ablate.identity import Canonical, canonical
from ablate.recipe.paths import RECIPE_SLOTS, Raw, words_of
from ablate.recipe.stages import Stage, StageSettings, make_stages
from ablate.slots import registry


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

    def setting(self, name: str, default: Any) -> Any:
        """A setting by its name, or the default where there is none. Kept, since pydantic is slow to miss a name."""
        if name not in self._settings:
            self._settings[name] = getattr(self.settings, name, None)
        value = self._settings[name]
        return default if value is None else value

    @cached_property
    def _settings(self) -> dict[str, Any]:
        return {}

    @cached_property
    def temporal(self) -> bool:
        """Whether it is a model of clips."""
        return getattr(self.settings, "temporal", False)

    @cached_property
    def own_layers(self) -> bool:
        """Whether it is a model with weights and layers of its own, which no slot within models changes."""
        return getattr(self.settings, "own_layers", False)

    @property
    def takes_video_slots(self) -> bool:
        """Whether it is a model that is built from the levels of `registry.VIDEO_SLOTS`."""
        return self.temporal and not self.own_layers

    @cached_property
    def texts(self) -> tuple[str, str]:
        """Canonical JSON of `identity`, and of the identity of the settings alone, which a loss term has."""
        return canonical(self.identity()), canonical(self.settings.identity())

    def plain(self) -> Raw:
        return {"level": self.level, **self.settings.plain()}


@dataclass(frozen=True)
class Recipe:
    """Everything that decides what training computes, except the seed.

    `settings`: stage -> its settings, in the order of the study and with stages of 0 steps. `own`: stage -> the parts
    that it has in place of `parts` and `losses`, by slot or `loss.TERM`.
    """

    parts: dict[str, Part]
    losses: dict[str, Part]
    settings: dict[str, StageSettings]
    own: dict[str, dict[str, Part]] = field(default_factory=dict)

    @cached_property
    def stages(self) -> tuple[Stage, ...]:
        """The stages that are run."""
        return _make_stages(tuple(self.settings.items()))

    def at(self, stage: str) -> "Recipe":
        """The recipe of one stage: with its own parts in place of the recipe's."""
        own = self.own.get(stage, {})
        if not own:
            return self
        losses = {unit.partition(".")[2]: part for unit, part in own.items() if "." in unit}
        parts = {slot: part for slot, part in own.items() if "." not in slot}
        return replace(self, parts={**self.parts, **parts}, losses={**self.losses, **losses}, own={})

    @cached_property
    def setups(self) -> list["Recipe"]:
        """The recipe of each stage that is run."""
        return [self.at(stage.name) for stage in self.stages]

    @property
    def present(self) -> dict[str, Part]:
        """The parts that are used: an image model has none in the slots of video models."""
        if self.parts["model"].takes_video_slots:
            return self.parts
        return {slot: part for slot, part in self.parts.items() if slot not in registry.VIDEO_SLOTS}

    def identity(self, *, regularize: bool = True) -> Raw:
        """The settings that decide on results.

        A term of weight 0 is absent, and so is a discriminator without its term. A regularizer
        of strength 0 counts as `none`, and so does any where `regularize` is false.
        """
        losses = {name: part.settings.identity() for name, part in self.losses.items() if weight(part)}
        parts = {slot: part.identity() for slot, part in self.present.items()}
        if "adversarial" not in losses:
            del parts["discriminator"]
        if not (regularize and regularizes(self.parts["regularizer"])):
            parts["regularizer"] = {"level": "none"}
        return {"loss": losses, **parts}

    def canonical(self, *, regularize: bool = True) -> Canonical:
        """The canonical JSON of `identity`, joined from the texts of the parts, which recipes share."""
        losses = {name: part.texts[1] for name, part in self.losses.items() if weight(part)}
        absent = () if self.parts["model"].takes_video_slots else registry.VIDEO_SLOTS
        texts = {slot: part.texts[0] for slot, part in self.parts.items() if slot not in absent}
        if "adversarial" not in losses:
            del texts["discriminator"]
        if not (regularize and regularizes(self.parts["regularizer"])):
            texts["regularizer"] = NO_REGULARIZER
        return _object({**texts, "loss": _object(losses)})

    @cached_property
    def late(self) -> tuple[Part, ...]:
        """The parts that enter after the first step."""
        discriminator = self.parts["discriminator"]
        adversarial = self.losses.get("adversarial")
        terms = tuple(term for term in self.losses.values() if term.start and weight(term))
        used = adversarial and weight(adversarial)
        return (*terms, discriminator) if discriminator.start and used else terms

    def up_to(self, step: int) -> "Recipe":
        """This recipe without the settings that the first `step` steps of a trial do not depend on.

        A term that enters later is left out, and with it a discriminator that does not train by then. One that does
        keeps its term, with settings that are the same in all recipes.
        """
        if all(part.start < step for part in self.late):
            return self
        losses = {name: term for name, term in self.losses.items() if term.start < step}
        term = self.losses.get("adversarial")
        if term and weight(term) and term.start >= step > self.parts["discriminator"].start:
            losses["adversarial"] = Part("adversarial", type(term.settings)(weight=1.0, start=step))
        return replace(self, losses=losses)

    def has(self, path: str) -> bool:
        """Whether there is a setting at a path. A slot's level may lack one that another level of the slot has."""
        slot, *rest = words_of(path)
        if slot == "stages" and rest[1:] and rest[1] in RECIPE_SLOTS:
            return self.at(rest[0]).has(".".join(rest[1:]))
        settings = self.parts[slot].settings if slot in self.parts and rest else None
        return settings is None or rest[0] in type(settings).model_fields or rest[0] in settings.plain()

    def key(self, path: str) -> str:
        """A text that is equal for equal levels at a dotted path, settings included; terms of weight 0 are equal."""
        head, *rest = words_of(path)
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
        head, *rest = words_of(path)
        if head == "loss":
            term = self.losses.get(rest[0])
            return term.settings.plain()[rest[1] if rest[1:] else "weight"] if term else 0.0
        if head == "stages":
            own = rest[1] in RECIPE_SLOTS
            return self.at(rest[0]).value(".".join(rest[1:])) if own else self.settings[rest[0]].plain().get(rest[1])
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
    return part.level != "none" and bool(part.settings.acts)
