"""Records as a tidy data frame: one row per trial, one column per metric."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ablate.analysis.records.compact import METRIC, RAW, read_records
from ablate.plan.labels import format_level
from ablate.plan.plan import Plan
from ablate.plan.trials import Trial
from ablate.slots import registry
from ablate.store.folders import Store

if TYPE_CHECKING:
    import pandas as pd

SHARE = "share/"
"""Prefix of the columns that hold the gradient share of a loss term."""

RECORD_COLUMNS = ["status", "reason", "cause", "steps", "wall_s", "probes", "code", "content", "parts"]
"""Columns of `compact.read_records` that every record has."""


def tidy(trials: Sequence[Trial], store: Store, *, raw: bool = False, copy: Path | None = None) -> "pd.DataFrame":
    """One row per trial, in the order given.

    Columns: `treatment` (its label), one per factor, `seed`, `status`, `reason`, `cause` (`Record.cause`), `signature`,
    `steps`, `wall_s`, `code` (level -> fingerprint of the source that made the record), `content` (what it has read ->
    hash), `parts` (micro-batches), one per metric of the study's probes (NaN where missing, inf kept), `share/<term>`
    per loss term. If a record was made with other settings of a probe than the trial asks for, the metrics of that
    probe are missing and the trial is pending. A pruned trial has no results. `raw`: metrics of the weights as the
    optimiser left them, not of their average. `copy`: the file in which `compact` keeps all records, if any.
    """
    import pandas as pd

    # The records, one row per trial, empty where there is none.
    signatures = [trial.signature for trial in trials]
    records = read_records(signatures, store, copy)
    shares = sorted(name for name in records.columns if name.startswith(SHARE))
    probes = {probe.level: registry.level("probe", probe.level).metrics for trial in trials for probe in trial.probes}
    source = {
        metric.name: f"{RAW if raw else METRIC}{metric.name}" for reported in probes.values() for metric in reported
    }
    rows = records.reindex(index=signatures, columns=[*RECORD_COLUMNS, *source.values(), *shares])

    # Which trials have a record that is used, and which probes' metrics are used.
    ends = _ends(trials, store, rows)
    ended = np.array([end.has_record for end in ends], bool)
    is_probed = {level: ended & [level in end.probed for end in ends] for level in probes}

    factors = dict.fromkeys(path for trial in trials for path in trial.treatment.levels)
    return pd.DataFrame(
        {
            "treatment": [trial.treatment.label for trial in trials],
            **{path: [_scalar(trial.treatment.levels[path]) for trial in trials] for path in factors},
            "seed": [trial.seed for trial in trials],
            "status": [end.status for end in ends],
            "reason": [end.reason for end in ends],
            "cause": [cause if end.has_record else "" for end, cause in zip(ends, rows["cause"], strict=True)],
            "signature": signatures,
            "steps": np.where(ended, rows["steps"].to_numpy(float), 0).astype(int),
            "wall_s": np.where(ended, rows["wall_s"].to_numpy(float), 0.0),
            "code": [end.code for end in ends],
            "content": [end.content for end in ends],
            "parts": np.where(ended, rows["parts"].to_numpy(float), 1).astype(int),
            **{
                metric.name: np.where(is_probed[level], rows[source[metric.name]].to_numpy(float), math.nan)
                for level, reported in probes.items()
                for metric in reported
            },
            **{name: np.where(ended, rows[name].to_numpy(float), math.nan) for name in shares},
        }
    )


def frame_of(plan: Plan, *, raw: bool = False) -> "pd.DataFrame":
    """The tidy frame of the trials of a plan, as `tidy`."""
    copy = plan.store.study(plan.study.name, plan.study.variant).records
    return tidy(plan.trials, plan.store, raw=raw, copy=copy)


def trials_csv(frame: "pd.DataFrame", metrics: Sequence[str] | None = None, known: Iterable[str] = ()) -> str:
    """A tidy frame as CSV at full precision: a row per trial; what is missing is empty.

    `metrics`: those to write, of the study's `known` ones; by default all.
    """
    left_out = set() if metrics is None else set(known) - set(metrics)
    columns = [name for name in frame.columns if name not in {"code", *left_out}]
    text: str = frame[columns].to_csv(index=False, lineterminator="\n")
    return text


class _End(NamedTuple):
    """How a trial ended.

    `has_record`: whether it has a record that is used. `probed`: the probes of the trial that the record has metrics
    of. `code`: level -> fingerprint of its source. `content`: what the trial has read -> content hash.
    """

    status: str
    reason: str
    has_record: bool = False
    probed: frozenset[str] = frozenset()
    code: Mapping[str, str] = {}
    content: Mapping[str, str] = {}


def _ends(trials: Sequence[Trial], store: Store, rows: "pd.DataFrame") -> list[_End]:
    """How each trial ended; `rows` are the records of the trials, empty where there is none."""
    # Trials share few lists of probes, records few JSON texts: each pair is compared once.
    wanted = {id(trial.probes): trial.probe_keys for trial in {id(trial.probes): trial for trial in trials}.values()}
    loads = cache(json.loads)

    @cache
    def probed_as_wanted(recorded: str, probes: int) -> frozenset[str]:
        return frozenset(level for level, key in wanted[probes].items() if loads(recorded).get(level) == key)

    columns = (rows[name].tolist() for name in ("status", "reason", "probes", "code", "content"))
    ends = []
    for trial, status, reason, recorded, code, content in zip(trials, *columns, strict=True):
        if trial.pruned:
            ends.append(_End("pruned", trial.pruned))
        elif not isinstance(status, str):  # no record yet
            folder = store.stage(trial.signature)
            ends.append(_End(str(folder.status()), folder.failure()))
        else:
            probed = probed_as_wanted(recorded, id(trial.probes))
            if status != "diverged" and (missing := wanted[id(trial.probes)].keys() - probed):
                status = "pending"
                reason = f"not probed yet: {', '.join(sorted(missing))}"
            ends.append(_End(status, reason, True, probed, loads(code), loads(content)))
    return ends


def _scalar(level: Any) -> Any:
    """A level as a value of a data frame: text and numbers as they are, anything else as text."""
    return level if isinstance(level, str | int | float) else format_level(level)
