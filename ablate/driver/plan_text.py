"""A plan as text: treatments, what the design can estimate, cost."""

from typing import Any

from rich.console import Console
from rich.table import Table

from ablate.adaptive.search import future_suggestions
from ablate.analysis.tables.foresight import foresee
from ablate.analysis.tables.verdict_notes import describe_power
from ablate.driver.progress import duration
from ablate.plan.collector import gc_paused
from ablate.plan.commands import sweep_command
from ablate.plan.estimable import describe_contrasts
from ablate.plan.labels import format_level as show_level
from ablate.plan.plan import Plan
from ablate.slots.settings import Metric
from ablate.study.factors import Factor
from ablate.study.pruning import Pruning
from ablate.study.search import Search
from ablate.study.study import Study
from ablate.study.tuning import Tuning

SHOWN = 30, 5
"""How many treatments a plan lists at the start and at the end."""


@gc_paused()
def print_plan(plan: Plan, summary: dict[str, Any], out: Console) -> None:
    """Print the plan as text: treatments, what the design can estimate, cost."""
    study = plan.study
    out.print(f"{study.name}: {study.question}", soft_wrap=True)
    out.print(
        f"scale {study.scale} ({study.scale_reason}) · design {' + '.join(study.designs)} · "
        f"seeds {list(study.seeds)}{_at_first(study)}\n",
        soft_wrap=True,
    )
    _print_treatments(plan, out)
    if study.search:
        out.print("\n" + "\n".join(_describe_search(plan, study.search)), soft_wrap=True)
    if study.pruning:
        out.print("\n" + _describe_pruning(plan, study.pruning), soft_wrap=True)
    if study.tuning:
        out.print("\n" + _describe_tuning(plan, study.tuning), soft_wrap=True)
    out.print("\ncan estimate: " + ("\n" + " " * 14).join(describe_contrasts(study, plan.listing)), soft_wrap=True)
    out.print(
        f"{summary['trials']} trials, {summary['pending']} pending · {summary['distinct_steps']} distinct steps of "
        f"{summary['planned_steps']} planned in {summary['stages']} stages"
    )
    shared = [f"'{stage}' {n['runs']} × for {n['trials']} trials" for stage, n in summary["shared"].items()]
    if shared:
        out.print(f"shared: {', '.join(shared)}", soft_wrap=True)
    if summary["changed"]:
        again = sweep_command(study, plan.store, "--rerun", "stale")
        count = summary["stale"] + summary["begun"]
        changes = ", ".join(summary["changed"])
        out.print(f"{count} trials are stale: {changes} changed since; to run them again: {again}", soft_wrap=True)
    estimate = summary["estimate_s"]
    if estimate is None:
        out.print("cost: known after the first trial, or with --measure")
        return
    sizes = ("memory_bytes", "of memory a worker"), ("disk_bytes", "of checkpoints in training")
    more = [f" · {summary[key] / 1e9:.2g} GB {what}" for key, what in sizes if summary[key] is not None]
    out.print(f"about {duration(estimate)} of one worker{''.join(more)}")
    if share := summary.get("gpus_per_trial"):
        out.print(f"{round(1 / share)} at once fit on a GPU: ablate sweep --gpus-per-trial {share:.3g}")
    for name, noise in foresee(plan).items():
        sentence = describe_power(study.metrics[name], noise, len(study.seeds))
        out.print(f"in {name}, {sentence}; by the noise of the trials so far", soft_wrap=True)


def _describe_search(plan: Plan, search: Search) -> list[str]:
    """Lines on a search: its budget, its objectives, its space."""
    tried = len(plan.known.searched) + 1
    more = future_suggestions(plan.study, plan.known)
    aims = [f"{goal.name} {_aim(goal)}" for goal in search.objectives]
    limits = f" within {', '.join(map(str, search.limits))}" if search.limits else ""
    lines = [
        f"search: {search.sampler}, {tried} of at most {tried + more} treatments suggested, which depend on results"
    ]
    lines.append(f"  for {', '.join(aims)}{limits}")
    return [*lines, *(f"  {factor.path}: {_space(factor)}" for factor in plan.study.factors)]


def _space(factor: Factor) -> str:
    """The levels or the range of a factor: `group, scn`; `1e-08 to 1 on a log scale`."""
    if span := factor.range:
        return f"{show_level(span.low)} to {show_level(span.high)}{' on a log scale' if span.log else ''}"
    return ", ".join(map(show_level, factor.choices))


def _at_first(study: Study) -> str:
    return f", the first {study.seed_bounds[0]} and more where needed" if study.seed_bounds else ""


def _describe_pruning(plan: Plan, pruning: Pruning) -> str:
    """A line on pruning: by which rule and at which steps treatments are stopped."""
    return (
        f"pruned by {pruning.rule} on {pruning.column} with seed {plan.study.seeds[0]} at {pruning.where}; "
        f"{len(plan.known.pruned)} treatments stopped so far"
    )


def _describe_tuning(plan: Plan, tuning: Tuning) -> str:
    """A line on tuning: what is tuned for each treatment, and with which budget."""
    spaces = ", ".join(f"{factor.path} ({_space(factor)})" for factor in tuning.factors)
    return (
        f"tuned for each treatment: {spaces} by {tuning.sampler} for {plan.study.primary}, "
        f"{tuning.trials} settings × seeds {list(tuning.seeds)} each; {len(plan.known.tuned)} treatments tuned so far"
    )


def _aim(goal: Metric) -> str:
    return {"up": "high", "down": "low"}.get(goal.direction, f"near {goal.target:g}")


def _print_treatments(plan: Plan, out: Console) -> None:
    """Print a row for each treatment; if there are many, only the first and the last."""
    between = max(0, len(plan.treatments) - sum(SHOWN))
    first = plan.treatments[: SHOWN[0]]
    last = plan.treatments[SHOWN[0] + between :]
    # If every treatment is compared with the baseline, a column that says so is not needed.
    several = any(treatment.reference not in {None, "baseline"} for treatment in [*first, *last])
    rows = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    for heading in ("treatment", *(["against"] if several else []), *(factor.path for factor in plan.study.factors)):
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
