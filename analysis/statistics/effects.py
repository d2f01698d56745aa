"""Effects: the change of each metric from a reference, paired by seed, with an interval, a p-value and a verdict.

The reference is the baseline unless the design compares with another treatment: the previous rung of a ladder, or the
full recipe in leave-one-out.

With few seeds Student's t is needed: at three seeds its 95 % interval covers the truth in 95 % of studies, that of a
percentile bootstrap in about 70 %, and no permutation test can reach p < 0.05. Differences are paired because trials
with the same seed share batches, crops and noise. The p-values of the primary metric, and of no other, are corrected
for the number of comparisons (S. Holm, "A simple sequentially rejective multiple test procedure", 1979).
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ablate.analysis.statistics.chance import ALPHA, References, detectable, expected_best_change
from ablate.analysis.statistics.diagnostics import find_warnings
from ablate.analysis.statistics.paired import Change as Change
from ablate.analysis.statistics.paired import matrix, paired_rows
from ablate.analysis.statistics.paired import paired as paired
from ablate.slots.settings import Metric
from ablate.study.study import SeedBounds

if TYPE_CHECKING:
    import pandas as pd

Arms = Mapping[str, Mapping[int, float]]
"""The values of one metric: treatment -> seed -> value. The baseline comes first."""


@dataclass(frozen=True)
class Effect:
    """One metric of one treatment over `n` seeds, and its change from the reference over the shared seeds.

    `judged` is the change that is tested, to which `p_holm` and `verdict` refer: the change of the metric itself or, if
    the metric has a target, the change of its distance to the target. `p_holm` is NaN for all but the primary metric.
    """

    n: int
    mean: float
    sd: float
    change: Change
    judged: Change
    p_holm: float
    verdict: str

    @property
    def clear(self) -> bool:
        """Whether the verdict is that there is a difference."""
        return self.verdict in {"better", "worse", "higher", "lower"}


@dataclass(frozen=True)
class Noise:
    """The effect of chance on the primary metric; NaN where there are too few seeds.

    `sd`: standard deviation of the paired differences of a typical treatment, from the median of the variances, so that
    one unstable treatment does not dominate. `correlation`: between a treatment's values and its reference's over the
    seeds, the mean over treatments with at least three pairs. `detectable`: the difference that a test at 5 % finds
    with 80 % power from `pairs` seeds, before Holm's correction. `chance_gain`: how much better the best of
    `comparisons` treatments would seem if no treatment had an effect.
    """

    comparisons: int
    pairs: int
    sd: float = math.nan
    correlation: float = math.nan
    detectable: float = math.nan
    chance_gain: float = math.nan


@dataclass(frozen=True)
class Analysis:
    """All effects (treatment -> metric -> effect), the noise of the primary metric, and warnings about the trials."""

    effects: dict[str, dict[str, Effect]]
    noise: Noise
    warnings: tuple[str, ...]


def analyse(
    frame: "pd.DataFrame",
    metrics: Mapping[str, Metric],
    primary: str,
    references: References | None = None,
    bounds: SeedBounds | None = None,
) -> Analysis:
    """Compare every treatment of a tidy frame with its reference. Diverged trials have no values.

    `bounds`: fewest and most seeds, if the results decide how many there are.
    """
    # Every metric of every treatment.
    arms = all_by_seed(frame, metrics)
    by_metric = {
        name: compare(metric, arms[name], references, bounds, primary=name == primary)
        for name, metric in metrics.items()
    }
    effects = {label: {name: by_metric[name][label] for name in metrics} for label in frame["treatment"].unique()}

    # Treatments all of whose trials diverged or were pruned.
    for status in ("diverged", "pruned"):
        for label in set(frame["treatment"][1:]) - set(frame["treatment"][frame["status"] != status]):
            effects[label] = {name: replace(effect, verdict=status) for name, effect in effects[label].items()}

    noise = measure_noise(metrics[primary], arms[primary], references)
    changes = {label: {name: effect.change for name, effect in row.items()} for label, row in effects.items()}
    return Analysis(effects, noise, find_warnings(frame, list(metrics), changes))


def by_seed(frame: "pd.DataFrame", metric: str) -> dict[str, dict[int, float]]:
    """Treatment -> seed -> value, for all treatments; diverged trials and missing numbers are left out."""
    return all_by_seed(frame, [metric])[metric]


def all_by_seed(frame: "pd.DataFrame", metrics: Iterable[str]) -> dict[str, dict[str, dict[int, float]]]:
    """`by_seed` for each metric; much faster for thousands of trials."""
    labels = dict.fromkeys(frame["treatment"].tolist())
    converged = (frame["status"] != "diverged").tolist()
    trials = list(zip(frame["treatment"].tolist(), frame["seed"].tolist(), strict=True))
    by_metric = {}
    for name in metrics:
        arms: dict[str, dict[int, float]] = {label: {} for label in labels}
        for (label, seed), kept, value in zip(trials, converged, frame[name].tolist(), strict=True):
            if kept and value == value:  # NaN differs from itself
                arms[label][seed] = value
        by_metric[name] = arms
    return by_metric


def compare(
    metric: Metric, arms: Arms, references: References | None = None, bounds: SeedBounds | None = None, *, primary: bool
) -> dict[str, Effect]:
    """The effects on one metric: treatment -> effect. `primary`: with Holm's correction over all comparisons."""
    # The paired comparisons; of a metric with a target, the distances to it are judged.
    compared = _compared(arms, references)
    values = matrix(arms, list(arms))
    row_of = {label: row for row, label in enumerate(arms)}
    treated = [row_of[label] for label in compared]
    reference = [row_of[label] for label in compared.values()]
    changes = paired_rows(values[treated], values[reference], bounds)
    judged = changes
    if metric.direction == "target":
        distances = np.abs(values - metric.target)
        judged = paired_rows(distances[treated], distances[reference], bounds)

    # Holm's correction.
    tested = [i for i, change in enumerate(judged) if not math.isnan(change.p)]
    adjusted = dict(zip(tested, holm([judged[i].p for i in tested]), strict=True)) if primary else {}

    summary = _summaries(values)
    effects = {next(iter(arms)): Effect(*summary[0], Change(0), Change(0), math.nan, "baseline")}
    for i, (label, change) in enumerate(zip(compared, changes, strict=True)):
        word = verdict(metric, judged[i], adjusted.get(i))
        effects[label] = Effect(*summary[treated[i]], change, judged[i], adjusted.get(i, math.nan), word)
    return effects


def _compared(arms: Arms, references: References | None) -> dict[str, str]:
    """Every treatment but the baseline -> the treatment that it is compared with."""
    baseline, *others = arms
    return {label: (references or {}).get(label, baseline) for label in others}


def _summaries(values: NDArray[np.float64]) -> list[tuple[int, float, float]]:
    """Number, mean and sd (ddof 1) of the values of each row, without NaN.

    The sd is NaN for a single value and where a value is not finite.
    """
    present = ~np.isnan(values)
    n = present.sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(present, values, 0.0).sum(1) / n
        sd = np.sqrt((np.where(present, values - mean[:, None], 0.0) ** 2).sum(1) / (n - 1))
    sd[n < 2] = math.nan
    return list(zip(n.tolist(), mean.tolist(), sd.tolist(), strict=True))


def difference(values: Mapping[int, float], reference: Mapping[int, float], bounds: SeedBounds | None = None) -> Change:
    """The mean change from `reference` to `values` over the seeds that both have."""
    return paired(*_shared(values, reference), bounds)


def _shared(values: Mapping[int, float], reference: Mapping[int, float]) -> tuple[list[float], list[float]]:
    """The values of both at the seeds that both have, in the order of the seeds."""
    seeds = sorted(values.keys() & reference.keys())
    return [values[seed] for seed in seeds], [reference[seed] for seed in seeds]


def holm(p: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values, in the order given."""
    order = np.argsort(p, kind="stable")
    steps = np.minimum(1.0, np.asarray(p, float)[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty(len(p))
    adjusted[order] = np.maximum.accumulate(steps)
    return adjusted.tolist()


def verdict(metric: Metric, judged: Change, p_holm: float | None) -> str:
    """The verdict on a change.

    `p_holm` is given for the primary metric only: a difference must then also be significant after the correction.
    """
    if judged.n < 2:
        return "too few seeds"
    if not math.isfinite(judged.mean):
        return "not finite"
    if judged.mean == 0 and judged.sd == 0:
        return "identical"
    if judged.low <= 0 <= judged.high:
        return "within noise"
    if p_holm is not None and p_holm >= ALPHA:
        return "unclear"
    if metric.direction == "none":
        return "higher" if judged.mean > 0 else "lower"
    return "better" if (judged.mean > 0) == (metric.direction == "up") else "worse"


def measure_noise(metric: Metric, arms: Arms, references: References | None = None) -> Noise:
    """The effect of chance on a metric, from all treatments that share at least two seeds with their reference."""
    from scipy.special import gammaincinv

    # The pairs of each treatment, `2 pairs`.
    compared = _compared(arms, references)
    pairs_of = {label: np.array(_shared(arms[label], arms[reference])) for label, reference in compared.items()}
    usable = {label: pair for label, pair in pairs_of.items() if pair.shape[1] > 1 and np.isfinite(pair).all()}
    if not usable:
        return Noise(0, 0)
    shared = list(usable.values())
    pairs = max(pair.shape[1] for pair in shared)

    # The median of a variance with k degrees of freedom is the true variance times the median of chi-squared / k, 0.69
    # for three seeds; the variances are divided by this factor.
    freedom = [pair.shape[1] - 1 for pair in shared]
    variances = [
        np.var(pair[0] - pair[1], ddof=1) * k / (2 * gammaincinv(k / 2, 0.5))
        for pair, k in zip(shared, freedom, strict=True)
    ]
    sd = math.sqrt(float(np.median(variances)))

    known = [pair for pair in shared if pair.shape[1] > 2 and pair.std(axis=1).all()]
    correlation = float(np.mean([np.corrcoef(pair)[0, 1] for pair in known])) if known else math.nan
    gain = math.nan
    if metric.direction in {"up", "down"}:
        # What the seeds have in common cancels in a difference; the rest of a single treatment has sd / sqrt(2).
        gain = expected_best_change({label: compared[label] for label in usable}) * sd / math.sqrt(2 * pairs)
    return Noise(len(shared), pairs, sd, correlation, detectable(sd, pairs), gain)
