"""What `plan`, `status`, `show`, `components` and `schema` say, as plain values and as terminal tables."""

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.table import Table

from ablate import registry
from ablate.assign import RECIPE_SLOTS
from ablate.console import duration
from ablate.contrasts import contrasts
from ablate.cost import Kinds, count, total
from ablate.design import ends
from ablate.design import show as show_level
from ablate.factors import Factor
from ablate.needs import Need
from ablate.nuisance import Tuning
from ablate.pruning import Pruning
from ablate.search import Search
from ablate.spec import Study
from ablate.stages import Train
from ablate.stale import is_stale
from ablate.store import Store
from ablate.study_file import StudyFile
from ablate.suggest import to_come
from ablate.trials import Node, Trial, answers, trained, tree
from ablate.tuning import known_trials, trials_to_come

Measure = Callable[[Kinds], dict[str, Need]]
SHOWN = 30, 5
"""Treatments that a plan lists: the first and the last."""
STATUSES = ("done", "running", "pending", "failed", "diverged", "pruned", "stale")


@contextmanager
def _nothing_is_garbage() -> Iterator[None]:
    """No search for unreachable objects: a million live ones are looked through in vain."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


@_nothing_is_garbage()
def plan(study: Study, store: Store, measure: Measure | None = None, *, redo: bool = False) -> dict[str, Any]:
    """The plan as JSON values.

    `estimate_s` is one worker's time for what is pending, `memory_bytes` a worker's peak, `disk_bytes` the size of the
    checkpoints, all three by what `measure` finds; without it the time is from the pace of this study's finished
    trials. None for what is not known. `redo`: what other code has made is pending too, all of it.
    """
    trials, more = known_trials(study, store), trials_to_come(study, store)
    held = store.held()
    seen = [trial for trial in trials if not held.isdisjoint(trial.marks)] if held else []
    distinct = {trial.signature: trial for trial in trials if not trial.pruned}
    stale: set[str] = set()
    for trial in seen:
        record = store.stage(trial.signature).record()
        if redo and record and is_stale(record):
            stale.update(trial.marks)
        elif answers(record, trial):
            distinct.pop(trial.signature, None)
    todo, nodes = list(distinct.values()), tree(trials)
    over = trained(seen, store) - stale
    to_run = nodes if todo == trials and not over else tree(todo, over)
    left = sum(node.steps for node in to_run if node.signature not in over)
    records = [record for trial in seen if (record := store.stage(trial.signature).record()) and record.steps]
    pace = sum(record.wall_s for record in records) / sum(record.steps for record in records) if records else None
    more_steps = more * trials[0].steps  # what is not known yet is taken to be as long as the baseline
    seconds, memory, disk = None if pace is None else pace * (left + more_steps), None, None
    if measure:
        found: Kinds = {}
        count(found, to_run, over)
        count(found, tree(trials[:1]), times=more)
        cost = total(found, measure(found))
        seconds, memory, disk = cost.seconds, cost.memory, cost.disk
    return {
        "study": study.name, "scale": study.scale,
        "treatments": len({trial.treatment.label for trial in trials}) + to_come(study),
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


@_nothing_is_garbage()
def print_plan(study: Study, summary: dict[str, Any], out: Console) -> None:
    """The plan for people: treatments, what the design can tell, cost."""
    out.print(f"{study.name}: {study.question}", soft_wrap=True)
    out.print(
        f"scale {study.scale} ({study.scale_reason}) · design {' + '.join(study.designs)} · "
        f"seeds {list(study.seeds)}{_at_first(study)}\n",
        soft_wrap=True,
    )
    _print_treatments(study, out)
    if study.search:
        out.print("\n" + "\n".join(_describe_search(study, study.search)), soft_wrap=True)
    if study.pruning:
        out.print("\n" + _describe_pruning(study, study.pruning), soft_wrap=True)
    if study.tuning:
        out.print("\n" + _describe_tuning(study, study.tuning), soft_wrap=True)
    out.print("\ncan estimate: " + ("\n" + " " * 14).join(contrasts(study)), soft_wrap=True)
    out.print(
        f"{summary['trials']} trials, {summary['pending']} pending · {summary['distinct_steps']} distinct steps of "
        f"{summary['planned_steps']} planned in {summary['stages']} stages"
    )
    shared = [f"'{stage}' {n['runs']} × for {n['trials']} trials" for stage, n in summary["shared"].items()]
    if shared:
        out.print(f"shared: {', '.join(shared)}", soft_wrap=True)
    estimate = summary["estimate_s"]
    if estimate is None:
        out.print("cost: known after the first trial, or with --measure")
        return
    sizes = ("memory_bytes", "of memory a worker"), ("disk_bytes", "of checkpoints")
    more = [f" · {summary[key] / 1e9:.2g} GB {what}" for key, what in sizes if summary[key] is not None]
    out.print(f"about {duration(estimate)} of one worker{''.join(more)}")
    if share := summary.get("gpus_per_trial"):
        out.print(f"{round(1 / share)} at once fit on a GPU: ablate sweep --gpus-per-trial {share:.3g}")


def _describe_search(study: Study, search: Search) -> list[str]:
    """What is searched: the budget, the aims, the space."""
    tried, more = len(study.searched) + 1, to_come(study)
    aims = [f"{goal.name} {_aim(goal)}" for goal in search.objectives]
    limits = f" within {', '.join(map(str, search.limits))}" if search.limits else ""
    lines = [
        f"search: {search.sampler}, {tried} of at most {tried + more} treatments suggested, which depend on results"
    ]
    lines.append(f"  for {', '.join(aims)}{limits}")
    return [*lines, *(f"  {factor.path}: {_space(factor)}" for factor in study.factors)]


def _space(factor: Factor) -> str:
    """`norm, scn`; `1e-08 to 1 on a log scale`."""
    if span := factor.range:
        return f"{show_level(span.low)} to {show_level(span.high)}{' on a log scale' if span.log else ''}"
    return ", ".join(map(show_level, factor.choices))


def _at_first(study: Study) -> str:
    return f", the first {study.seed_bounds[0]} and more where needed" if study.seed_bounds else ""


def _describe_pruning(study: Study, pruning: Pruning) -> str:
    """By which rule treatments are stopped, and where."""
    return (
        f"pruned by {pruning.rule} on {pruning.column} with seed {study.seeds[0]} at {pruning.where}; "
        f"{len(study.pruned)} treatments stopped so far"
    )


def _describe_tuning(study: Study, tuning: Tuning) -> str:
    """What is tuned for each treatment, at which budget."""
    spaces = ", ".join(f"{factor.path} ({_space(factor)})" for factor in tuning.factors)
    return (
        f"tuned for each treatment: {spaces} by {tuning.sampler} for {study.primary}, {tuning.trials} settings × seeds "
        f"{list(tuning.seeds)} each; {len(study.tuned)} treatments tuned so far"
    )


def _aim(goal: registry.Metric) -> str:
    return {"up": "high", "down": "low"}.get(goal.direction, f"near {goal.target:g}")


def _print_treatments(study: Study, out: Console) -> None:
    """A row per treatment; of many, the first and the last."""
    first, last, between = ends(study, *SHOWN)
    # Where all is measured against the baseline, a column that says so would only take room.
    several = any(treatment.reference not in {None, "baseline"} for treatment in [*first, *last])
    rows = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    for heading in ("treatment", *(["against"] if several else []), *(factor.path for factor in study.factors)):
        rows.add_column(heading)
    for treatment in [*first, *last]:
        if between and treatment is last[0]:
            rows.add_row(f"… {between:,} more …")
        base, changed = treatment.is_baseline, treatment.changed
        name = treatment.label + (f" ({', '.join(treatment.aliases)})" if treatment.aliases else "")
        against = [treatment.reference or ""] if several else []
        levels = treatment.levels.items()
        cells = [show_level(level) if base or path in changed or level is None else "·" for path, level in levels]
        rows.add_row(name, *against, *cells)
    out.print(rows)


def status(study: Study, store: Store) -> dict[str, Any]:
    """Counts by status. `stale` counts, besides, the finished trials whose components have changed since."""
    counts = dict.fromkeys(STATUSES, 0) | {"pending": trials_to_come(study, store)}
    for trial in known_trials(study, store):
        record = store.stage(trial.signature).record()
        counts[status_of(trial, store)] += 1
        counts["stale"] += record is not None and is_stale(record)
    return {"study": study.name, "scale": study.scale, "trials": counts}


def status_of(trial: Trial, store: Store) -> str:
    """A trial's status; one that lacks a probe that the study asks for is pending."""
    if trial.pruned:
        return "pruned"
    folder = store.stage(trial.signature)
    found = folder.status()
    return "pending" if found == "done" and not answers(folder.record(), trial) else found


def show(study: Study, store: Store, pattern: str) -> list[dict[str, Any]]:
    """Every trial whose name or signature contains `pattern`, in full."""
    trials = [trial for trial in known_trials(study, store) if pattern in trial.name or pattern in trial.signature]
    return [_show_trial(trial, store) for trial in trials]


def _show_trial(trial: Trial, store: Store) -> dict[str, Any]:
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


def print_trials(rows: list[dict[str, Any]], out: Console) -> None:
    """Trials for people, one block each."""
    for row in rows:
        out.print(f"{row['name']}  {row['status']}  {row['reason']}", style="bold", soft_wrap=True)
        out.print(
            f"  {row['signature']} · {row['steps']} steps · {row['wall_s']:.1f} s · {row['folder']}", soft_wrap=True
        )
        if row["metrics"]:
            out.print("  " + "  ".join(f"{name} {value:.4g}" for name, value in row["metrics"].items()), soft_wrap=True)
        if row["liveness"]:
            shares = "  ".join(f"{name.removeprefix('share/')} {value:.1%}" for name, value in row["liveness"].items())
            active = f"{row['active_parameters']} of {row['parameters']} parameters active"
            out.print(f"  gradient shares: {shares} · {active} · {row['flops']:.3g} flops a round trip", soft_wrap=True)


def catalogue(slots: list[str]) -> dict[str, Any]:
    """Slot -> level -> doc and settings."""
    return {slot: {name: _describe(slot, name) for name in registry.levels(slot)} for slot in slots}


def _describe(slot: str, name: str) -> dict[str, Any]:
    level = registry.level(slot, name)
    settings = {}
    for field, info in level.Config.model_fields.items():
        kind = str(info.annotation).removeprefix("<class '").removesuffix("'>")
        settings[field] = {"type": kind, "default": None if info.is_required() else info.default}
    return {"doc": level.doc.split("\n\n")[0].replace("\n", " "), "settings": settings}


def print_catalogue(found: dict[str, Any], out: Console) -> None:
    """The catalogue for people."""
    for slot, names in found.items():
        out.print(f"[bold]{slot}[/bold]  {registry.SLOTS[slot]}")
        for name, level in names.items():
            settings = ", ".join(
                f"{field}={item['default']}" if item["default"] is not None else field
                for field, item in level["settings"].items()
            )
            out.print(f"  {name:16} {level['doc']}", soft_wrap=True, markup=False)
            if settings:
                out.print(f"  {'':16} settings: {settings}", soft_wrap=True, markup=False)


def schema() -> dict[str, Any]:
    """The JSON schema of a study file, with the levels and settings that this installation has."""
    found: dict[str, Any] = StudyFile.model_json_schema()
    slots = {slot: _slot_schema(slot) for slot in RECIPE_SLOTS if slot != "loss"}
    terms = {
        name: {"anyOf": [{"type": "number", "minimum": 0}, registry.level("loss", name).Config.model_json_schema()]}
        for name in registry.levels("loss")
    }
    slots["loss"] = {"type": "object", "properties": terms, "additionalProperties": False}
    found["properties"]["base"] |= {"properties": slots, "additionalProperties": False}
    stage = Train.model_json_schema()
    stage["properties"] |= {slot: {} for slot in RECIPE_SLOTS}  # settings that come without their level are allowed
    found["properties"]["stages"]["items"] = {"type": "object", "additionalProperties": stage}
    found["properties"]["probes"]["items"] = _slot_schema("probe")
    return found


def _slot_schema(slot: str) -> dict[str, Any]:
    full = []
    for name in registry.levels(slot):
        settings = registry.level(slot, name).Config.model_json_schema()
        properties = {"level": {"const": name}, **settings.get("properties", {})}
        full.append({"type": "object", "properties": properties, "required": ["level"], "additionalProperties": False})
    return {"anyOf": [{"enum": registry.levels(slot)}, *full]}
