"""Warnings about trials whose results look wrong."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ablate.analysis.records.frame import SHARE
from ablate.analysis.statistics.paired import Change

if TYPE_CHECKING:
    import pandas as pd

DEAD_SHARE = 1e-4
"""A loss term whose share of the gradient is below this has hardly influenced training."""


def find_warnings(
    frame: "pd.DataFrame", metrics: Sequence[str], changes: Mapping[str, Mapping[str, Change]]
) -> tuple[str, ...]:
    """Warnings about the trials of a tidy frame. `changes`: treatment -> metric -> change from the reference."""
    return (
        *_identical(frame[frame["status"] != "diverged"], list(metrics)),
        *_no_spread(changes),
        *_dead_terms(frame),
        *_split_batches(frame),
        *_causes(frame),
    )


def _identical(frame: "pd.DataFrame", metrics: list[str]) -> list[str]:
    """Treatments that equal another one in every metric of every shared seed."""
    tables = _by_treatment(frame, metrics)
    groups: dict[str, list[str]] = {}
    """First treatment of a group -> all treatments that equal it."""
    firsts: dict[tuple[int, bytes], list[str]] = {}
    """Seed and values -> the first treatments of groups that have them: only these can be equal to another."""
    for label, table in tables.items():
        keys = [(seed, values.tobytes()) for seed, values in table.items() if not np.isnan(values).all()]
        candidates = dict.fromkeys(first for key in keys for first in firsts.get(key, ()))
        twin = next((first for first in candidates if _equal(tables[first], table)), label)
        groups.setdefault(twin, []).append(label)
        if twin == label:
            for key in keys:
                firsts.setdefault(key, []).append(label)
    return [
        f"numerically identical in every metric of every shared seed: {', '.join(labels)}; "
        "what distinguishes them did not influence training"
        for labels in groups.values()
        if len(labels) > 1
    ]


def _by_treatment(frame: "pd.DataFrame", metrics: list[str]) -> dict[str, dict[int, NDArray[np.float64]]]:
    """Treatment -> seed -> its metrics. All NaNs have the same bits, and so do +0 and -0."""
    rows = frame[metrics].to_numpy(float) + 0.0
    rows[np.isnan(rows)] = math.nan
    tables: dict[str, dict[int, NDArray[np.float64]]] = {}
    for label, seed, row in zip(frame["treatment"].tolist(), frame["seed"].tolist(), rows, strict=True):
        tables.setdefault(label, {})[seed] = row
    return tables


def _equal(a: Mapping[int, NDArray[np.float64]], b: Mapping[int, NDArray[np.float64]]) -> bool:
    """Whether two treatments have the same metrics at every shared seed."""
    return all(np.array_equal(a[seed], b[seed], equal_nan=True) for seed in a.keys() & b.keys())


def _no_spread(changes: Mapping[str, Mapping[str, Change]]) -> list[str]:
    """Changes that are not zero and yet the same in every seed."""
    labels_of: dict[str, list[str]] = {}
    for label, row in changes.items():
        for name, change in row.items():
            if change.sd == 0 and change.mean != 0:
                labels_of.setdefault(name, []).append(label)
    if not labels_of:
        return []
    where = "; ".join(f"{name} of {', '.join(labels)}" for name, labels in labels_of.items())
    return [f"the paired difference is the same in every seed, so its interval has zero width: {where}"]


def _dead_terms(frame: "pd.DataFrame") -> list[str]:
    """Loss terms with next to no share of the gradient, each with the treatments in which that is so."""
    warnings = []
    for column in [name for name in frame.columns if name.startswith(SHARE)]:
        highest = frame.groupby("treatment", sort=False)[column].max()
        dead = highest[highest < DEAD_SHARE]
        if len(dead):
            warnings.append(
                f"loss term '{column.removeprefix(SHARE)}' had at most {dead.max():.1g} of the gradient in: "
                f"{', '.join(map(str, dead.index))}; it hardly influenced training"
            )
    return warnings


def _split_batches(frame: "pd.DataFrame") -> list[str]:
    """Treatments whose batches did not fit into memory."""
    if "parts" not in frame:
        return []
    parts_of = frame.groupby("treatment", sort=False)["parts"].max()
    split = ", ".join(f"{treatment} into {parts}" for treatment, parts in parts_of.items() if parts > 1)
    if not split:
        return []
    return [f"out of memory, so batches were split into micro-batches, which changes nothing but rounding: {split}"]


def _causes(frame: "pd.DataFrame") -> list[str]:
    """Why trials diverged, as far as it is known, and which ended without learning."""
    if "cause" not in frame:
        return []
    warnings = []
    for status, what in (("diverged", "diverged"), ("done", "finished, but with")):
        found: dict[str, dict[str, list[int]]] = {}
        rows = frame[(frame["status"] == status) & frame["cause"].astype(bool)]
        for cause, treatment, seed in zip(rows["cause"], rows["treatment"], rows["seed"], strict=True):
            found.setdefault(cause, {}).setdefault(str(treatment), []).append(seed)
        for cause, treatments in found.items():
            trials = ", ".join(f"{name} s{','.join(map(str, seeds))}" for name, seeds in treatments.items())
            warnings.append(f"{what}{': ' if status == 'diverged' else ' '}{cause} in {trials}")
    return warnings
