"""Searches: which treatment to try next, given the results of those before.

What has been suggested is kept in the store, in a file of the study, before any of it runs; its results are in the
records. A suggestion follows from these two and the study's seed, so a search has no other state: after a kill it goes
on from what is known, and what was asked for and never ended is run first.

Optuna's own brute force repeats itself beside other workers and does not end when driven by ask and tell, so here all
treatments of a grid are taken in random order instead.
"""

from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

from ablate.adaptive.optuna_sampler import Evaluation, grid_levels, level_of, loss, suggest
from ablate.adaptive.pruning import read_pruned
from ablate.identity import canonical
from ablate.plan.known import Known
from ablate.plan.plan import Plan, make_plan
from ablate.plan.treatments import changes, is_allowed
from ablate.plan.trials import Trial, expand, is_complete
from ablate.recipe.recipe import Recipe
from ablate.store.files import read_json, write_json
from ablate.store.folders import Store
from ablate.study.factors import Factor
from ablate.study.search import Suggestion
from ablate.study.study import Study


def read_suggestions(study: Study, store: Store) -> tuple[Suggestion, ...]:
    """What a study's search has suggested so far, as far as its factors and constraints still allow it."""
    if study.search is None:
        return ()
    entries = read_json(_ledger(study, store)) or []
    read = [(_levels(study.factors, entry["levels"]), entry["notes"]) for entry in entries]
    return tuple(Suggestion(levels, notes) for levels, notes in read if levels and is_allowed(study, levels))


def _ledger(study: Study, store: Store) -> Path:
    assert study.search is not None
    return store.study(study.name, study.scale).searched(study.search.tunes)


def future_suggestions(study: Study, known: Known) -> int:
    """How many treatments a search may still suggest; 0 for a study that does not search."""
    if study.search is None:
        return 0
    budget = study.search.trials
    if study.search.sampler == "brute_force":
        there = len(grid_levels(study))
        budget = min(budget or there, there)
    return max(0, (budget or 0) - 1 - len(known.searched))


def one_trial_per_level(study: Study) -> list[Trial]:
    """A trial with each level and each end of a range that a search may come to, the rest as in the baseline.

    None for a study that does not search: its treatments are known.
    """
    if study.search is None:
        return []
    alone = replace(study, designs=("one_at_a_time",), seeds=study.seeds[:1], where=())
    return expand(alone)


class SearchSource:
    """Suggests treatments of a study that searches, and keeps what it has suggested in the store."""

    def __init__(self, plan: Plan, fits: Callable[[Recipe], bool] = lambda recipe: True):
        """`fits`: whether a recipe, which the study allows, can be built at all."""
        self.plan = plan
        self.fits = fits
        self.left = future_suggestions(plan.study, plan.known)
        """How many treatments may still come."""

    @property
    def most(self) -> int:
        """How many stages may still come at most."""
        return self.left * len(self.plan.study.seeds) * len(self.plan.study.baseline.settings)

    def ask(self, under_way: Collection[str]) -> list[Trial]:
        """The trials of the next treatment, which may be one that was tried before; none when the search is over."""
        if not self.left:
            return []
        study, store = self.plan.study, self.plan.store
        self._learn(replace(self.plan.known, pruned=read_pruned(study, store)))
        suggestion = suggest(study, evaluations(self.plan), self.fits)

        # The store has the suggestion before anything of it runs.
        ledger = _ledger(study, store)
        entry = {"levels": dict(suggestion.levels), "notes": dict(suggestion.notes)}
        write_json(ledger, [*(read_json(ledger) or []), entry])

        self._learn(replace(self.plan.known, searched=(*self.plan.known.searched, suggestion)))
        self.left -= 1
        changed = changes(study, suggestion.levels)
        return [trial for trial in self.plan.trials if trial.treatment.changed == changed]

    def _learn(self, known: Known) -> None:
        """Plan anew if something has been added to what is known."""
        if known != self.plan.known:
            self.plan = make_plan(self.plan.study, self.plan.store, known)


def evaluations(plan: Plan) -> list[Evaluation]:
    """The results of each suggestion of a search, in the order in which they were made; the baseline is the first."""
    study = plan.study
    trials: dict[str, list[Trial]] = {}
    for trial in plan.trials:
        trials.setdefault(canonical(trial.treatment.changed), []).append(trial)
    first = Suggestion({f.path: f.levels[0] if f.at_baseline else f.choices[0] for f in study.factors})
    return [
        _evaluate(study, one, trials[canonical(changes(study, one.levels))], plan.store)
        for one in (first, *plan.known.searched)
    ]


def _evaluate(study: Study, suggestion: Suggestion, trials: list[Trial], store: Store) -> Evaluation:
    assert study.search is not None
    label = trials[0].treatment.label
    if trials[0].pruned:
        return Evaluation(label, suggestion, "pruned")
    folders = [store.stage(trial.signature) for trial in trials]
    records = [folder.record() for folder in folders]
    if any(record and record.status == "diverged" for record in records):
        return Evaluation(label, suggestion, "failed")
    if not all(is_complete(record, trial) for record, trial in zip(records, trials, strict=True)):
        return Evaluation(label, suggestion, "failed" if any(folder.failure() for folder in folders) else "under way")
    metrics = [record.metrics for record in records if record]
    values = tuple(fmean(loss(goal, found[goal.name]) for found in metrics) for goal in study.search.objectives)
    excess = {
        str(limit): fmean(limit.excess(found[limit.metric]) for found in metrics) for limit in study.search.limits
    }
    if any(number != number for number in (*values, *excess.values())):
        return Evaluation(label, suggestion, "failed")
    return Evaluation(label, suggestion, "done", values, excess)


def _levels(factors: tuple[Factor, ...], kept: dict[str, Any]) -> dict[str, Any]:
    """A suggestion as it was kept, in terms of the factors as they are now; empty if it lies outside of them."""
    found = {}
    for factor in factors:
        value = kept.get(factor.path)
        if factor.range and isinstance(value, int | float) and factor.range.low <= value <= factor.range.high:
            found[factor.path] = value
        elif factor.range is None and canonical(value) in map(canonical, factor.choices):
            found[factor.path] = level_of(factor, canonical(value))
    return found if found.keys() == kept.keys() else {}
