"""The comparisons that answer a study's question: of each factor, on the lead metric of each probe."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ablate.analysis.statistics.chance import ALPHA
from ablate.analysis.statistics.effects import Analysis, comparable
from ablate.analysis.statistics.factorial import Decomposition, Term
from ablate.analysis.statistics.noise import Noise, measure_noise
from ablate.analysis.statistics.paired import Change
from ablate.analysis.statistics.verdicts import CLEAR, NO_EFFECT, is_trouble, verdict
from ablate.analysis.tables.rows import Arm
from ablate.plan.labels import Names
from ablate.plan.planned import differing
from ablate.slots import registry
from ablate.slots.settings import Metric
from ablate.study.study import Study

if TYPE_CHECKING:
    from ablate.analysis.statistics.effects import Arms

SEVERAL = "several factors together"
"""The group of treatments that differ from their reference in more than one factor."""

SETTLED = ("identical", "pruned", "not tested")
"""Verdicts that more seeds would not change."""


@dataclass(frozen=True)
class Comparison:
    """One comparison on one metric, with the verdict that the table gives it.

    `factor`: what changes. `name`: the treatment's label or, in a factorial design, the change of level. `label`: the
    label of the treatment whose colour it has; empty if there is none. `planned`: whether its p-value is among those
    that are corrected together.
    """

    factor: str
    name: str
    label: str
    metric: Metric
    change: Change
    verdict: str
    planned: bool
    negligible: bool = False

    @property
    def clear(self) -> bool:
        """Whether the verdict is that there is a difference, and it may be as large as is of interest."""
        return self.verdict in CLEAR and not self.negligible

    @property
    def ruled_out(self) -> bool:
        """Whether the verdict is that there is no effect as large as the smallest effect of interest."""
        return self.negligible or self.verdict.startswith(NO_EFFECT)

    @property
    def is_open(self) -> bool:
        """Whether more seeds could still decide it."""
        return not (self.clear or self.ruled_out or self.verdict in SETTLED or is_trouble(self.verdict))

    @property
    def size(self) -> float:
        """The size of the change in multiples of the smallest effect of interest; NaN if the metric has none."""
        return abs(self.change.mean) / self.metric.interest if self.metric.interest else math.nan


def by_size(comparisons: Iterable[Comparison]) -> list[Comparison]:
    """Comparisons with the largest first; those whose size is not known come last."""
    return sorted(comparisons, key=lambda one: -one.size if math.isfinite(one.size) else math.inf)


def largest(comparisons: Sequence[Comparison]) -> Comparison:
    """The largest clear one; if none is clear, the largest with an interval, or else the largest. There must be one."""
    clear = [one for one in comparisons if one.clear]
    bounded = [one for one in comparisons if math.isfinite(one.change.low)]
    return by_size(clear or bounded or comparisons)[0]


def by_factor(comparisons: Iterable[Comparison]) -> dict[str, list[Comparison]]:
    """Factor -> its comparisons, in the given order."""
    groups: dict[str, list[Comparison]] = {}
    for one in comparisons:
        groups.setdefault(one.factor, []).append(one)
    return groups


def by_metric(comparisons: Iterable[Comparison]) -> dict[str, list[Comparison]]:
    """Metric -> the comparisons on it, in the given order."""
    groups: dict[str, list[Comparison]] = {}
    for one in comparisons:
        groups.setdefault(one.metric.name, []).append(one)
    return groups


def lead_metrics(study: Study) -> list[str]:
    """The metrics of the planned comparisons, and the first metric of every other probe.

    A metric for which neither direction is better and no difference is large or small is none of the latter.
    """
    planned = dict.fromkeys([study.primary, *study.primary_of.values()])
    leads = []
    for probe in study.probes:
        names = [metric.name for metric in registry.level("probe", probe.level).metrics]
        first = next((study.metrics[name] for name in names if name in study.metrics), None)
        if first and not planned.keys() & names and (first.direction != "none" or first.interest is not None):
            leads.append(first.name)
    return [*planned, *leads]


def compare_rows(study: Study, arms: Sequence[Arm]) -> list[Comparison]:
    """The rows of the table on the lead metrics; without metrics that no row has a value of."""
    treatments = {arm.treatment.label: arm.treatment for arm in arms}
    names = Names(study)
    found = []
    for name in lead_metrics(study):
        rows = [(arm, arm.effects[name]) for arm in arms[1:]]
        if all(math.isnan(effect.change.mean) for _, effect in rows):
            continue
        for arm, effect in rows:
            changed = differing(arm.treatment, treatments[arm.treatment.reference or "baseline"])
            factor = names.factors[changed[0]] if len(changed) == 1 else SEVERAL
            label = arm.treatment.label
            planned = arm.judged_by == name
            found.append(
                Comparison(
                    factor,
                    names.treatment(label),
                    label,
                    study.metrics[name],
                    effect.change,
                    effect.verdict,
                    planned,
                    effect.negligible,
                )
            )
    return found


def compare_terms(study: Study, decompositions: Mapping[str, Decomposition]) -> list[Comparison]:
    """The main effects of a factorial design on the lead metrics, and the interactions that are clear."""
    found = []
    for name in lead_metrics(study):
        if name in decompositions:
            for term in decompositions[name].terms:
                effects = _effects_of(study, study.metrics[name], term)
                found += effects if len(term.factors) == 1 else [one for one in effects if one.clear]
    return found


def _effects_of(study: Study, metric: Metric, term: Term) -> list[Comparison]:
    """The contrasts of a main effect or an interaction."""
    shown = Names(study)
    names = list(shown.factors.values())
    p = term.p if math.isnan(term.p_holm) else term.p_holm
    found = []
    for contrast in term.contrasts:
        changes = []
        for index, level in zip(term.factors, contrast.levels, strict=True):
            factor = study.factors[index]
            before, after = (shown.level(factor.path, factor.levels[i]) for i in (0, level))
            changes.append(f"{names[index]} {before} → {after}")
        change = Change(len(study.seeds), contrast.estimate, math.nan, contrast.low, contrast.high, contrast.p)
        significant = contrast.p < ALPHA and p < ALPHA
        word = verdict(metric, change) if significant else "too few seeds" if math.isnan(contrast.p) else "within noise"
        crossed = " × ".join(names[index] for index in term.factors)
        found.append(Comparison(crossed, " with ".join(changes), "", metric, change, word, not math.isnan(term.p_holm)))
    return found


def measure_open(
    comparisons: Iterable[Comparison], arms_of: "Mapping[str, Arms]", analysis: Analysis, references: Mapping[str, str]
) -> dict[str, Noise]:
    """Metric -> the noise of its open comparisons, which says how many seeds they need.

    `arms_of`: metric -> treatment -> seed -> value. `references`: treatment -> the one that it is compared with. The
    correction is that of the table: for all planned comparisons, and none for others.
    """
    noises = {}
    for name, rows in by_metric(one for one in comparisons if one.is_open and one.label).items():
        metric = rows[0].metric
        judged = {one.label: references[one.label] for one in rows}
        planned = len(references) if any(one.planned for one in rows) else 1
        noises[name] = measure_noise(
            metric, comparable(metric, arms_of[name]), judged, planned, analysis.moderation.get(name)
        )
    return noises
