"""What the report says beside the results: plan and cost, what failed, how to run it again."""

import shlex
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ablate.analysis.results import StudyResults
from ablate.plan.labels import show
from ablate.plan.tree import planned_steps
from ablate.plan.trials import Trial
from ablate.store.files import read_json
from ablate.store.record import Record

HOUR = 3600.0


UNSUCCESSFUL = ("failed", "diverged")


@dataclass(frozen=True)
class Failure:
    """A trial that did not end well; `line`: the last line of its trace."""

    name: str
    status: str
    reason: str
    line: str
    signature: str


def records(results: StudyResults) -> list[Record]:
    """What has finished, each record once."""
    marks = dict.fromkeys(trial.signature for trial in results.trials)
    return [record for mark in marks if (record := results.store.stage(mark).record())]


def plan(results: StudyResults) -> dict[str, str]:
    """What was planned."""
    study, trials = results.study, results.trials
    planned, distinct = planned_steps(trials)
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
    """Factor -> its levels, the baseline's first; of a range its ends."""
    found = {}
    for factor in results.study.factors:
        if factor.range:
            ends = f"{show(factor.range.low)} to {show(factor.range.high)}{' (log)' if factor.range.log else ''}"
            found[factor.path] = [*map(show, factor.levels[:1]), ends]
        else:
            found[factor.path] = [show(level) for level in factor.levels]
    return found


def _stage(name: str, settings: Mapping[str, Any]) -> str:
    return f"{name}: {settings['steps']} steps, batch {settings['batch']}, learning rate {show(settings['lr'])}"


def cost(results: StudyResults, found: Iterable[Record]) -> dict[str, str]:
    """What it took. A stage that trials share counts for each of them."""
    found = list(found)
    if not found:
        return {}
    walls = sorted(record.wall_s for record in found)
    sizes = sorted({record.parameters for record in found})
    low, high = f"{sizes[0] / 1e6:.2f}", f"{sizes[-1] / 1e6:.2f}"
    return {
        "training": _time(sum(record.train_s for record in found)),
        "probing": _time(sum(record.probe_s for record in found)),
        "a trial": f"{_time(walls[len(walls) // 2])} (median), {_time(walls[-1])} at most",
        "steps made": str(sum(record.steps for record in found)),
        "parameters": f"{low} M" if low == high else f"{low} to {high} M",
    }


def _time(seconds: float) -> str:
    """`42 s`, `7 min`, `3.5 h`"""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 1.5 * HOUR else f"{seconds / HOUR:.1f} h"


def failures(results: StudyResults) -> list[Failure]:
    """Trials that failed or diverged, in order."""
    rows = zip(results.trials, results.frame["status"], results.frame["reason"], strict=True)
    return [_failure(results, trial, status, reason) for trial, status, reason in rows if status in UNSUCCESSFUL]


def to_come(results: StudyResults) -> int:
    """Trials that have not ended."""
    return int((~results.frame["status"].isin(["done", *UNSUCCESSFUL])).sum())


def _failure(results: StudyResults, trial: Trial, status: str, reason: str) -> Failure:
    error = read_json(results.store.stage(trial.signature).error) or {}
    lines = [line.strip() for line in str(error.get("trace", "")).splitlines() if line.strip()]
    place = next((line for line in reversed(lines) if line.startswith("File ")), "")
    return Failure(trial.name, status, reason, place, trial.signature)


def command(results: StudyResults) -> str:
    """What runs the study again, or goes on with it."""
    study = results.study
    card = read_json(results.store.study(study.name, study.scale).card) or {}
    words = ["ablate", "sweep", card.get("file", study.document.file)]
    words += [] if study.scale == "base" else ["--scale", study.scale]
    words += [word for text in study.overrides for word in ("--set", text)]
    return shlex.join(words)


def made_by(found: Iterable[Record]) -> dict[str, list[str]]:
    """Code, machines and data of the records, each with the number of trials where there are several."""
    found = list(found)
    versions = [_code(record.code) for record in found]
    machines = [_machine(record.machine) for record in found]
    data = [record.data for record in found if record.data]
    named = {"code": versions, "machine": machines, "data": data}
    return {name: _tally(values) for name, values in named.items() if values}


def _tally(values: list[str]) -> list[str]:
    counts = Counter(values)
    return [value if len(counts) == 1 else f"{value} ({count} trials)" for value, count in counts.most_common()]


def _code(code: Mapping[str, Any]) -> str:
    commit = f", commit {str(code['commit'])[:12]}" if code.get("commit") else ""
    return f"ablate {code.get('version', 'unknown')}{commit}{' with uncommitted changes' if code.get('dirty') else ''}"


def _machine(machine: Mapping[str, Any]) -> str:
    named = [str(machine["device"])] if "device" in machine else []
    named += [f"{machine['threads']} thread{'s' * (machine['threads'] != 1)}"] if "threads" in machine else []
    named += [f"{name} {machine[name]}" for name in ("python", "torch") if name in machine]
    return ", ".join(named) or "unknown"
