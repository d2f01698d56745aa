"""Curves that trials leave as numbers: of probes, and over the steps of training."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ablate.analysis.results import StudyResults
from ablate.errors import nearest
from ablate.plan.trials import Trial, logged
from ablate.store.files import read_json

Numbers = NDArray[np.float64]


class MissingCurve(ValueError):
    """No trial has left the curve that a figure is of; the message says what would leave it."""


@dataclass(frozen=True)
class Curve:
    """Mean and sd (ddof 1; 0 for one seed) over the `n` seeds of a treatment at places `x`; NaN where none has any."""

    x: Numbers
    mean: Numbers
    sd: Numbers
    n: int


def of_probe(results: StudyResults, name: str, probe: str, x: str | None = None) -> dict[str, Curve]:
    """Treatment -> the curve `name` that `probe` leaves among its values per image, over the curve `x` or 0, 1, 2, …

    Raises MissingCurve if no trial has it.
    """
    found = {}
    for label in results.treatments:
        left = [_left(results, trial) for trial in results.of(label)]
        curves = [(values.get(x) if x else range(len(values[name])), values[name]) for values in left if name in values]
        if curves:
            found[label] = _average(curves)
    if not found:
        why = _absent(results, probe, "leaves it")
        raise MissingCurve(f"study '{results.study.name}' has no curve '{name}': {why}")
    return found


def of_metrics(results: StudyResults, places: Mapping[float, str], probe: str) -> dict[str, Curve]:
    """Treatment -> the metrics of `probe` at their places, as a curve. Raises MissingCurve if no trial has them."""
    names, frame = list(places.values()), results.frame
    found = {}
    if set(names) <= set(frame.columns):
        for label in results.treatments:
            rows = frame[names][(frame["treatment"] == label) & (frame["status"] == "done")].dropna().to_numpy(float)
            if len(rows):
                found[label] = _average([(list(places), row) for row in rows.tolist()])
    if not found:
        why = _absent(results, probe, "reports them")
        raise MissingCurve(f"study '{results.study.name}' has no values of '{names[0]}': {why}")
    return found


def of_steps(results: StudyResults, name: str, hint: str = "") -> dict[str, Curve]:
    """Treatment -> what training has logged as `name`, over steps counted from the first stage on.

    Of trials that diverged only where no seed of a treatment has done better. Raises MissingCurve if none has it.
    """
    found, names = {}, set()
    for label in results.treatments:
        curves = []
        for trial in results.of(label):
            lines = logged(trial, results.store)
            names |= {key for line in lines for key in line if key != "step"}
            points = [(line["step"], line[name]) for line in lines if name in line]
            if points:
                steps, values = zip(*points, strict=True)
                curves.append((results.store.stage(trial.signature).status(), steps, values))
        sound = [(steps, values) for status, steps, values in curves if status == "done"]
        if kept := sound or [(steps, values) for _, steps, values in curves]:
            found[label] = _average(kept)
    if not found:
        where = nearest(name, names) if names else "; no trial has logged a step yet"
        raise MissingCurve(f"no trial of study '{results.study.name}' has logged '{name}'{hint}{where}")
    return found


def _absent(results: StudyResults, probe: str, does: str) -> str:
    """Why a curve is missing that a probe would leave."""
    if probe not in {part.level for part in results.study.probes}:
        return f"probe '{probe}' {does}; add it to `probes` and sweep again, which trains nothing anew"
    return "none has finished yet, or the pictures are too few or too small"


def _left(results: StudyResults, trial: Trial) -> dict[str, Any]:
    found: dict[str, Any] = read_json(results.store.stage(trial.signature).per_image) or {}
    return found


def _average(curves: Sequence[tuple[Any, Sequence[float]]]) -> Curve:
    """Over seeds, at all places that any of them has."""
    places = np.unique(np.concatenate([np.asarray(x, float) for x, _ in curves]))
    values = np.full((len(curves), len(places)), np.nan)
    for row, (x, y) in zip(values, curves, strict=True):
        row[np.searchsorted(places, np.asarray(x, float))] = y
    values[~np.isfinite(values)] = np.nan
    there = np.isfinite(values)
    count = there.sum(0)
    mean = np.where(there, values, 0).sum(0) / np.where(count, count, np.nan)
    squares = np.where(there, (values - mean) ** 2, 0).sum(0)
    return Curve(places, mean, np.sqrt(squares / np.maximum(count - 1, 1)), len(curves))
