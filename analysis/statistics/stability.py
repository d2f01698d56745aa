"""How stable the ranking of treatments is under other seeds, and whether shorter training would give the same one.

Kendall's tau (tau-b; M. G. Kendall, "The treatment of ties in ranking problems", 1945) compares two rankings: it is 1
if both put every pair of treatments in the same order, and 0 if they agree on as many pairs as they disagree on.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ablate.analysis.statistics.ranks import losses
from ablate.plan.trials import Trial, read_step_log
from ablate.slots.settings import Metric
from ablate.store.folders import Store

Numbers = NDArray[np.float64]

EXACT_SEEDS = 5
"""Up to this many seeds, all resamples with replacement are enumerated."""

DRAWS = 4000
"""Random resamples with more than `EXACT_SEEDS` seeds."""

MAX_RANKED = 100
"""Most treatments whose rankings are compared: with more, the pairs take long and nobody reads a ranking."""

PAIRS_AT_ONCE = 256
"""Pairs of treatments that are compared at once in all resamples, to bound memory."""

NAMED_STEPS = 3
"""Steps of training that the note on stability names."""


@dataclass(frozen=True)
class Stability:
    """How stable a ranking is when the seeds are resampled with replacement, `draws` times.

    `stays`: share of the resamples in which no treatment beats `best`, the treatment with the best mean over all seeds.
    `tau`: mean of Kendall's tau between the ranking of a resample and that over all seeds. `during`: training step ->
    tau between the ranking by the quick probes at that step and the final one; empty if there were no quick probes.
    """

    best: str
    stays: float
    tau: float
    draws: int
    during: Mapping[int, float]


def stability(
    metric: Metric, arms: Mapping[str, Mapping[int, float]], trials: Sequence[Trial], store: Store
) -> Stability | None:
    """The stability of the ranking of all treatments that have a finite value for every seed.

    None if there are fewer than three such treatments or more than `MAX_RANKED`, if there is only one seed, if all
    means are equal, or if the metric has no direction.
    """
    seeds = sorted({seed for arm in arms.values() for seed in arm})
    complete = {
        label: arm for label, arm in arms.items() if arm.keys() == set(seeds) and np.isfinite([*arm.values()]).all()
    }
    if metric.direction == "none" or not 3 <= len(complete) <= MAX_RANKED or len(seeds) < 2:
        return None
    values = np.array([losses(metric, [arm[seed] for seed in seeds]) for arm in complete.values()])
    final = values.mean(axis=1)
    if final.min() == final.max():
        return None

    # Resampled seeds.
    weights = _weights(len(seeds))
    resampled = values @ weights.T
    best = int(final.argmin())
    taus = _kendalls(final, resampled)
    stays = float((resampled[best] <= resampled.min(axis=0)).mean())

    # Earlier steps of training.
    during = {
        step: kendall(final, [means[label] for label in complete])
        for step, means in _means_during(metric, complete, trials, store).items()
    }
    return Stability(list(complete)[best], stays, float(np.nanmean(taus)), len(weights), during)


def kendall(a: ArrayLike, b: ArrayLike) -> float:
    """Kendall's tau-b; NaN if all values of one ranking are equal."""
    x = np.asarray(a, float)
    y = np.asarray(b, float)
    upper = np.triu_indices(len(x), 1)
    signs = [np.sign(v[:, None] - v)[upper] for v in (x, y)]
    size = math.sqrt(float(signs[0] @ signs[0]) * float(signs[1] @ signs[1]))
    return float(signs[0] @ signs[1]) / size if size else math.nan


def _kendalls(ranking: Numbers, others: Numbers) -> Numbers:
    """Tau-b of one ranking (`treatments`) with each of several (`treatments draws`)."""
    first, second = np.triu_indices(len(ranking), 1)
    signs = np.sign(ranking[first] - ranking[second])
    agreed = np.zeros(others.shape[1])
    untied = np.zeros(others.shape[1])
    for i in range(0, len(signs), PAIRS_AT_ONCE):
        of_others = np.sign(others[first[i : i + PAIRS_AT_ONCE]] - others[second[i : i + PAIRS_AT_ONCE]])
        agreed += signs[i : i + PAIRS_AT_ONCE] @ of_others
        untied += (of_others**2).sum(axis=0)
    with np.errstate(invalid="ignore"):
        taus: Numbers = agreed / np.sqrt(untied * (signs @ signs))
    return taus


@cache
def _weights(n: int) -> NDArray[np.float64]:
    """The weight of each of `n` seeds in each resample: how often it is drawn, divided by `n` (`draws n`)."""
    if n <= EXACT_SEEDS:
        draws = np.array(list(itertools.product(range(n), repeat=n)))
    else:
        draws = np.random.default_rng(0).integers(0, n, (DRAWS, n))
    return np.stack([(draws == seed).mean(axis=1) for seed in range(n)], axis=1)


def _means_during(
    metric: Metric, arms: Mapping[str, Mapping[int, float]], trials: Sequence[Trial], store: Store
) -> dict[int, dict[str, float]]:
    """Step -> treatment -> mean of the metric by the quick probes, turned so that lower is better (`losses`).

    Only the steps at which every trial of these treatments has a finite value.
    """
    ranked = [trial for trial in trials if trial.treatment.label in arms]
    if not any(stage.settings.probe_every for trial in ranked for stage in trial.treatment.recipe.stages):
        return {}
    values: dict[int, dict[str, list[float]]] = {}
    for trial in ranked:
        for line in read_step_log(trial, store):
            if (value := line.get(f"during/{metric.name}")) is not None:
                by_label = values.setdefault(int(line["step"]), {})
                by_label.setdefault(trial.treatment.label, []).extend(losses(metric, [value]))
    means = {
        step: {label: sum(of_label) / len(of_label) for label, of_label in by_label.items()}
        for step, by_label in sorted(values.items())
        if sum(map(len, by_label.values())) == len(ranked)
    }
    return {step: by_label for step, by_label in means.items() if all(map(math.isfinite, by_label.values()))}
