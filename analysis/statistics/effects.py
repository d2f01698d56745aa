"""Effects: the change of each metric from a reference, paired by seed, with an interval, a p-value and a verdict.

The reference is the baseline or, where a design says so, another treatment: the rung below, the full recipe.

Few seeds call for Student's t: at three seeds its 95 % interval covers 95 %, that of a percentile bootstrap about 70 %,
and no permutation test can reach p < 0.05. Treatments of one seed share batches, crops and noise, so differences are
paired. The correction for multiple comparisons (S. Holm, "A simple sequentially rejective multiple test procedure",
1979) is over the treatments and for the study's primary metric alone.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ablate.analysis.records.frame import SHARE
from ablate.analysis.statistics.chance import ALPHA, References, detectable, expected_best_change
from ablate.analysis.statistics.paired import Change as Change
from ablate.analysis.statistics.paired import matrix, paired_rows
from ablate.analysis.statistics.paired import paired as paired
from ablate.slots.settings import Metric
from ablate.study.study import SeedBounds

if TYPE_CHECKING:
    import pandas as pd

DEAD_SHARE = 1e-4
"""A loss term with a smaller share of the gradient has not influenced training."""


Arms = Mapping[str, Mapping[int, float]]
"""Treatment -> seed -> value; the baseline comes first."""


@dataclass(frozen=True)
class Effect:
    """One metric of one treatment over `n` seeds, and its change from its reference over the shared seeds.

    `judged` is the change that `p`, `p_holm` and `verdict` speak of: that of the metric itself or, where a metric has a
    target, that of its distance to it. `p_holm` is NaN for all but the primary metric.
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
        """Whether the verdict tells a difference."""
        return self.verdict in {"better", "worse", "higher", "lower"}


@dataclass(frozen=True)
class Noise:
    """What chance does to the primary metric; NaN where too few seeds tell.

    `sd` is that of the paired differences of a typical treatment, from the median of their variances, so that one
    unstable treatment does not speak for all; `correlation` that of a treatment's seeds with its reference's, the mean
    over treatments with at least three pairs. `detectable`: the difference that `pairs` seeds find with 80 % power at
    5 %, before Holm's correction. `chance_gain`: by how much the best of `comparisons` changes would seem better if all
    were alike.
    """

    comparisons: int
    pairs: int
    sd: float = math.nan
    correlation: float = math.nan
    detectable: float = math.nan
    chance_gain: float = math.nan


@dataclass(frozen=True)
class Analysis:
    """All effects (treatment -> metric), the noise of the primary metric, and what looks wrong with the trials."""

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

    `bounds`: fewest and most seeds, where the results decide how many there are.
    """
    sound = frame[frame["status"] != "diverged"]
    arms = all_by_seed(frame, metrics)
    found = {
        name: compare(metric, arms[name], references, bounds, primary=name == primary)
        for name, metric in metrics.items()
    }
    effects = {label: {name: found[name][label] for name in metrics} for label in frame["treatment"].unique()}
    for word in ("diverged", "pruned"):
        for label in set(frame["treatment"][1:]) - set(frame["treatment"][frame["status"] != word]):
            effects[label] = {name: replace(effect, verdict=word) for name, effect in effects[label].items()}
    noise = measure_noise(metrics[primary], arms[primary], references)
    warnings = *_identical(sound, list(metrics)), *_no_spread(effects), *_dead_terms(frame), *_split_batches(frame)
    return Analysis(effects, noise, warnings)


def by_seed(frame: "pd.DataFrame", metric: str) -> dict[str, dict[int, float]]:
    """Treatment -> seed -> value, of all treatments; trials that diverged and missing numbers are left out."""
    return all_by_seed(frame, [metric])[metric]


def all_by_seed(frame: "pd.DataFrame", metrics: Iterable[str]) -> dict[str, dict[str, dict[int, float]]]:
    """`by_seed` of each metric; of thousands of trials in a fraction of the time."""
    labels, sound = dict.fromkeys(frame["treatment"].tolist()), (frame["status"] != "diverged").tolist()
    trials = list(zip(frame["treatment"].tolist(), frame["seed"].tolist(), strict=True))
    found = {}
    for name in metrics:
        arms: dict[str, dict[int, float]] = {label: {} for label in labels}
        for (label, seed), kept, value in zip(trials, sound, frame[name].tolist(), strict=True):
            if kept and value == value:
                arms[label][seed] = value
        found[name] = arms
    return found


def compare(
    metric: Metric, arms: Arms, references: References | None = None, bounds: SeedBounds | None = None, *, primary: bool
) -> dict[str, Effect]:
    """The effects of one metric. Holm's correction is for the primary one, over all comparisons."""
    against = _against(arms, references)
    values = matrix(arms, list(arms))
    place = {label: row for row, label in enumerate(arms)}
    ours, theirs = ([place[label] for label in labels] for labels in (against, against.values()))
    changes = paired_rows(values[ours], values[theirs], bounds)
    judged = changes
    if metric.direction == "target":
        distances = np.abs(values - metric.target)
        judged = paired_rows(distances[ours], distances[theirs], bounds)
    tested = [row for row, change in enumerate(judged) if not math.isnan(change.p)]
    adjusted = dict(zip(tested, holm([judged[row].p for row in tested]), strict=True)) if primary else {}
    summary = _summaries(values)
    found = {next(iter(arms)): Effect(*summary[0], Change(0), Change(0), math.nan, "baseline")}
    for row, (label, change) in enumerate(zip(against, changes, strict=True)):
        word = verdict(metric, judged[row], adjusted.get(row))
        found[label] = Effect(*summary[ours[row]], change, judged[row], adjusted.get(row, math.nan), word)
    return found


def _against(arms: Arms, references: References | None) -> dict[str, str]:
    """Every treatment but the baseline -> the one that it is compared with."""
    baseline, *others = arms
    return {label: (references or {}).get(label, baseline) for label in others}


def _summaries(values: NDArray[np.float64]) -> list[tuple[int, float, float]]:
    """Number, mean and sd (ddof 1) of each row, NaN left out; no sd of one value or where one is not finite."""
    there = ~np.isnan(values)
    n = there.sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(there, values, 0.0).sum(1) / n
        sd = np.sqrt((np.where(there, values - mean[:, None], 0.0) ** 2).sum(1) / (n - 1))
    sd[n < 2] = math.nan
    return list(zip(n.tolist(), mean.tolist(), sd.tolist(), strict=True))


def difference(values: Mapping[int, float], reference: Mapping[int, float], bounds: SeedBounds | None = None) -> Change:
    """The mean change from `reference` to `values` over the seeds that both have."""
    return paired(*_shared(values, reference), bounds)


def _shared(values: Mapping[int, float], reference: Mapping[int, float]) -> tuple[list[float], list[float]]:
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
    """A change in a word. Where `p_holm` is given, that is for the primary metric, it must agree with the interval."""
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
    """What chance does to a metric, from all treatments with at least two seeds of their reference's."""
    from scipy.special import gammaincinv

    against = _against(arms, references)
    pairs_of = {label: np.array(_shared(arms[label], arms[reference])) for label, reference in against.items()}
    usable = {label: pair for label, pair in pairs_of.items() if pair.shape[1] > 1 and np.isfinite(pair).all()}
    if not usable:
        return Noise(0, 0)
    shared = list(usable.values())
    pairs = max(pair.shape[1] for pair in shared)
    # A variance of k degrees of freedom has its median at chi2's median / k of the truth, 0.69 for three seeds.
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
        # Seeds' common part cancels in a difference; what is left of one treatment alone has sd / sqrt(2).
        gain = expected_best_change({label: against[label] for label in usable}) * sd / math.sqrt(2 * pairs)
    return Noise(len(shared), pairs, sd, correlation, detectable(sd, pairs), gain)


def _identical(sound: "pd.DataFrame", metrics: list[str]) -> list[str]:
    """Treatments that equal another one in every metric of every shared seed."""
    known: dict[str, list[str]] = {}
    alike: dict[tuple[int, bytes], list[str]] = {}
    """Seed and values -> the first treatments that have them: the only ones that another can equal."""
    tables = _by_treatment(sound, metrics)
    for label, table in tables.items():
        marks = [(seed, values.tobytes()) for seed, values in table.items() if not np.isnan(values).all()]
        candidates = dict.fromkeys(first for mark in marks for first in alike.get(mark, ()))
        twin = next((first for first in candidates if _equal(tables[first], table)), label)
        known.setdefault(twin, []).append(label)
        if twin == label:
            for mark in marks:
                alike.setdefault(mark, []).append(label)
    return [
        f"numerically identical in every metric of every shared seed: {', '.join(labels)}; "
        "what distinguishes them did not influence training"
        for labels in known.values()
        if len(labels) > 1
    ]


def _by_treatment(sound: "pd.DataFrame", metrics: list[str]) -> dict[str, dict[int, NDArray[np.float64]]]:
    """Treatment -> seed -> its metrics; every NaN has the same bits, and so has every zero."""
    rows = sound[metrics].to_numpy(float) + 0.0
    rows[np.isnan(rows)] = math.nan
    found: dict[str, dict[int, NDArray[np.float64]]] = {}
    for label, seed, row in zip(sound["treatment"].tolist(), sound["seed"].tolist(), rows, strict=True):
        found.setdefault(label, {})[seed] = row
    return found


def _equal(a: Mapping[int, NDArray[np.float64]], b: Mapping[int, NDArray[np.float64]]) -> bool:
    return all(np.array_equal(a[seed], b[seed], equal_nan=True) for seed in a.keys() & b.keys())


def _no_spread(effects: Mapping[str, Mapping[str, Effect]]) -> list[str]:
    """Differences that are not zero and yet the same in every seed."""
    found: dict[str, list[str]] = {}
    for label, row in effects.items():
        for name, effect in row.items():
            if effect.change.sd == 0 and effect.change.mean != 0:
                found.setdefault(name, []).append(label)
    if not found:
        return []
    where = "; ".join(f"{name} of {', '.join(labels)}" for name, labels in found.items())
    return [f"the paired difference is the same in every seed, so its interval has no width: {where}"]


def _dead_terms(frame: "pd.DataFrame") -> list[str]:
    """Loss terms with no say in the gradient, each with the treatments in which that is so."""
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
    """Treatments that had too little memory for their batches."""
    if "parts" not in frame:
        return []
    split = frame.groupby("treatment", sort=False)["parts"].max()
    rows = ", ".join(f"{treatment} in {parts}" for treatment, parts in split.items() if parts > 1)
    said = f"out of memory, so batches were split into micro-batches, which changes rounding alone: {rows}"
    return [said] if rows else []
