"""What a step of training needs on a device, as it was found by measuring, or by running out of memory.

The store keeps it by what a step costs: trials that differ in weights, schedules, learning rates and seeds only need
the same.
"""

from dataclasses import asdict, dataclass

from ablate.identity import signature
from ablate.recipe.recipe import Recipe, regularizes, weight
from ablate.recipe.stages import Stage
from ablate.store.files import read_json, write_json
from ablate.store.folders import Store

OUT_OF_MEMORY = "out of memory"
"""How the reason begins for which a stage is run again in smaller parts."""


FREE_SETTINGS = {"weight", "start", "ramp", "clamp"}
"""Settings of a loss term or a discriminator that change nothing in the cost of a step."""


COST_SETTINGS = ("batch", "precision", "freeze", "latents", "learn_logvar")
"""Settings of a stage that do."""


@dataclass(frozen=True)
class Footprint:
    """`parts`: how many micro-batches a batch must be split into. `step_s`: seconds a step; `probe_s`: seconds of the
    probes of a trial. `memory` of a worker at its peak and `checkpoint` in bytes. 0 for what was not measured."""

    parts: int = 1
    step_s: float = 0.0
    probe_s: float = 0.0
    memory: int = 0
    checkpoint: int = 0

    def size(self, stage: Stage) -> int:
        """Pictures or clips in a micro-batch of a stage."""
        return -(-stage.settings.batch // self.parts)


def configuration(recipe: Recipe, stage: Stage) -> str:
    """Content hash of what a step of a stage costs."""
    recipe = recipe.at(stage.name)
    losses = {name: _cost(term.plain()) for name, term in recipe.losses.items() if weight(term)}
    parts = {slot: _cost(part.plain()) for slot, part in recipe.parts.items() if slot != "init"}
    if "adversarial" not in losses:
        del parts["discriminator"]
    if not (stage.settings.regularize and regularizes(recipe.parts["regularizer"])):
        del parts["regularizer"]
    settings = stage.settings.plain()
    return signature([parts, losses, {name: settings[name] for name in COST_SETTINGS}])


def _cost(settings: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in settings.items() if name not in FREE_SETTINGS}


def read(store: Store, key: str, device: str) -> Footprint:
    """What a configuration is known to need on a device."""
    return Footprint(**(read_json(store.needs(key)) or {}).get(device, {}))


def write(store: Store, key: str, device: str, need: Footprint) -> None:
    """Keep it."""
    write_json(store.needs(key), {**(read_json(store.needs(key)) or {}), device: asdict(need)})
