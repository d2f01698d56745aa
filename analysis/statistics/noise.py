"""The noise of a study, and what it can and cannot find because of it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from ablate.analysis.statistics.chance import References, expected_best_change
from ablate.analysis.statistics.moderation import Moderation, Numbers
from ablate.analysis.statistics.power import KNOWN, detectable, seeds_needed
from ablate.slots.settings import Metric
from ablate.study.study import SeedBounds

STUDIES = 4000
"""Simulated studies that tell how an estimate of the noise scatters."""

QUANTILES = 50
"""Quantiles of that estimate over which power is averaged."""

MOST_ROWS = 30
"""Treatments of a simulated study; with more of them the estimate hardly scatters less."""


@dataclass(frozen=True)
class Noise:
    """The effect of chance on a metric; NaN where there are too few seeds.

    `comparisons`: treatments that share at least two seeds with their reference. `sd`: standard deviation of the paired
    differences of a typical treatment, from the median of the variances, so that one unstable treatment does not
    dominate. `estimates`: what `sd` may be as multiples of the truth, equally likely. `correlation`: between a
    treatment's values and its reference's over the seeds, the mean over treatments with at least three pairs.
    `planned`: comparisons that Holm's correction is for. `detectable`: the difference that gets its verdict with 80 %
    power from `pairs` seeds, after this correction. `needed`: the seeds with which the smallest effect of interest
    would; None if there is no such effect or it takes more than a thousand. `chance_gain`: how much better the best of
    `comparisons` treatments would seem if no treatment had an effect.
    """

    comparisons: int
    pairs: int
    planned: int = 0
    sd: float = math.nan
    correlation: float = math.nan
    detectable: float = math.nan
    needed: int | None = None
    chance_gain: float = math.nan
    estimates: Numbers = field(default_factory=lambda: KNOWN, repr=False, compare=False)

    def numbers(self) -> dict[str, float | None]:
        """All entries but `estimates`."""
        return {name: value for name, value in vars(self).items() if name != "estimates"}


def measure_noise(
    metric: Metric,
    arms: Mapping[str, Mapping[int, float]],
    references: References,
    planned: int,
    moderation: Moderation | None = None,
    bounds: SeedBounds | None = None,
) -> Noise:
    """The effect of chance on a metric, from the treatments that share at least two seeds with their reference.

    `arms`: the values that are compared. `references`: each treatment that is judged by this metric -> the one that it
    is compared with. `planned`: comparisons that Holm's correction is for, those by other metrics included.
    """
    # The pairs of each treatment, `2 pairs`.
    pairs_of = {label: np.array(shared_values(arms[label], arms[other])) for label, other in references.items()}
    usable = {label: pair for label, pair in pairs_of.items() if pair.shape[1] > 1 and np.isfinite(pair).all()}
    if not usable:
        return Noise(0, 0, planned)
    shared = list(usable.values())
    pairs = max(pair.shape[1] for pair in shared)

    variances = [np.var(pair[0] - pair[1], ddof=1) / _median_share(pair.shape[1]) for pair in shared]
    sd = math.sqrt(float(np.median(variances)))
    known = [pair for pair in shared if pair.shape[1] > 2 and pair.std(axis=1).all()]
    correlation = float(np.mean([np.corrcoef(pair)[0, 1] for pair in known])) if known else math.nan

    # What is found, and what seems to be.
    found, needed, estimates = math.nan, None, KNOWN
    if sd > 0:
        labels = [*dict.fromkeys([*usable, *(references[label] for label in usable)])]
        rows = tuple((labels.index(label), labels.index(references[label])) for label in usable)
        estimates = _estimates(pairs, rows[:MOST_ROWS])
        found = detectable(sd, pairs, planned, moderation, bounds, estimates)
        needed = seeds_needed(sd, metric.interest, planned, moderation, estimates) if metric.interest else None
    gain = math.nan
    if metric.direction != "none":
        # What the seeds have in common cancels in a difference; the rest of a single treatment has sd / sqrt(2).
        gain = expected_best_change({label: references[label] for label in usable}) * sd / math.sqrt(2 * pairs)
    return Noise(len(shared), pairs, planned, sd, correlation, found, needed, gain, estimates)


def _median_share(pairs: int) -> float:
    """The median of the variance of this many normal numbers over the true one: 0.69 for three."""
    from scipy.special import gammaincinv

    return float(2 * gammaincinv((pairs - 1) / 2, 0.5) / (pairs - 1))


@lru_cache(maxsize=256)
def _estimates(pairs: int, rows: tuple[tuple[int, int], ...]) -> Numbers:
    """Quantiles of the estimate of `sd` over its true value, in studies with normal noise that is equal in all arms.

    `rows`: the arm of each treatment and that of its reference; arms that share a reference share its noise.
    """
    values = np.random.default_rng(0).standard_normal((STUDIES, 1 + max(map(max, rows)), pairs))
    treatments, references = zip(*rows, strict=True)
    variances = (values[:, treatments] - values[:, references]).var(axis=2, ddof=1) / 2
    estimates = np.sqrt(np.median(variances, axis=1) / _median_share(pairs))
    found: Numbers = np.quantile(estimates, (np.arange(QUANTILES) + 0.5) / QUANTILES)
    return found


def shared_values(values: Mapping[int, float], reference: Mapping[int, float]) -> tuple[list[float], list[float]]:
    """The values of both at the seeds that both have, in the order of the seeds."""
    seeds = sorted(values.keys() & reference.keys())
    return [values[seed] for seed in seeds], [reference[seed] for seed in seeds]
