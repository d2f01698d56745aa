"""What a table says of a search: the Pareto front, which factors matter, and no p-values.

A test supposes that what is compared was chosen before any result was seen. A search chooses what it tries by the
results, and keeps the best of many: a p-value or an interval of such a difference would claim more than is known.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ablate.adaptive.optuna_sampler import front, importance
from ablate.adaptive.search import evaluations, to_come
from ablate.analysis.statistics.effects import Analysis, Effect, Noise
from ablate.analysis.typeset.cells import Sentence
from ablate.plan.labels import short_names
from ablate.plan.plan import Plan
from ablate.study.search import Search

REFUSED = (
    "An adaptive search gives no p-values and no intervals: what it tried depends on the results themselves, and the "
    "best of many seems better than it is. To test a treatment, list it beside the baseline in a study with fresh "
    "seeds."
)


@dataclass(frozen=True)
class SearchResult:
    """What a search has found: labels of its Pareto front, and the notes that go with a table."""

    front: frozenset[str]
    notes: tuple[Sentence, ...]


def find(plan: Plan, search: Search) -> SearchResult:
    """Judge what a search has tried so far."""
    study = plan.study
    told = evaluations(plan)
    best = front(study, told)
    shares = importance(study, told)
    distinct = len({one.label for one in told})
    more = to_come(study, plan.known)
    how = f"Search by {search.sampler}: {len(told)} suggestions, {distinct} distinct treatments"
    goals = " and ".join(goal.name for goal in search.objectives)
    limits = f" within {', '.join(map(str, search.limits))}" if search.limits else ""
    none = "" if best else " No treatment is there yet that has ended well and keeps the limits."
    notes: list[Sentence] = [
        (f"{how}{f', {more} still to come' if more else ''}.",),
        (f"On the front: no other treatment is at least as good in {goals} and better in one{limits}.{none}",),
    ]
    if shares:
        names = short_names(study.factors)
        listed = ", ".join(f"{names[path]} {share:.0%}" for path, share in shares.items())
        notes.append((f"Share of the variance of {search.objectives[0].name} by fANOVA over the search: {listed}.",))
    return SearchResult(frozenset(best), (*notes, (REFUSED,)))


def withhold(analysis: Analysis) -> Analysis:
    """The same means and differences without intervals, p-values and verdicts."""
    effects = {
        label: {name: _withheld(effect) for name, effect in row.items()} for label, row in analysis.effects.items()
    }
    return replace(analysis, effects=effects, noise=Noise(0, 0))


def _withheld(effect: Effect) -> Effect:
    if effect.verdict in {"baseline", "diverged", "pruned"}:
        return effect
    change = replace(effect.change, low=math.nan, high=math.nan, p=math.nan)
    judged = replace(effect.judged, low=math.nan, high=math.nan, p=math.nan)
    return replace(effect, change=change, judged=judged, p_holm=math.nan, verdict="not tested")


def ranked(search: Search, effects: dict[str, dict[str, Effect]], labels: Sequence[str]) -> list[str]:
    """The baseline, then the others by the first objective, the best first and those without a value last."""
    goal = search.objectives[0]

    def loss(label: str) -> float:
        mean = effects[label][goal.name].mean
        found = {"up": -mean, "down": mean}.get(goal.direction, abs(mean - goal.target))
        return math.inf if math.isnan(found) else found

    return [labels[0], *sorted(labels[1:], key=loss)]
