"""What `ablate plan`, `status` and `show` say, as plain values."""

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ablate.adaptive.search import future_suggestions
from ablate.adaptive.tuning import future_trials
from ablate.plan.cost import StepKinds, add_steps, total_cost
from ablate.plan.footprint import Footprint
from ablate.plan.plan import Plan
from ablate.plan.stale import is_stale
from ablate.plan.tree import Node, stage_tree
from ablate.plan.trials import Trial, is_complete
from ablate.store.folders import Store

Measure = Callable[[StepKinds], dict[str, Footprint]]


STATUSES = ("done", "running", "pending", "failed", "diverged", "pruned", "stale")


@contextmanager
def gc_paused() -> Iterator[None]:
    """No garbage collection meanwhile: scanning a million live objects frees nothing."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


@gc_paused()
def summarise(plan: Plan, measure: Measure | None = None, *, redo: bool = False) -> dict[str, Any]:
    """The plan as JSON values.

    `estimate_s` is one worker's time for what is pending, `memory_bytes` a worker's peak, `disk_bytes` the size of the
    checkpoints, all three by what `measure` finds; without it the time is from the pace of this study's finished
    trials. None for what is not known. `redo`: what other code has made is pending too, all of it.
    """
    study, store = plan.study, plan.store
    trials = plan.ready
    more = future_trials(plan)
    nodes = plan.nodes

    # What is pending: of what the store holds anything, all that has no result, or, to redo it, one of other code.
    distinct = {trial.signature: trial for trial in trials if not trial.pruned}
    records = {trial.signature: store.stage(trial.signature).record() for trial in plan.held}
    stale: set[str] = set()
    for trial in plan.held:
        record = records[trial.signature]
        if redo and record and is_stale(record):
            stale.update(trial.marks)
        elif is_complete(record, trial):
            distinct.pop(trial.signature, None)
    todo = list(distinct.values())
    over = plan.trained - stale
    to_run = nodes if todo == trials and not over else stage_tree(todo, over)

    # What it costs: by the pace of finished trials, or measured.
    left = sum(node.steps for node in to_run if node.signature not in over)
    paced = [record for trial in plan.held if (record := records[trial.signature]) and record.steps]
    pace = sum(record.wall_s for record in paced) / sum(record.steps for record in paced) if paced else None
    more_steps = more * trials[0].steps  # what is not known yet is taken to be as long as the baseline
    seconds = None if pace is None else pace * (left + more_steps)
    memory = disk = None
    if measure:
        found: StepKinds = {}
        add_steps(found, to_run, over)
        add_steps(found, stage_tree(trials[:1]), times=more)
        cost = total_cost(found, measure(found))
        seconds, memory, disk = cost.seconds, cost.memory, cost.disk
    return {
        "study": study.name, "scale": study.scale,
        "treatments": len({trial.treatment.label for trial in trials}) + future_suggestions(study, plan.known),
        "trials": len(trials) + more, "stages": len(nodes) + more * len(trials[0].signatures),
        "pending": len(todo) + more, "planned_steps": sum(trial.steps for trial in trials) + more_steps,
        "distinct_steps": sum(node.steps for node in nodes) + more_steps,
        "shared": _shared(nodes), "estimate_s": seconds, "memory_bytes": memory, "disk_bytes": disk,
    }  # fmt: skip


def _shared(nodes: list[Node]) -> dict[str, dict[str, int]]:
    """Stage -> how often it is run for several trials at once, and how many these are in all."""
    shared = [node for node in nodes if len(node.through) > 1]
    found: dict[str, dict[str, int]] = {}
    for node in shared:
        name = node.stage.name if node.until == node.stage.settings.steps else f"{node.stage.name} to {node.until}"
        counts = found.setdefault(name, {"runs": 0, "trials": 0})
        counts["runs"] += 1
        counts["trials"] += len(node.through)
    return found


def count_statuses(plan: Plan) -> dict[str, Any]:
    """Counts by status. `stale` counts, besides, the finished trials whose components have changed since."""
    counts = dict.fromkeys(STATUSES, 0) | {"pending": future_trials(plan)}
    for trial in plan.ready:
        record = plan.store.stage(trial.signature).record()
        counts[status_of(trial, plan.store)] += 1
        counts["stale"] += record is not None and is_stale(record)
    return {"study": plan.study.name, "scale": plan.study.scale, "trials": counts}


def status_of(trial: Trial, store: Store) -> str:
    """A trial's status; one that lacks a probe that the study asks for is pending."""
    if trial.pruned:
        return "pruned"
    folder = store.stage(trial.signature)
    found = folder.status()
    return "pending" if found == "done" and not is_complete(folder.record(), trial) else found


def list_trials(plan: Plan, pattern: str) -> list[dict[str, Any]]:
    """Every trial whose name or signature contains `pattern`, in full."""
    trials = [trial for trial in plan.ready if pattern in trial.name or pattern in trial.signature]
    return [_describe_trial(trial, plan.store) for trial in trials]


def _describe_trial(trial: Trial, store: Store) -> dict[str, Any]:
    folder = store.stage(trial.signature)
    record = None if trial.pruned else folder.record()
    return {
        "treatment": trial.treatment.levels, "seed": trial.seed, "name": trial.name, "status": status_of(trial, store),
        "role": trial.role, "nuisance": dict(trial.treatment.nuisance or {}),
        "reason": trial.pruned or (record.reason if record else folder.failure()),
        "metrics": record.metrics if record else {}, "raw": record.raw if record else {},
        "liveness": record.liveness if record else {}, "parameters": record.parameters if record else None,
        "active_parameters": record.active_parameters if record else None,
        "flops": record.flops if record else None, "signature": trial.signature,
        "steps": record.steps if record else 0, "wall_s": record.wall_s if record else 0.0,
        "stale": is_stale(record) if record else False, "code": record.code if record else {},
        "machine": record.machine if record else {}, "folder": str(folder.root),
    }  # fmt: skip
