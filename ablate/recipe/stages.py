"""Legs of training: the settings of one, and those that are run in a row."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, Self

from pydantic import Field, field_validator

from ablate.slots.settings import Settings, added, cosmetic


class Train(Settings):
    """Settings of one training stage. `lr` is AdamW's, for the discriminator too; `clip` bounds the gradient norm.

    A stage of 0 `steps` is left out. The learning rate rises linearly over the first `warmup` steps and falls linearly
    to 0 over the last `cooldown`. `freeze`: train the decoder alone, on `latents` that are sampled or posterior means.
    `learn_logvar`: learn one log-variance s of the pixels, so that reconstruction terms R enter as R / e^s + s.
    `regularize`: with `false` the stage trains without the recipe's regularizer, so that trials which differ in that
    alone share it. `probe_every`: how often, in steps, the quick probes of the study look at the averaged weights; 0
    for never.
    """

    steps: int = Field(ge=0)
    batch: int = Field(16, gt=0)
    lr: float = Field(gt=0)
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = Field(0.0, ge=0)
    warmup: int = Field(0, ge=0)
    cooldown: int = Field(0, ge=0)
    clip: float = Field(1.0, gt=0)
    ema: float = Field(0.999, ge=0, lt=1)
    precision: Literal["fp32", "bf16"] = "fp32"
    freeze: Literal["none", "encoder"] = added("none", absent_means="none")
    latents: Literal["sampled", "mean"] = added("sampled", absent_means="sampled")
    learn_logvar: bool = added(False, absent_means=False)
    regularize: bool = added(True, absent_means=True)
    log_every: int = cosmetic(10)
    checkpoint_every: int = cosmetic(500)
    probe_every: int = cosmetic(0)

    @field_validator("log_every", "checkpoint_every")
    @classmethod
    def _positive(cls, value: int) -> int:
        if value < 1:
            raise ValueError("must be at least 1")
        return value

    @property
    def full_rate(self) -> int:
        """The last step before the learning rate falls."""
        return self.steps if self.cooldown < 2 else max(0, self.steps - self.cooldown + 1)

    def up_to(self, step: int) -> Self:
        """These settings with what the first `step` steps do not depend on at its default."""
        return self.model_copy(update={"cooldown": 0}) if self.cooldown and step <= self.full_rate else self


@dataclass(frozen=True)
class Stage:
    """One leg of training. `before`: steps of the trial's stages before it."""

    name: str
    settings: Train
    before: int = 0


def make_stages(stages: Iterable[tuple[str, Train]]) -> tuple[Stage, ...]:
    """The stages that have steps to run, in order, each knowing the steps before it."""
    found: list[Stage] = []
    for name, settings in stages:
        if settings.steps:
            found.append(Stage(name, settings, sum(stage.settings.steps for stage in found)))
    return tuple(found)
