"""What a training step needs on a device: time, memory, micro-batches. Found by measuring or by running out of memory.

The store keeps one footprint for each configuration and device. Trials that differ only in loss weights, schedules,
learning rates and seeds have the same configuration.
"""

from dataclasses import asdict, dataclass, replace

from ablate.identity import signature
from ablate.recipe.recipe import Recipe, regularizes, weight
from ablate.recipe.stages import Stage
from ablate.store.files import read_json, write_json
from ablate.store.folders import Store

OUT_OF_MEMORY = "out of memory"
"""Failure reasons with this prefix are retried with smaller micro-batches."""


FREE_SETTINGS = {"weight", "start", "ramp", "clamp"}
"""Settings of a loss term or discriminator that do not change what a step costs."""


COST_SETTINGS = ("batch", "precision", "freeze", "latents", "learn_logvar")
"""Stage settings that change what a step costs."""


ROOMIER = 1.25
"""Whole batches are tried again where there is this many times the memory that was too little."""


@dataclass(frozen=True)
class Footprint:
    """What training and probing a configuration needs on one device. 0 means not measured.

    `parts`: the number of micro-batches that a batch must be split into. `step_s`: seconds per step. `probe_s`: seconds
    for the probes of one trial. `memory`: a worker's peak, in bytes. `checkpoint`: the size of the file, in bytes.
    `room`: bytes that there were for a worker when the stage began in which memory ran out last.
    """

    parts: int = 1
    step_s: float = 0.0
    probe_s: float = 0.0
    memory: int = 0
    checkpoint: int = 0
    room: int = 0

    def micro_batch(self, stage: Stage) -> int:
        """Pictures or clips in one micro-batch of a stage."""
        return -(-stage.settings.batch // self.parts)

    def where(self, room: int) -> "Footprint":
        """The footprint where there are `room` bytes: whole batches again, if that is clearly more than ran out."""
        return replace(self, parts=1) if self.parts > 1 and room > ROOMIER * self.room else self


def configuration(recipe: Recipe, stage: Stage) -> str:
    """Content hash of everything that affects the cost of a step in a stage: levels, loss terms, stage settings."""
    recipe = recipe.at(stage.name)
    losses = {name: _without_free(term.plain()) for name, term in recipe.losses.items() if weight(term)}
    parts = {slot: _without_free(part.plain()) for slot, part in recipe.parts.items() if slot != "init"}
    if "adversarial" not in losses:
        del parts["discriminator"]
    if not (stage.settings.regularize and regularizes(recipe.parts["regularizer"])):
        del parts["regularizer"]
    settings = stage.settings.plain()
    if stage.is_external:
        return signature([parts, losses, settings])
    costs = {name: settings[name] for name in COST_SETTINGS}
    frozen = {"freeze_parts": parts_frozen} if (parts_frozen := settings["freeze_parts"]) else {}
    return signature([parts, losses, costs | frozen])


def _without_free(settings: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in settings.items() if name not in FREE_SETTINGS}


def read(store: Store, key: str, device: str) -> Footprint:
    """The stored footprint of a configuration on a device, or the default if the store has none."""
    return Footprint(**(read_json(store.footprint(key)) or {}).get(device, {}))


def write(store: Store, key: str, device: str, footprint: Footprint) -> None:
    """Store the footprint of a configuration on a device; footprints on other devices are kept."""
    write_json(store.footprint(key), {**(read_json(store.footprint(key)) or {}), device: asdict(footprint)})


def split_further(
    store: Store, key: str, device: str, footprint: Footprint, stage: Stage, room: int
) -> Footprint | None:
    """Store that a configuration needs twice as many micro-batches, after memory ran out where there were `room` bytes.

    `room` is that before the stage began, as `Footprint.where` gets it: the two are compared. With what was free when
    memory ran out, or when the worker was dead but its memory not yet free, each try would take itself for roomier.

    None where a micro-batch is a single picture already, or the stage runs a command.
    """
    if footprint.parts >= stage.settings.batch:
        return None
    doubled = replace(footprint, parts=2 * footprint.parts, room=room)
    write(store, key, device, doubled)
    return doubled


def ran_out_reason(stage: Stage, footprint: Footprint) -> str:
    """What is said of a stage that ran out of memory; `footprint`: that with which it continues."""
    return f"{OUT_OF_MEMORY} in stage '{stage.name}'; continues with each batch in {footprint.parts} micro-batches"
