"""What a table shows of a search: the Pareto front and the importance of the factors, but no p-values.

A test assumes that the treatments were chosen before any result was seen. A search chooses what to try by the results
and keeps the best of many, so a p-value or an interval of such a difference would claim more than is known.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ablate.adaptive.optuna_sampler import factor_importance, pareto_front
from ablate.adaptive.search import evaluations, future_suggestions
from ablate.analysis.statistics.effects import Analysis, Change, Effect
from ablate.analysis.statistics.ranks import losses
from ablate.analysis.statistics.verdicts import is_trouble
from ablate.analysis.typeset.cells import Sentence
from ablate.plan.labels import Names
from ablate.plan.plan import Plan
from ablate.study.search import Search
from ablate.study.titles import title_of

NO_TESTS = (
    "An adaptive search gives no p-values and no intervals: which treatments it tried depends on the results, and the "
    "best of many seems better than it is. To test a treatment, list it beside the baseline in a study with new seeds."
)

NO_CLAIMS = "Claims of the paper are not judged: every verdict on one is a test."


@dataclass(frozen=True)
class SearchResult:
    """The result of a search: the labels of its Pareto front, and the notes for its table."""

    front: frozenset[str]
    notes: tuple[Sentence, ...]


def summarise_search(plan: Plan, search: Search) -> SearchResult:
    """The result of a search so far."""
    study = plan.study
    results = evaluations(plan)
    best = pareto_front(study, results)
    shares = factor_importance(study, results)

    # How much was tried.
    distinct = len({one.label for one in results})
    remaining = future_suggestions(study, plan.known)
    more = f", {remaining} still to come" if remaining else ""
    tried = f"Search by {search.sampler}: {len(results)} suggestions, {distinct} distinct treatments{more}."

    # What the front is.
    goals = " and ".join(title_of(goal) for goal in search.objectives)
    limits = f" within {', '.join(map(str, search.limits))}" if search.limits else ""
    definition = f"On the front{limits}: no other treatment is at least as good in {goals} and better in at least one."
    if not best:
        definition += " So far no treatment has finished successfully" + (" within the limits." if limits else ".")

    notes: list[Sentence] = [(tried,), (definition,)]
    if shares:
        names = Names(study).factors
        listed = ", ".join(f"{names[path]} {share:.0%}" for path, share in shares.items())
        goal = title_of(study.metrics[search.objectives[0].name])
        notes.append(
            (f"Share of the variance of {goal} that each factor explains (fANOVA over the search): {listed}.",)
        )
    return SearchResult(frozenset(best), (*notes, (NO_TESTS,)))


def withhold(analysis: Analysis) -> Analysis:
    """The analysis with means and differences only: intervals, p-values and verdicts are removed."""
    effects = {
        label: {name: _withheld(effect) for name, effect in row.items()} for label, row in analysis.effects.items()
    }
    return replace(analysis, effects=effects, noises={}, moderation={})


def _withheld(effect: Effect) -> Effect:
    change = Change(effect.change.n, effect.change.mean, effect.change.sd)
    withheld = replace(effect, change=change, p_holm=math.nan, negligible=False)
    kept = effect.verdict in {"baseline", "pruned"} or is_trouble(effect.verdict)
    return withheld if kept else replace(withheld, verdict="not tested")


def ranked(search: Search, effects: dict[str, dict[str, Effect]], labels: Sequence[str]) -> list[str]:
    """The baseline, then the other labels by the first objective: the best first, those without a value last."""
    goal = search.objectives[0]

    def loss(label: str) -> float:
        (cost,) = losses(goal, [effects[label][goal.name].mean])
        return math.inf if math.isnan(cost) else cost

    return [labels[0], *sorted(labels[1:], key=loss)]
