"""Curves from the results of trials: of probes, and over the steps of training."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ablate.analysis.study_results import StudyResults
from ablate.errors import nearest
from ablate.plan.trials import Trial, read_step_log
from ablate.store.files import read_json

Numbers = NDArray[np.float64]


class MissingCurve(ValueError):
    """No trial has the curve that a figure needs; the message says what would record it."""


@dataclass(frozen=True)
class Curve:
    """Mean and sd (ddof 1; 0 for one seed) over the `n` seeds of a treatment at each `x`; NaN where no seed has any."""

    x: Numbers
    mean: Numbers
    sd: Numbers
    n: int


def of_probe(results: StudyResults, name: str, probe: str, x: str | None = None) -> dict[str, Curve]:
    """Treatment -> the curve `name` among the per-image values of `probe`, over the curve `x` or over 0, 1, 2, …

    Raises MissingCurve if no trial has it.
    """
    averaged = {}
    for label in results.treatments:
        per_image = [_per_image(results, trial) for trial in results.of(label)]
        curves = [
            (values.get(x) if x else range(len(values[name])), values[name]) for values in per_image if name in values
        ]
        if curves:
            averaged[label] = _average(curves)
    if not averaged:
        reason = _why_missing(results, probe, "records it")
        raise MissingCurve(f"study '{results.study.name}' has no curve '{name}': {reason}")
    return averaged


def of_metrics(results: StudyResults, metrics: Mapping[float, str], probe: str) -> dict[str, Curve]:
    """Treatment -> several metrics of `probe` as one curve. `metrics`: x -> name of a metric.

    Raises MissingCurve if no trial has them.
    """
    names = list(metrics.values())
    frame = results.frame
    averaged = {}
    if set(names) <= set(frame.columns):
        for label in results.treatments:
            rows = frame[names][(frame["treatment"] == label) & (frame["status"] == "done")].dropna().to_numpy(float)
            if len(rows):
                averaged[label] = _average([(list(metrics), row) for row in rows.tolist()])
    if not averaged:
        reason = _why_missing(results, probe, "reports them")
        raise MissingCurve(f"study '{results.study.name}' has no values of '{names[0]}': {reason}")
    return averaged


def of_steps(results: StudyResults, name: str, hint: str = "") -> dict[str, Curve]:
    """Treatment -> the number that training logged as `name`, over steps counted from the first stage on.

    Unfinished and diverged trials are used only if no trial of the treatment is done. Raises MissingCurve, with `hint`
    in its message, if no trial has it.
    """
    averaged = {}
    names: set[str] = set()
    for label in results.treatments:
        # The curve of each trial, with the trial's status.
        curves = []
        for trial in results.of(label):
            lines = read_step_log(trial, results.store)
            names |= {key for line in lines for key in line if key != "step"}
            points = [(line["step"], line[name]) for line in lines if name in line]
            if points:
                steps, values = zip(*points, strict=True)
                curves.append((results.store.stage(trial.signature).status(), steps, values))

        done = [(steps, values) for status, steps, values in curves if status == "done"]
        if kept := done or [(steps, values) for _, steps, values in curves]:
            averaged[label] = _average(kept)
    if not averaged:
        logged_names = nearest(name, names) if names else "; no trial has logged a step yet"
        raise MissingCurve(f"no trial of study '{results.study.name}' has logged '{name}'{hint}{logged_names}")
    return averaged


def _why_missing(results: StudyResults, probe: str, does: str) -> str:
    """Why a curve of a probe is missing. `does`: what the probe does with it."""
    if probe not in {part.level for part in results.study.probes}:
        return f"probe '{probe}' {does}; add it to `probes` and sweep again, which trains nothing again"
    return "no trial has finished yet, or the pictures are too few or too small"


def _per_image(results: StudyResults, trial: Trial) -> dict[str, Any]:
    """The per-image values of a trial's probes; empty if there are none."""
    values: dict[str, Any] = read_json(results.store.stage(trial.signature).per_image) or {}
    return values


def _average(curves: Sequence[tuple[Any, Sequence[float]]]) -> Curve:
    """The mean of several seeds' curves, at every x that any of them has. Values that are not finite are left out."""
    # The curves as rows, on a common x.
    common = np.unique(np.concatenate([np.asarray(x, float) for x, _ in curves]))
    values = np.full((len(curves), len(common)), np.nan)
    for row, (x, y) in zip(values, curves, strict=True):
        row[np.searchsorted(common, np.asarray(x, float))] = y
    values[~np.isfinite(values)] = np.nan

    present = np.isfinite(values)
    count = present.sum(0)
    mean = np.where(present, values, 0).sum(0) / np.where(count, count, np.nan)
    squares = np.where(present, (values - mean) ** 2, 0).sum(0)
    return Curve(common, mean, np.sqrt(squares / np.maximum(count - 1, 1)), len(curves))
