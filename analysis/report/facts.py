"""The report's facts about a study besides its results: plan, cost, failures, and how to run it again."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ablate.analysis.statistics.verdicts import TROUBLES
from ablate.analysis.study_results import StudyResults
from ablate.plan.commands import sweep_command
from ablate.plan.labels import format_level
from ablate.plan.tree import stage_tree
from ablate.plan.trials import Trial
from ablate.store.record import Record

HOUR = 3600.0


@dataclass(frozen=True)
class Failure:
    """A trial that failed or diverged. `line`: the last `File …` line of its traceback."""

    name: str
    status: str
    reason: str
    line: str
    signature: str


def records(results: StudyResults) -> list[Record]:
    """The records of all finished trials, each once."""
    signatures = dict.fromkeys(trial.signature for trial in results.trials)
    return [record for name in signatures if (record := results.store.stage(name).record())]


def plan(results: StudyResults) -> dict[str, str]:
    """What was planned, by name."""
    study = results.study
    trials = results.trials
    planned = sum(trial.steps for trial in trials)
    distinct = sum(node.steps for node in stage_tree(trials))
    stages = [_stage(stage.name, stage.settings.plain()) for stage in study.baseline.stages]
    shared = f", of which {planned - distinct} ({1 - distinct / planned:.0%}) are shared" if planned > distinct else ""
    return {
        "design": " + ".join(study.designs).replace("_", " "),
        "treatments": str(len(results.table.arms)),
        "seeds": ", ".join(map(str, study.seeds)),
        "trials": str(len(trials)),
        "training": "; then ".join(stages),
        "steps": f"{planned} planned{shared}",
        "probes": ", ".join(probe.level for probe in study.probes),
        "scale": study.scale,
    }


def factors(results: StudyResults) -> dict[str, list[str]]:
    """Factor -> its levels, the baseline's first; for a range, the baseline's level and the ends of the range."""
    levels = {}
    for factor in results.study.factors:
        if factor.range:
            scale = " (log)" if factor.range.log else ""
            ends = f"{format_level(factor.range.low)} to {format_level(factor.range.high)}{scale}"
            levels[factor.path] = [*map(format_level, factor.levels[:1]), ends]
        else:
            levels[factor.path] = [results.names.level(factor.path, level) for level in factor.levels]
    return levels


def _stage(name: str, settings: Mapping[str, Any]) -> str:
    """A stage with its main settings."""
    if "command" in settings:
        return f"{name}: {settings['steps']} steps of {' '.join(settings['command'])}"
    return f"{name}: {settings['steps']} steps, batch {settings['batch']}, learning rate {format_level(settings['lr'])}"


def cost(results: StudyResults, finished: Iterable[Record]) -> dict[str, str]:
    """Time, steps and size of the models, by name. A stage that trials share counts for each of them."""
    finished = list(finished)
    if not finished:
        return {}
    walls = sorted(record.wall_s for record in finished)
    sizes = sorted({record.parameters for record in finished})
    low = f"{sizes[0] / 1e6:.2f}"
    high = f"{sizes[-1] / 1e6:.2f}"
    return {
        "training": _time(sum(record.train_s for record in finished)),
        "probing": _time(sum(record.probe_s for record in finished)),
        "a trial": f"{_time(walls[len(walls) // 2])} (median), {_time(walls[-1])} at most",
        "steps made": str(sum(record.steps for record in finished)),
        "parameters": f"{low} M" if low == high else f"{low} to {high} M",
    }


def _time(seconds: float) -> str:
    """A duration: `42 s`, `7 min`, `3.5 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 1.5 * HOUR else f"{seconds / HOUR:.1f} h"


def failures(results: StudyResults) -> list[Failure]:
    """Trials that failed or diverged, in order."""
    rows = zip(results.trials, results.frame["status"], results.frame["reason"], strict=True)
    return [_failure(results, trial, status, reason) for trial, status, reason in rows if status in TROUBLES]


def to_come(results: StudyResults) -> int:
    """Trials that have not ended."""
    return int((~results.frame["status"].isin(["done", *TROUBLES])).sum())


def _failure(results: StudyResults, trial: Trial, status: str, reason: str) -> Failure:
    """A failure with the line of code at which it happened, if there is a traceback."""
    error = results.store.stage(trial.signature).read_error()
    lines = [line.strip() for line in str(error.get("trace", "")).splitlines() if line.strip()]
    last = next((line for line in reversed(lines) if line.startswith("File ")), "")
    return Failure(trial.name, status, reason, last, trial.signature)


def command(results: StudyResults) -> str:
    """The command that runs the study again, or resumes it."""
    return sweep_command(results.study, results.store)


def made_by(finished: Iterable[Record]) -> dict[str, list[str]]:
    """Code, machines and data of the records; where there are several, each with its number of trials."""
    finished = list(finished)
    versions = [_code(record.code) for record in finished]
    machines = [_machine(record.machine) for record in finished]
    data = [record.data for record in finished if record.data]
    by_name = {"code": versions, "machine": machines, "data": data}
    return {name: _tally(values) for name, values in by_name.items() if values}


def _tally(values: list[str]) -> list[str]:
    """The distinct values, the most common first, each with its number of trials if there are several."""
    counts = Counter(values)
    return [value if len(counts) == 1 else f"{value} ({count} trials)" for value, count in counts.most_common()]


def _code(code: Mapping[str, Any]) -> str:
    commit = f", commit {str(code['commit'])[:12]}" if code.get("commit") else ""
    return f"ablate {code.get('version', 'unknown')}{commit}{' with uncommitted changes' if code.get('dirty') else ''}"


def _machine(machine: Mapping[str, Any]) -> str:
    parts = [str(machine["device"])] if "device" in machine else []
    parts += [f"{machine['threads']} thread{'s' * (machine['threads'] != 1)}"] if "threads" in machine else []
    parts += [f"{name} {machine[name]}" for name in ("python", "torch") if name in machine]
    return ", ".join(parts) or "unknown"
