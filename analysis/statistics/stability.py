"""Whether the ranking of treatments would be another one with other seeds, or after shorter training.

Kendall's tau (tau-b; M. G. Kendall, "The treatment of ties in ranking problems", 1945) compares two rankings: 1 where
all pairs of treatments stand in the same order, 0 where as many are turned round as are not.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ablate.analysis.statistics.ranks import losses
from ablate.plan.trials import Trial, logged
from ablate.slots.settings import Metric
from ablate.store.folders import Store

EXACT_SEEDS = 5
"""Up to so many seeds all draws of as many with replacement are looked at, and else `DRAWS` of them."""


DRAWS = 4000


RANKED = 100
"""Treatments of which rankings are compared at most: beyond, the pairs take long and nobody reads a ranking."""


MOMENTS = 3
"""Steps of training that a sentence names."""


@dataclass(frozen=True)
class Stability:
    """`stays`: how often `best`, the treatment with the best mean, is not beaten if the seeds are drawn again with
    replacement; `tau`: the mean agreement of these rankings with that by all seeds. `during`: step -> agreement of the
    ranking by the quick probes at that step with the final one; empty if there were none during training.
    """

    best: str
    stays: float
    tau: float
    draws: int
    during: Mapping[int, float]


def stability(
    metric: Metric, arms: Mapping[str, Mapping[int, float]], trials: Sequence[Trial], store: Store
) -> Stability | None:
    """Of the treatments that have all seeds; None if these are fewer than three, have one seed or are all alike, or for
    a metric that has no best."""
    seeds = sorted({seed for arm in arms.values() for seed in arm})
    whole = {
        label: arm for label, arm in arms.items() if arm.keys() == set(seeds) and np.isfinite([*arm.values()]).all()
    }
    if metric.direction == "none" or not 3 <= len(whole) <= RANKED or len(seeds) < 2:
        return None
    values = np.array([losses(metric, [arm[seed] for seed in seeds]) for arm in whole.values()])
    final, weights = values.mean(axis=1), _weights(len(seeds))
    if final.min() == final.max():
        return None
    drawn = values @ weights.T
    best = int(final.argmin())
    taus = [kendall(final, ranking) for ranking in drawn.T]
    during = _during(metric, whole, trials, store)
    found = {step: kendall(final, [means[label] for label in whole]) for step, means in during.items()}
    stays = float((drawn[best] <= drawn.min(axis=0)).mean())
    return Stability(list(whole)[best], stays, float(np.nanmean(taus)), len(weights), found)


def kendall(a: ArrayLike, b: ArrayLike) -> float:
    """Kendall's tau-b; NaN if all of one ranking are equal."""
    x, y = np.asarray(a, float), np.asarray(b, float)
    upper = np.triu_indices(len(x), 1)
    signs = [np.sign(v[:, None] - v)[upper] for v in (x, y)]
    size = math.sqrt(float(signs[0] @ signs[0]) * float(signs[1] @ signs[1]))
    return float(signs[0] @ signs[1]) / size if size else math.nan


def _weights(n: int) -> NDArray[np.float64]:
    """Of `n` seeds drawn with replacement, how often each (`draws n`)."""
    if n <= EXACT_SEEDS:
        draws = np.array(list(itertools.product(range(n), repeat=n)))
    else:
        draws = np.random.default_rng(0).integers(0, n, (DRAWS, n))
    return np.stack([(draws == seed).mean(axis=1) for seed in range(n)], axis=1)


def _during(
    metric: Metric, arms: Mapping[str, Mapping[int, float]], trials: Sequence[Trial], store: Store
) -> dict[int, dict[str, float]]:
    """Step -> treatment -> mean loss by the quick probes, at the steps that all trials have."""
    found: dict[int, dict[str, list[float]]] = {}
    ours = [trial for trial in trials if trial.treatment.label in arms]
    if not any(stage.settings.probe_every for trial in ours for stage in trial.treatment.recipe.stages):
        return {}
    for trial in ours:
        for line in logged(trial, store):
            if (value := line.get(f"during/{metric.name}")) is not None:
                of_step = found.setdefault(int(line["step"]), {})
                of_step.setdefault(trial.treatment.label, []).extend(losses(metric, [value]))
    means = {
        step: {label: sum(values) / len(values) for label, values in of_step.items()}
        for step, of_step in sorted(found.items())
        if sum(map(len, of_step.values())) == len(ours)
    }
    return {step: of_step for step, of_step in means.items() if all(map(math.isfinite, of_step.values()))}
