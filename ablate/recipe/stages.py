"""Stages of training: the settings of one, and the stages that a recipe runs one after the other."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator

from ablate.slots.settings import Settings, added, cosmetic

MOST = 10**9
"""Steps and pictures of a batch at most."""

Beta = Annotated[float, Field(ge=0, lt=1)]


class Train(Settings):
    """Settings of one training stage.

    `steps`: training steps; a stage of 0 steps is left out. `batch`: crops or clips per step. `lr`: AdamW's learning
    rate, also for the discriminator. `betas`: of AdamW. `weight_decay`: of AdamW. `warmup`: the learning rate rises
    linearly over this many first steps. `cooldown`: it falls linearly to 0 over this many last steps. `clip`: the
    largest gradient norm. `ema`: the decay of the averaged weights, which are probed. `precision`: of activations.
    `freeze`: with `encoder` only the decoder is trained. `latents`: what a decoder alone is trained on, sampled latents
    or posterior means. `learn_logvar`: one log-variance s of the pixels is learned, and the sum R of the reconstruction
    terms enters the loss as R / e^s + s. `regularize`: with false the stage trains without the recipe's regularizer, so
    trials that differ only in the regularizer share the stage. `log_every`: steps between two lines of the log.
    `checkpoint_every`: steps between two checkpoints. `probe_every`: the quick probes of the study are run on the
    averaged weights every so many steps; 0 for never.
    """

    steps: int = Field(ge=0, le=MOST)
    batch: int = Field(16, gt=0, le=MOST)
    lr: float = Field(gt=0)
    betas: tuple[Beta, Beta] = (0.9, 0.99)
    weight_decay: float = Field(0.0, ge=0)
    warmup: int = Field(0, ge=0, le=MOST)
    cooldown: int = Field(0, ge=0, le=MOST)
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

    @field_validator("probe_every")
    @classmethod
    def _not_negative(cls, value: int) -> int:
        if value < 0:
            raise ValueError("must be at least 0, which is never")
        return value

    @property
    def last_full_rate_step(self) -> int:
        """The last step before the cooldown lowers the learning rate."""
        return self.steps if self.cooldown < 2 else max(0, self.steps - self.cooldown + 1)

    def up_to(self, step: int) -> Self:
        """These settings, but with the default `cooldown` if the first `step` steps come before the cooldown."""
        return self.model_copy(update={"cooldown": 0}) if self.cooldown and step <= self.last_full_rate_step else self


@dataclass(frozen=True)
class Stage:
    """One stage of training. `before`: the total number of steps of the stages before it."""

    name: str
    settings: Train
    before: int = 0


def make_stages(stages: Iterable[tuple[str, Train]]) -> tuple[Stage, ...]:
    """The stages of at least one step, in order, from their names and settings."""
    made: list[Stage] = []
    before = 0
    for name, settings in stages:
        if settings.steps:
            made.append(Stage(name, settings, before))
            before += settings.steps
    return tuple(made)
