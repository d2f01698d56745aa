"""Effects: the change of each metric from a reference, paired by seed, with an interval, a p-value and a verdict.

The reference is the baseline unless the design compares with another treatment: the previous rung of a ladder, or the
full recipe in leave-one-out.

With few seeds Student's t is needed: at three seeds its 95 % interval covers the truth in 95 % of studies, that of a
percentile bootstrap in about 75 %, and no permutation test can reach p < 0.05. Differences are paired because trials
with the same seed share batches, crops and noise. From five seeds on, variances are moderated (`moderation`). Each
treatment is judged by one planned metric; the p-values of these comparisons, and of no others, are corrected for their
number (S. Holm, "A simple sequentially rejective multiple test procedure", 1979).
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from ablate.analysis.statistics.chance import References
from ablate.analysis.statistics.diagnostics import find_warnings
from ablate.analysis.statistics.moderation import FEWEST_PAIRS, FEWEST_ROWS, Moderation, fit_moderation
from ablate.analysis.statistics.noise import Noise as Noise
from ablate.analysis.statistics.noise import measure_noise, shared_values
from ablate.analysis.statistics.paired import Change as Change
from ablate.analysis.statistics.paired import matrix, paired_rows
from ablate.analysis.statistics.paired import paired as paired
from ablate.analysis.statistics.verdicts import CLEAR, is_negligible, trouble_of, verdict
from ablate.slots.settings import Metric
from ablate.study.study import SeedBounds

if TYPE_CHECKING:
    import pandas as pd

Name = TypeVar("Name")

Arms = Mapping[str, Mapping[int, float]]
"""The values of one metric: treatment -> seed -> value. The baseline comes first."""

Troubles = Mapping[str, str]
"""Treatment -> what takes the place of a verdict on it (`verdicts.trouble_of`); empty where nothing does."""


@dataclass(frozen=True)
class Effect:
    """One metric of one treatment over `n` seeds, and its change from the reference over the shared seeds.

    `change`: of the values that are compared (`comparable`), so of the distance to the target if the metric has one.
    `p_holm`: NaN for all metrics but the one that the treatment is judged by. `negligible`: whether the change is
    smaller than the smallest effect of interest, which a clear one can be too.
    """

    n: int
    mean: float
    sd: float
    change: Change
    p_holm: float
    verdict: str
    negligible: bool = False

    @property
    def clear(self) -> bool:
        """Whether the verdict is that there is a difference."""
        return self.verdict in CLEAR


@dataclass(frozen=True)
class Analysis:
    """All effects (treatment -> metric -> effect), and warnings about the trials.

    `judged_by`: treatment -> the metric of its planned comparison. `noises`: the noise of each of these metrics.
    `moderation`: metric -> what the rows say about its variances, for metrics whose variances are moderated.
    """

    effects: dict[str, dict[str, Effect]]
    warnings: tuple[str, ...]
    judged_by: Mapping[str, str] = field(default_factory=dict)
    noises: Mapping[str, Noise] = field(default_factory=dict)
    moderation: Mapping[str, Moderation] = field(default_factory=dict)


def analyse(
    frame: "pd.DataFrame",
    metrics: Mapping[str, Metric],
    primary: str | Mapping[str, str],
    references: References | None = None,
    bounds: SeedBounds | None = None,
    *,
    moderated: bool | None = None,
) -> Analysis:
    """Compare every treatment of a tidy frame with its reference. Diverged trials have no values.

    `primary`: the metric of the planned comparisons, or of each treatment's own. `bounds`: fewest and most seeds, if
    the results decide how many there are. `moderated`: whether variances are moderated; by default where they can be.
    Raises ValueError if they must be and cannot.
    """
    # The values of every treatment, and its trials without a result.
    labels = list(dict.fromkeys(frame["treatment"].tolist()))
    compared = {label: (references or {}).get(label, labels[0]) for label in labels[1:]}
    judged_by = dict.fromkeys(compared, primary) if isinstance(primary, str) else {**primary}
    arms = all_by_seed(frame, metrics)
    troubles = find_troubles(frame, compared)

    # The changes of every metric, and the correction of the planned comparisons.
    values = {name: comparable(metric, arms[name]) for name, metric in metrics.items()}
    whole = {label: other for label, other in compared.items() if not troubles[label]}
    moderation = {}
    if not bounds and moderated is not False:
        fits = {name: _moderate(values[name], whole) for name in metrics}
        moderation = {name: fit for name, fit in fits.items() if fit}
    if moderated:
        _check_moderation(moderation, set(judged_by.values()), bounds)
    changes = {name: find_changes(values[name], compared, bounds, moderation.get(name)) for name in metrics}
    planned = {label: changes[judged_by[label]][label].p for label in compared}
    adjusted = holm_planned({label: math.nan if troubles[label] else p for label, p in planned.items()})

    # The effects, the noise, and warnings.
    effects: dict[str, dict[str, Effect]] = {label: {} for label in labels}
    for name, metric in metrics.items():
        p_holm = {label: p for label, p in adjusted.items() if judged_by[label] == name}
        for label, effect in list_effects(metric, arms[name], changes[name], p_holm, troubles).items():
            effects[label][name] = effect
    for label in set(labels[1:]) - set(frame["treatment"][frame["status"] != "pruned"]):
        effects[label] = {name: replace(effect, verdict="pruned") for name, effect in effects[label].items()}
    noises = {}
    for name in dict.fromkeys(judged_by.values()):
        judged = {label: other for label, other in whole.items() if judged_by[label] == name}
        noises[name] = measure_noise(metrics[name], values[name], judged, len(compared), moderation.get(name), bounds)
    inexact = [name for name, metric in metrics.items() if not metric.exact]
    seen = {label: {name: row[name].change for name in inexact} for label, row in effects.items()}
    return Analysis(effects, find_warnings(frame, list(metrics), seen), judged_by, noises, moderation)


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


def comparable(metric: Metric, arms: Arms) -> Arms:
    """The values that rows and claims compare: the metric itself or, if it has a target, the distance to the target."""
    if metric.direction != "target":
        return arms
    return {label: distances(metric, arm) for label, arm in arms.items()}


def distances(metric: Metric, arm: Mapping[int, float]) -> dict[int, float]:
    """Seed -> distance of the value to the metric's target."""
    return {seed: abs(value - metric.target) for seed, value in arm.items()}


def count_statuses(frame: "pd.DataFrame") -> dict[str, Counter[str]]:
    """Treatment -> number of its trials by status."""
    counts: dict[str, Counter[str]] = {}
    for label, status in zip(frame["treatment"].tolist(), frame["status"].tolist(), strict=True):
        counts.setdefault(label, Counter())[status] += 1
    return counts


def find_troubles(frame: "pd.DataFrame", references: References) -> dict[str, str]:
    """What takes the place of a verdict on each treatment that `references` names; empty where nothing does."""
    counts = count_statuses(frame)
    return {label: trouble_of(counts[label], counts[other]) for label, other in references.items()}


def find_changes(
    values: Arms, references: References, bounds: SeedBounds | None = None, moderation: Moderation | None = None
) -> dict[str, Change]:
    """Treatment -> its change from its reference. `values`: those that are compared."""
    array = matrix(values, list(values))
    row_of = {label: row for row, label in enumerate(values)}
    treated = [row_of[label] for label in references]
    reference = [row_of[label] for label in references.values()]
    return dict(zip(references, paired_rows(array[treated], array[reference], bounds, moderation), strict=True))


def list_effects(
    metric: Metric, arms: Arms, changes: Mapping[str, Change], p_holm: Mapping[str, float], troubles: Troubles
) -> dict[str, Effect]:
    """Treatment -> its effect on a metric. `p_holm`: of the planned comparisons on this metric.

    Of a treatment in trouble only the mean change is kept.
    """
    summaries = dict(zip(arms, _summaries(matrix(arms, list(arms))), strict=True))
    effects = {next(iter(arms)): Effect(*summaries[next(iter(arms))], Change(0), math.nan, "baseline")}
    for label, change in changes.items():
        trouble = troubles.get(label, "")
        shown = Change(change.n, change.mean, change.sd) if trouble else change
        word = verdict(metric, change, p_holm.get(label), trouble)
        negligible = not trouble and is_negligible(metric, change)
        effects[label] = Effect(*summaries[label], shown, p_holm.get(label, math.nan), word, negligible)
    return effects


def _moderate(values: Arms, references: References) -> Moderation | None:
    """What the rows say about the variances of their differences; None if they are too few."""
    rows = find_changes(values, references).values()
    return fit_moderation([row.sd**2 for row in rows], [row.n - 1 for row in rows])


def _check_moderation(moderation: Mapping[str, Moderation], judged: Iterable[str], bounds: SeedBounds | None) -> None:
    """Raise ValueError if the variances of a metric that treatments are judged by cannot be moderated."""
    if bounds:
        raise ValueError("moderated t: results decide how many seeds this study has, and its levels are Student's")
    for name in sorted(set(judged) - moderation.keys()):
        raise ValueError(
            f"moderated t: fewer than {FEWEST_ROWS} rows have {FEWEST_PAIRS} pairs or more, with spread, in {name}, so "
            "the variance of variances is unknown; use the plain test"
        )


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


def difference(
    values: Mapping[int, float],
    reference: Mapping[int, float],
    bounds: SeedBounds | None = None,
    moderation: Moderation | None = None,
) -> Change:
    """The mean change from `reference` to `values` over the seeds that both have."""
    return paired(*shared_values(values, reference), bounds, moderation)


def holm(p: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values, in the order given."""
    order = np.argsort(p, kind="stable")
    steps = np.minimum(1.0, np.asarray(p, float)[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty(len(p))
    adjusted[order] = np.maximum.accumulate(steps)
    return adjusted.tolist()


def holm_planned(p: Mapping[Name, float]) -> dict[Name, float]:
    """Planned comparison -> Holm's adjusted p. A comparison without a p (NaN) counts as one that is not significant."""
    adjusted = holm([1.0 if math.isnan(one) else one for one in p.values()])
    return {name: math.nan if math.isnan(p[name]) else value for name, value in zip(p, adjusted, strict=True)}
