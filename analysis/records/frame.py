"""Records as a tidy data frame: one row a trial, one column a metric."""

import json
import math
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ablate.analysis.records.compact import METRIC, RAW, read_records
from ablate.plan.labels import show
from ablate.plan.plan import Plan
from ablate.plan.trials import Trial
from ablate.slots import registry
from ablate.store.folders import Store

if TYPE_CHECKING:
    import pandas as pd

SHARE = "share/"
"""Prefix of the columns that hold the gradient share of a loss term."""


NOTED = ["status", "reason", "steps", "wall_s", "probes", "code", "parts"]


def tidy(trials: Sequence[Trial], store: Store, *, raw: bool = False, copy: Path | None = None) -> "pd.DataFrame":
    """One row per trial, in the order given.

    Columns: `treatment` (its label), one per factor, `seed`, `status`, `reason`, `signature`, `steps`, `wall_s`,
    `code` (level -> fingerprint of the source that made the record), `parts` (micro-batches), one per metric of the
    study's probes (NaN where missing, inf kept), `share/<term>` per loss term. A record made with other settings of a
    probe does not answer that probe: its metrics are missing and the trial is pending. A pruned trial has no results.
    `raw`: of the weights as the optimiser left them, not of their average. `copy`: where `compact` keeps all records in
    one file, if anywhere.
    """
    import pandas as pd

    marks = [trial.signature for trial in trials]
    found = read_records(marks, store, copy)
    shares = sorted(name for name in found.columns if name.startswith(SHARE))
    probes = {probe.level: registry.level("probe", probe.level).metrics for trial in trials for probe in trial.probes}
    source = {
        metric.name: f"{RAW if raw else METRIC}{metric.name}" for reported in probes.values() for metric in reported
    }
    rows = found.reindex(index=marks, columns=[*NOTED, *source.values(), *shares])
    ends = _ends(trials, store, rows)
    ended = np.array([end.counts for end in ends], bool)
    answered = {level: ended & [level in end.answered for end in ends] for level in probes}
    factors = dict.fromkeys(path for trial in trials for path in trial.treatment.levels)
    return pd.DataFrame(
        {
            "treatment": [trial.treatment.label for trial in trials],
            **{path: [_scalar(trial.treatment.levels[path]) for trial in trials] for path in factors},
            "seed": [trial.seed for trial in trials],
            "status": [end.status for end in ends],
            "reason": [end.reason for end in ends],
            "signature": marks,
            "steps": np.where(ended, rows["steps"].to_numpy(float), 0).astype(int),
            "wall_s": np.where(ended, rows["wall_s"].to_numpy(float), 0.0),
            "code": [end.code for end in ends],
            "parts": np.where(ended, rows["parts"].to_numpy(float), 1).astype(int),
            **{
                metric.name: np.where(answered[level], rows[source[metric.name]].to_numpy(float), math.nan)
                for level, reported in probes.items()
                for metric in reported
            },
            **{name: np.where(ended, rows[name].to_numpy(float), math.nan) for name in shares},
        }
    )


def frame_of(plan: Plan, *, raw: bool = False) -> "pd.DataFrame":
    """The tidy frame of the trials of a plan, as `tidy`."""
    copy = plan.store.study(plan.study.name, plan.study.scale).records
    return tidy(plan.trials, plan.store, raw=raw, copy=copy)


class _End(NamedTuple):
    """How a trial has come out. `counts`: it has a record that is used; `answered`: the probes that this answers."""

    status: str
    reason: str
    counts: bool = False
    answered: frozenset[str] = frozenset()
    code: Mapping[str, str] = {}


def _ends(trials: Sequence[Trial], store: Store, rows: "pd.DataFrame") -> list[_End]:
    """One for each trial; `rows` are their records, empty where there is none."""
    wanted = {id(trial.probes): trial.probe_keys for trial in {id(trial.probes): trial for trial in trials}.values()}
    loads = cache(json.loads)

    @cache
    def answers(probes: str, asked: int) -> frozenset[str]:
        return frozenset(level for level, key in wanted[asked].items() if loads(probes).get(level) == key)

    noted = (rows[name].tolist() for name in ("status", "reason", "probes", "code"))
    found = []
    for trial, status, reason, probes, code in zip(trials, *noted, strict=True):
        if trial.pruned:
            found.append(_End("pruned", trial.pruned))
        elif not isinstance(status, str):
            folder = store.stage(trial.signature)
            found.append(_End(str(folder.status()), folder.failure()))
        else:
            answered = answers(probes, id(trial.probes))
            if status != "diverged" and (lacks := wanted[id(trial.probes)].keys() - answered):
                status, reason = "pending", f"not probed yet: {', '.join(sorted(lacks))}"
            found.append(_End(status, reason, True, answered, loads(code)))
    return found


def _scalar(level: Any) -> Any:
    return level if isinstance(level, str | int | float) else show(level)
