"""What `ablate plan`, `status` and `show` print, as JSON values."""

from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from ablate.adaptive.search import future_suggestions
from ablate.adaptive.tuning import future_trials
from ablate.driver.disk import disk_need, free_bytes
from ablate.driver.preflight import prepare_data
from ablate.driver.studies import stored_studies
from ablate.plan.collector import gc_paused
from ablate.plan.content import Contents
from ablate.plan.cost import StepKinds, add_steps, gpu_share, total_cost
from ablate.plan.footprint import Footprint
from ablate.plan.plan import Plan
from ablate.plan.stale import changes_since
from ablate.plan.tree import Node, stage_tree
from ablate.plan.trials import Trial, is_complete
from ablate.schedule.resources import gpu_memory
from ablate.store import damage
from ablate.store.folders import Store

Measure = Callable[[StepKinds], dict[str, Footprint]]


STATUSES = ("done", "running", "pending", "failed", "diverged", "pruned", "stale")


@gc_paused()
def summarise(plan: Plan, measure: Measure | None = None, *, redo: bool = False) -> dict[str, Any]:
    """The plan as JSON values.

    `estimate_s`: one worker's time for what is pending. `memory_bytes`: a worker's peak. `disk_bytes`: the size of the
    checkpoints as they are in training. All three come from `measure`; without it, the time is estimated from the
    finished trials of this study. A value is None if it is not known. With `redo`, stale trials count as pending, with
    all their stages. `disk`: bytes of the checkpoints that are still to be written, see `DiskNeed`, and the free ones;
    None without models of known size. `stale`: finished trials whose code or data have changed since. `begun`:
    unfinished ones whose data have. `changed`: what has changed, in words.
    """
    study = plan.study
    store = plan.store
    trials = plan.ready
    more = future_trials(plan)
    nodes = plan.nodes

    # Pending: all trials but those with complete results, which with `redo` must not be stale
    distinct = {trial.signature: trial for trial in trials if not trial.pruned}
    records = {trial.signature: store.stage(trial.signature).record() for trial in plan.stored}
    again = plan.stale.signatures if redo else set()
    stale = {signature for trial in plan.stored if trial.signature in again for signature in trial.all_signatures}
    for trial in plan.stored:
        if trial.signature not in again and is_complete(records[trial.signature], trial):
            distinct.pop(trial.signature, None)
    todo = list(distinct.values())
    trained = plan.trained - stale
    to_run = nodes if todo == trials and not trained else stage_tree(todo, trained)

    # Cost: by the mean time per step of finished trials, or measured
    steps_left = sum(node.steps for node in to_run if node.signature not in trained)
    timed = [record for trial in plan.stored if (record := records[trial.signature]) and record.steps]
    step_s = sum(record.wall_s for record in timed) / sum(record.steps for record in timed) if timed else None
    more_steps = more * trials[0].steps  # future trials are assumed to be as long as the baseline
    seconds = None if step_s is None else step_s * (steps_left + more_steps)
    memory = disk = None
    if measure:
        kinds: StepKinds = {}
        add_steps(kinds, to_run, trained)
        add_steps(kinds, stage_tree(trials[:1]), times=more)
        cost = total_cost(kinds, measure(kinds))
        seconds = cost.seconds
        memory = cost.memory
        disk = cost.disk
    need = disk_need(plan, to_run, trained)
    return {
        "study": study.name, "scale": study.scale,
        "treatments": len({trial.treatment.label for trial in trials}) + future_suggestions(study, plan.known),
        "trials": len(trials) + more, "stages": len(nodes) + more * len(trials[0].signatures),
        "pending": len(todo) + more, "planned_steps": sum(trial.steps for trial in trials) + more_steps,
        "distinct_steps": sum(node.steps for node in nodes) + more_steps,
        "shared": _shared(nodes), "estimate_s": seconds, "memory_bytes": memory, "disk_bytes": disk,
        "disk": {**asdict(need), "free": free_bytes(store.root)} if need else None,
        "stale": len(plan.stale.finished), "begun": len(plan.stale.begun), "changed": plan.stale.changes,
    }  # fmt: skip


def summarise_measured(plan: Plan, threads: int, say: Callable[[str], None], *, redo: bool = False) -> dict[str, Any]:
    """The plan as JSON values with its cost measured by a few real steps and probes of each kind.

    With `gpus_per_trial` where there is a GPU. `say` gets a line for each measurement.
    """
    from ablate.engine.measure import measure

    prepare_data(plan.study, plan.ready, plan.store)
    summary = summarise(plan, lambda kinds: measure(kinds, plan.store, threads, say), redo=redo)
    if gpu := gpu_memory():
        summary["gpus_per_trial"] = gpu_share(summary["memory_bytes"], gpu)
    return summary


def _shared(nodes: list[Node]) -> dict[str, dict[str, int]]:
    """Name of a shared stage -> how many runs of it serve several trials each, and how many trials these are in all."""
    shared: dict[str, dict[str, int]] = {}
    for node in nodes:
        if len(node.trials) == 1:
            continue
        name = node.stage.name if node.until == node.stage.settings.steps else f"{node.stage.name} to {node.until}"
        counts = shared.setdefault(name, {"runs": 0, "trials": 0})
        counts["runs"] += 1
        counts["trials"] += len(node.trials)
    return shared


def count_statuses(plan: Plan) -> dict[str, Any]:
    """Number of trials by status.

    `stale` counts finished trials whose code or data have changed; they are also counted under their own status.
    `changed`: what has, in words. `damaged`: files that were found damaged, in their place or moved aside. `causes`:
    why trials diverged or ended without learning, with their number.
    """
    causes: Counter[str] = Counter()
    counts = dict.fromkeys(STATUSES, 0) | {"pending": future_trials(plan)}
    for trial in plan.ready:
        counts[status_of(trial, plan.store)] += 1
        record = plan.store.stage(trial.signature).record()
        causes.update([record.cause] if record and record.cause and not trial.pruned else [])
    counts["stale"] = len(plan.stale.finished)
    folders = [plan.store.study(plan.study.name, plan.study.variant).root, plan.store.data]
    folders += [plan.store.stage(signature).root for trial in plan.ready for signature in trial.all_signatures]
    moved = [str(path) for folder in dict.fromkeys(folders) for path in damage.aside(folder)]
    return {
        "study": plan.study.name, "scale": plan.study.scale, "trials": counts, "changed": plan.stale.changes,
        "causes": dict(causes),
        "damaged": [*(f"{path}: {reason}" for path, reason in damage.found().items()), *moved],
    }  # fmt: skip


def status_of(trial: Trial, store: Store) -> str:
    """A trial's status. A finished trial that lacks results of one of the study's probes is pending."""
    if trial.pruned:
        return "pruned"
    folder = store.stage(trial.signature)
    status = folder.status()
    return "pending" if status == "done" and not is_complete(folder.record(), trial) else status


def list_studies(store: Store) -> list[dict[str, Any]]:
    """The studies in the store, the one run last first, with the number of their trials by status.

    The trials are those that were known when the study was last run. `time`: of that, in seconds since 1970.
    """
    return [
        {
            "name": study.name, "scale": study.scale, "overrides": list(study.overrides),
            "question": " ".join(study.card["question"].split()), "file": study.card.get("file", ""),
            "trials": dict(Counter(store.stage(trial).status() for trial in study.card.get("trials", []))),
            "time": study.folder.card.stat().st_mtime, "folder": str(study.folder.root),
        }
        for study in stored_studies(store)
    ]  # fmt: skip


def list_trials(plan: Plan, pattern: str) -> list[dict[str, Any]]:
    """Every trial whose name or signature contains `pattern`, in full."""
    trials = [trial for trial in plan.ready if pattern in trial.name or pattern in trial.signature]
    contents = Contents(plan.store)
    return [describe_trial(trial, plan.store, contents) for trial in trials]


def describe_trial(trial: Trial, store: Store, contents: Contents | None = None) -> dict[str, Any]:
    """A trial with all that is known of it. `contents`: what files hold now, where several trials are described."""
    folder = store.stage(trial.signature)
    record = None if trial.pruned else folder.record()
    changed = changes_since(record, trial, contents or Contents(store)) if record else {}
    return {
        "treatment": trial.treatment.levels, "seed": trial.seed, "name": trial.name, "status": status_of(trial, store),
        "role": trial.role, "nuisance": dict(trial.treatment.nuisance or {}),
        "reason": trial.pruned or (record.reason if record else folder.failure()),
        "cause": record.cause if record else "",
        "metrics": record.metrics if record else {}, "raw": record.raw if record else {},
        "liveness": record.liveness if record else {}, "parameters": record.parameters if record else None,
        "active_parameters": record.active_parameters if record else None,
        "flops": record.flops if record else None, "signature": trial.signature,
        "steps": record.steps if record else 0, "wall_s": record.wall_s if record else 0.0,
        "stale": bool(changed), "changed": list(changed.values()),
        "code": record.code if record else {}, "content": record.content if record else {},
        "machine": record.machine if record else {}, "folder": str(folder.root),
    }  # fmt: skip
