"""Stages of training: the settings of one, and the stages that a recipe runs one after the other."""

import os
import re
import shutil
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, field_validator, model_validator

from ablate.errors import nearest
from ablate.identity import canonical
from ablate.slots import registry
from ablate.slots.settings import Settings, added, cosmetic, is_usable_path

MOST = 10**9
"""Steps and pictures of a batch at most."""

Beta = Annotated[float, Field(ge=0, lt=1)]


class Train(Settings):
    """Settings of one training stage.

    `steps`: training steps; a stage of 0 steps is left out. `batch`: crops or clips per step. `lr`: AdamW's learning
    rate, also for the discriminator. `betas`: of AdamW. `weight_decay`: of AdamW. `warmup`: the learning rate rises
    linearly over this many first steps. `cooldown`: it falls linearly to 0 over this many last steps. `clip`: the
    largest gradient norm. `ema`: the decay of the averaged weights, which are probed. `precision`: of activations.
    `freeze`: with `encoder` only the decoder is trained. `freeze_parts`: further parts of the model that stay as they
    are, by the names of its modules, such as `encoder.down_blocks` or `decoder.conv_in`. `latents`: what a decoder
    alone is trained on, sampled latents or posterior means. `learn_logvar`: one log-variance s of the pixels is
    learned, and the sum R of the reconstruction terms enters the loss as R / e^s + s. `regularize`: with false the
    stage trains without the recipe's regularizer, so trials that differ only in the regularizer share the stage.
    `log_every`: steps between two lines of the log. `checkpoint_every`: steps between two checkpoints. `probe_every`:
    the quick probes of the study are run on the averaged weights every so many steps; 0 for never.
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
    freeze_parts: tuple[str, ...] = added((), absent_means=[])
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


PLACES = ("settings", "output", "checkpoint", "metrics", "seed", "device", "steps")
"""What a command may name in braces, beside the options of its stage."""


class External(Settings):
    """Settings of a stage that runs a command of the user's, which trains and writes a checkpoint.

    `command`: its words; in them `{settings}` stands for the path of a JSON file with all that the trial sets;
    `{output}`, `{checkpoint}`, `{metrics}`, `{seed}`, `{device}`, `{steps}` and `{OPTION}` stand for single ones.
    `checkpoint`: the file that it writes into its output folder: weights of the study's model, as safetensors or as a
    `.pt` of tensors. `metrics`: a file there of JSON lines or CSV, with `step`. `steps`: how many steps it makes.
    `cwd`: its working directory, from the study's folder on. `env`: environment variables. `sources`: patterns of
    further files that it depends on. All other settings are options of the command.
    """

    model_config = ConfigDict(extra="allow")

    command: tuple[str, ...] = Field(min_length=1)
    checkpoint: str
    metrics: str | None = cosmetic(None)
    steps: int = Field(1, gt=0, le=MOST)
    cwd: str = "."
    env: dict[str, str] = Field({})
    sources: tuple[str, ...] = ()
    content: str = ""
    """Content hash of the scripts, which is not the user's to give."""

    @model_validator(mode="after")
    def _known_places(self) -> Self:
        for file in filter(None, (self.checkpoint, self.metrics)):
            if Path(file).is_absolute() or ".." in Path(file).parts:
                raise ValueError(f"'{file}' must be a path within the output folder of the command")
        valid = [*PLACES, *(self.model_extra or {})]
        for word in self.command:
            for name in re.findall(r"\{(\w+)\}", word):
                if name not in valid:
                    raise ValueError(f"the command names {{{name}}}{nearest(name, valid)}")
        return self

    def __hash__(self) -> int:
        return hash(canonical(self.plain()))

    @property
    def options(self) -> dict[str, Any]:
        """The settings that are the command's own."""
        return dict(self.model_extra or {})

    def content_paths(self) -> dict[str, Path]:
        """The files that options name, from the working directory of the command on."""
        here = (registry.own().study or Path.cwd()) / self.cwd
        options = [text for text in self.options.values() if isinstance(text, str)]
        return {text: here / text for text in options if is_usable_path(str(here / text), folders=False)}

    def preflight(self) -> None:
        """Raise ValueError if the program is not there."""
        program = self.command[0]
        if "{" not in program and not shutil.which(program, path=search_path()) and not Path(program).is_file():
            raise ValueError(f"there is no program '{program}' on the PATH")

    # What the rest of the program asks of any stage

    @property
    def freeze(self) -> Literal["none"]:
        return "none"

    @property
    def regularize(self) -> bool:
        return True

    @property
    def batch(self) -> int:
        return 1

    @property
    def cooldown(self) -> int:
        return 0

    @property
    def probe_every(self) -> int:
        return 0

    @property
    def log_every(self) -> int:
        return 1

    @property
    def last_full_rate_step(self) -> int:
        return self.steps

    def up_to(self, step: int) -> Self:
        """These settings: the steps of a command cannot be divided."""
        return self


def search_path() -> str:
    """The PATH for commands: that of this process, with the programs of this Python first."""
    return os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])


StageSettings = Train | External


def stage_kind(values: dict[str, Any]) -> type[Train] | type[External]:
    """Which settings a stage has: with `command` it runs that, else it trains."""
    return External if "command" in values else Train


@dataclass(frozen=True)
class Stage:
    """One stage of training. `before`: the total number of steps of the stages before it."""

    name: str
    settings: StageSettings
    before: int = 0

    @property
    def is_external(self) -> bool:
        """Whether it runs a command of the user's."""
        return isinstance(self.settings, External)


def make_stages(stages: Iterable[tuple[str, StageSettings]]) -> tuple[Stage, ...]:
    """The stages of at least one step, in order, from their names and settings."""
    made: list[Stage] = []
    before = 0
    for name, settings in stages:
        if settings.steps:
            made.append(Stage(name, settings, before))
            before += settings.steps
    return tuple(made)
