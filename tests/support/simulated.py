"""Studies whose results are drawn instead of trained: tables in milliseconds, with a known truth."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ablate.adaptive.recall import plan_study
from ablate.analysis.statistics.effects import Effect, analyse
from ablate.analysis.statistics.noise import Noise, measure_noise
from ablate.analysis.tables.build import build_table
from ablate.analysis.tables.table import Table
from ablate.plan.plan import Plan
from ablate.slots.settings import Metric
from ablate.store.folders import Store
from ablate.study.study import Study, load_study
from tests.support.studies import write_study

Numbers = NDArray[np.float64]

OTHER = Metric("another", "1", "up")
"""A metric in which nothing differs."""

Diverge = Callable[[Numbers], NDArray[np.bool_]]
"""From the values of a treatment's trials to which of them diverge."""

UNSTABLE = np.array([2.59, 0.26, 0.28, 0.86, 1.02, 0.12, 0.75, 0.23, 0.28, 0.45])
"""Standard deviations of PSNR of ten treatments in a study whose baseline, the first, is unstable."""

STAR = [0] * 9
"""The treatment that each of the nine others is compared with: the baseline."""

LADDER = [0, 1, 2, 3, 4, 5, 5, 5, 5]
"""The same on a ladder, then leave-one-out."""


@dataclass(frozen=True)
class Truth:
    """What a metric's values are drawn from, all normal.

    A value is `level`, plus the treatment's effect, plus the seed's part (sd `shared`, the same in all treatments),
    plus the trial's own noise. `sds`: its standard deviation, or treatment -> its own. `effects`: treatment -> effect.
    `draw`: another law of the noise, from the generator and a shape to numbers of sd 1. `step`: values are rounded to
    multiples of it.
    """

    level: float = 20.0
    shared: float = 1.0
    sds: float | Mapping[str, float] = 1.0
    effects: Mapping[str, float] = field(default_factory=dict)
    draw: Callable[[np.random.Generator, tuple[int, int]], Numbers] = lambda rng, shape: rng.standard_normal(shape)
    step: float = 0.0

    def values(self, rng: np.random.Generator, labels: list[str], seeds: int) -> Numbers:
        """The values, `labels seeds`."""
        sds = [self.sds.get(label, 1.0) if isinstance(self.sds, Mapping) else self.sds for label in labels]
        own = np.array(sds)[:, None] * self.draw(rng, (len(labels), seeds))
        effects = np.array([self.effects.get(label, 0.0) for label in labels])[:, None]
        values = self.level + effects + self.shared * rng.standard_normal(seeds) + own
        return np.round(values / self.step) * self.step if self.step else values


class Simulated:
    """A study whose trials get drawn results, without a store that holds them."""

    def __init__(self, study: Study, folder: Path) -> None:
        self.plan: Plan = plan_study(study, Store(folder))
        self.labels = [treatment.label for treatment in self.plan.treatments]
        seeds = len(study.seeds)
        self._frame = {
            "treatment": [label for label in self.labels for _ in range(seeds)],
            "seed": [seed for _ in self.labels for seed in study.seeds],
            "code": [{}] * (len(self.labels) * seeds),
            "content": [{}] * (len(self.labels) * seeds),
        }

    def frame(
        self, rng: np.random.Generator, truths: Mapping[str, Truth], diverge: Mapping[str, Diverge] | None = None
    ) -> pd.DataFrame:
        """A tidy frame. `truths`: metric -> its truth; others are missing. `diverge`: by the values of the first."""
        study = self.plan.study
        drawn = {name: truth.values(rng, self.labels, len(study.seeds)) for name, truth in truths.items()}
        first = next(iter(drawn.values()))
        lost = np.array([
            diverge[label](row) if diverge and label in diverge else np.zeros(len(row), bool)
            for label, row in zip(self.labels, first, strict=True)
        ])  # fmt: skip
        columns = {name: drawn[name].ravel() if name in drawn else math.nan for name in study.metrics}
        return pd.DataFrame({**self._frame, "status": np.where(lost, "diverged", "done").ravel(), **columns})

    def table(
        self,
        rng: np.random.Generator,
        truths: Mapping[str, Truth],
        diverge: Mapping[str, Diverge] | None = None,
        **options: Any,
    ) -> Table:
        """The table of results that are drawn as `frame` does; `options` are those of `build_table`."""
        return build_table(self.plan, list(truths), frame=self.frame(rng, truths, diverge), **options)


def simulated(folder: Path, treatments: int, seeds: int, *replacements: tuple[str, str]) -> Simulated:
    """A study with this many treatments besides the baseline (weights of the KL term) and seeds.

    `replacements`: of the tiny study's text, applied first.
    """
    levels = ", ".join(["1e-4", *(f"{1 + i}e-3" for i in range(treatments))])
    texts = (("loss.kl: [1, 1e-4]", f"loss.kl: [{levels}]"), ("seeds: 2", f"seeds: {seeds}"))
    return Simulated(load_study(write_study(folder, *replacements, *texts)), folder / "store")


def frame_of_arms(metric: Metric, arms: Mapping[str, Mapping[int, float]]) -> pd.DataFrame:
    """A tidy frame with the values of one metric: treatment -> seed -> value."""
    rows = [(label, seed, "done", value, 0.0) for label, arm in arms.items() for seed, value in arm.items()]
    return pd.DataFrame(rows, columns=["treatment", "seed", "status", metric.name, OTHER.name])


def compare(
    metric: Metric,
    arms: Mapping[str, Mapping[int, float]],
    references: Mapping[str, str] | None = None,
    *,
    primary: bool,
    moderated: bool | None = False,
) -> dict[str, Effect]:
    """The effects of a study on one metric. `primary`: whether its comparisons are the planned ones."""
    judged = metric.name if primary else OTHER.name
    metrics = {metric.name: metric, OTHER.name: OTHER}
    found = analyse(frame_of_arms(metric, arms), metrics, judged, references, moderated=moderated)
    return {label: row[metric.name] for label, row in found.effects.items()}


def noise_of(
    metric: Metric, arms: Mapping[str, Mapping[int, float]], references: Mapping[str, str] | None = None
) -> Noise:
    """The noise of a metric that all comparisons are planned for."""
    baseline, *others = arms
    compared = {label: (references or {}).get(label, baseline) for label in others}
    return measure_noise(metric, arms, compared, len(others))
