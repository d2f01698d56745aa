"""Base classes of the `Config` of a slot's levels, with a default for everything the rest of the program asks of it.

A level overrides what it needs and inherits the rest. Levels of the other slots inherit `Settings` itself.

Some settings are optional but mean the same in every level that has them; a level offers one by declaring the field:

| slot | field | meaning |
|---|---|---|
| loss, discriminator | `start` | the step of the trial, counted over all stages, after which it enters; 0 without it |
| loss | `ramp` | over how many further steps the weight rises linearly from 0; 0 without it |
| loss | `mode`, `clamp` | with `mode` "adaptive" the weight is multiplied by a ratio of gradients in [0, `clamp`] |
| regularizer | `strength` | how strongly it acts; at 0 it is left out, like the level `none` |
| padding | `where` | "both", "encoder" or "decoder": the half that pads so, the other pads with zeros |

No field may have the name of a hook of its base class: it would hide the hook.
"""

from typing import Any, ClassVar

from pydantic import Field

from ablate.slots.settings import Settings


class ModelSettings(Settings):
    """Base of the `Config` of model levels. A level must define `stride`.

    `temporal`: whether the model takes clips; the slots of video models then belong to it.
    `norms`: names of the norm levels that a temporal model works with.
    """

    temporal: ClassVar[bool] = False
    norms: ClassVar[tuple[str, ...]] = ()

    @property
    def stride(self) -> int:
        """Pixels along a side for each place of the latent."""
        raise TypeError(f"{type(self).__module__}: Config does not define stride")

    @property
    def groups(self) -> int:
        """Frames that share a latent frame; clips have 1 + groups * k frames. 1 for models of images."""
        return 1

    def multiples(self, halves: int) -> dict[str, int]:
        """What numbers of channels must be multiples of where a branch divides channels into `halves`, by field."""
        return {}


class BranchSettings(Settings):
    """Base of the `Config` of branch levels. `halves`: the number of parts that channels are divided into, 1 or 2."""

    halves: ClassVar[int] = 1


class LossSettings(Settings):
    """Base of the `Config` of loss terms. `weight`: the term's factor in the training loss; at 0 it is left out."""

    weight: float = Field(ge=0)


class DiscriminatorSettings(Settings):
    """Base of the `Config` of discriminator levels."""

    @property
    def smallest(self) -> int:
        """Side in px of the smallest picture that it can judge."""
        return 1

    @property
    def shortest(self) -> int:
        """Frames of the shortest clip that it can judge; 1 where it judges pictures, not clips."""
        return 1


class RegularizerSettings(Settings):
    """Base of the `Config` of regularizer levels."""

    @property
    def latent_multiple(self) -> int:
        """The sides of latents must be multiples of this."""
        return 1

    @property
    def latent_frames_multiple(self) -> int:
        """The latent frames of clips after the first must be a multiple of this; above 1, pictures are refused."""
        return 1

    def smallest_latent(self, side: int) -> int:
        """Smallest side of latents that the regularizer has decoded in training, for latents of `side` places."""
        return side

    @property
    def acts(self) -> bool:
        """Whether it changes training at all: False if its `strength` is 0."""
        return bool(self.get("strength", 1.0) != 0)


class InitSettings(Settings):
    """Base of the `Config` of init levels.

    `inherits`: whether it can take over weights of the stage before, where that trained another network; `build` then
    gives an `Inheritance`.
    """

    inherits: ClassVar[bool] = False

    def mismatch(self, recipe: dict[str, Any]) -> str:
        """Why its weights do not fit a recipe, given as plain settings by slot; empty if they fit."""
        return ""

    def misfit(self, before: dict[str, Any], after: dict[str, Any]) -> str:
        """Why weights of the stage before cannot be taken over; empty if they can. Asked only where `inherits`.

        `before`, `after`: by slot, the level of each stage with `level`, its name, and `settings`, its `Config`.
        """
        return ""


class ProbeSettings(Settings):
    """Base of the `Config` of probe levels."""

    def smallest(self, stride: int) -> int:
        """Side in px from which on the first metric is reported, for a model of that stride: a multiple of it."""
        return stride

    def shortest(self) -> int:
        """Frames of a held-out clip from which on the first metric is reported; 1 for probes of pictures."""
        return 1

    def unfit(self, stride: int, crop: int) -> str:
        """Why it cannot examine a model trained on crops of `crop` px at that stride; empty if it can."""
        return ""


def hidden_hooks(config: type[Settings], base: type[Settings]) -> list[str]:
    """Names of the fields of a `Config` that hide a hook or method of its base class."""
    return sorted(name for name in config.model_fields if hasattr(base, name) and name not in base.model_fields)
