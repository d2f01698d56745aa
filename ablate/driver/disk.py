"""How much of the disk the checkpoints of a plan need, and whether that is free."""

import os
import shutil
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path

from ablate.adaptive.tuning import future_trials
from ablate.driver.models import ModelSize, model_size
from ablate.plan.plan import Plan
from ablate.plan.tree import Node, stage_tree
from ablate.recipe.recipe import Recipe
from ablate.schedule.resources import Resources, gpu_count
from ablate.store.files import is_remote
from ablate.store.shrink import Keep

AT_ONCE = 2
"""Whole checkpoints that a stage has while it trains: the last one and the one before or, being written, the next."""


KEPT_BYTES: dict[Keep, int] = {"all": 16, "weights": 8, "ema": 4, "none": 0}
"""Bytes for a parameter of the autoencoder: its weight, the average, the optimiser's two moments."""


CRITIC_BYTES = 12
"""Bytes for a parameter of the discriminator in a whole checkpoint: its weight and two moments."""


@dataclass(frozen=True)
class DiskNeed:
    """Bytes of checkpoints that are still to be written.

    `kept`: of all of them, once the trials have ended. `passing`: of stages and forks that are kept whole until what
    goes on from them has ended. `training`: of the largest stage while a worker trains it.
    """

    kept: int
    passing: int
    training: int

    @classmethod
    def of(cls, values: Mapping[str, int]) -> "DiskNeed":
        """A need from its JSON values, among others."""
        return cls(**{each.name: values[each.name] for each in fields(cls)})

    def with_workers(self, workers: int) -> int:
        """The most that is needed at once with so many workers."""
        return self.kept + self.passing + workers * self.training


def disk_need(plan: Plan, to_run: Iterable[Node], trained: Collection[str]) -> DiskNeed | None:
    """What the stages that are to run need; None where the size of no model is known. Without stages that are trained.

    Sizes are known of models that were built to check the study. Of others the mean of these is assumed, and of trials
    that results may add the size of the baseline.
    """
    nodes = [node for node in to_run if node.signature not in trained]
    seen: dict[tuple[int, ...], ModelSize | None] = {}
    sizes = {node.signature: _size(node.trial.treatment.recipe.at(node.stage.name), seen) for node in nodes}
    known = [size for size in sizes.values() if size]
    if nodes and not known:
        return None
    keep = plan.study.keep
    trials = {trial.signature: trial for trial in plan.ready}.values()
    uses = Counter(signature for trial in trials for signature in trial.signatures[:-1])
    forks = {fork.signature for trial in trials for of_stage in trial.forks for fork in of_stage}
    kept = passing = 0
    whole = [_whole(size) for size in known]
    mean = sum(whole) // max(1, len(whole))
    for node in nodes:
        size = sizes[node.signature]
        full = _whole(size) if size else mean
        left = _kept(size, keep) if size else int(mean * KEPT_BYTES[keep] / KEPT_BYTES["all"])
        left = full if uses[node.signature] > 1 else 0 if node.signature in forks and keep != "all" else left
        kept += left
        passing += full - left if node.signature in forks or uses[node.signature] else 0
    if known and (more := future_trials(plan)):
        kept += more * _kept(known[0], keep)
    return DiskNeed(kept, passing, AT_ONCE * max(whole, default=0))


def free_bytes(root: Path) -> int | None:
    """Free bytes where a store lies or will lie; None for object storage."""
    if is_remote(root):
        return None
    place = next((each for each in (root.absolute(), *root.absolute().parents) if each.exists()), Path("/"))
    return shutil.disk_usage(place).free


def describe_need(need: DiskNeed, keep: Keep, free: int | None) -> str:
    """What the disk is needed for, in words."""
    text = f"disk: {show_bytes(need.kept)} of checkpoints are kept (keep: {keep})"
    text += f", {show_bytes(need.passing)} more until others have gone on from them" if need.passing else ""
    text += f", {show_bytes(need.training)} for each worker while it trains"
    return f"{text}; {show_bytes(free)} are free" if free is not None else text


def why_short(plan: Plan, resources: Resources, *, inline: bool) -> str:
    """What to say of a disk that the checkpoints of a plan will fill, with ways out; empty if they fit."""
    need = disk_need(plan, stage_tree(plan.pending, plan.trained), plan.trained)
    free = free_bytes(plan.store.root)
    workers = 1 if inline else min(_workers(resources), max(1, len(plan.pending)))
    if need is None or free is None or need.with_workers(workers) <= free:
        return ""
    fewer = "run fewer --workers at once, " if workers > 1 and need.with_workers(1) <= free else ""
    less = "set a smaller 'keep' in the study (ema, none), " if plan.study.keep in {"all", "weights"} else ""
    return (
        f"the disk will be full before this has ended: {show_bytes(need.with_workers(workers))} are needed, with "
        f"{workers} at once ({describe_need(need, plan.study.keep, free)}); see what `ablate gc --dry-run` would free, "
        f"{fewer}{less}or name another store with --store"
    )


def show_bytes(count: float) -> str:
    """A number of bytes with its unit: `3.1 MB`."""
    units = ["B", "kB", "MB", "GB", "TB"]
    while count >= 1000 and len(units) > 1:
        count /= 1000
        units.pop(0)
    return f"{count:.3g} {units[0]}"


def _workers(resources: Resources) -> int:
    """How many trials run at once on this machine; of a cluster it is only known how many were asked for."""
    if resources.workers or resources.address:
        return resources.workers or 1
    if resources.gpus:
        return max(1, int(gpu_count() / resources.gpus))
    return max(1, (os.cpu_count() or 1) // resources.cpus)


def _size(recipe: Recipe, seen: dict[tuple[int, ...], ModelSize | None]) -> ModelSize | None:
    """The size of a recipe's model; `seen`: those that were looked up, by the ids of the parts."""
    key = tuple(id(part) for part in (*recipe.parts.values(), recipe.losses.get("adversarial")))
    if key not in seen:
        seen[key] = model_size(recipe)
    return seen[key]


def _whole(size: ModelSize) -> int:
    return KEPT_BYTES["all"] * size.parameters + CRITIC_BYTES * size.critic + size.buffers


def _kept(size: ModelSize, keep: Keep) -> int:
    if keep == "all":
        return _whole(size)
    return KEPT_BYTES[keep] * size.parameters + (size.buffers if keep != "none" else 0)
