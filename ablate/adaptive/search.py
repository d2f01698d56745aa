"""Searches: which treatment to try next, given the results of earlier ones.

Each suggestion is stored in a file of the study before it runs; its results are in the records. A suggestion depends
only on these two and the study's seed, so a search has no other state: after a kill it continues from there, and
suggestions that were not finished are run first.

The sampler `brute_force` takes all treatments of the grid in random order. Optuna's own brute-force sampler repeats
treatments when there are several workers, and does not stop when it is used by ask and tell.
"""

import math
from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

from ablate.adaptive.optuna_sampler import Evaluation, grid_levels, level_of, objective_value, suggest
from ablate.adaptive.pruning import read_pruned
from ablate.identity import canonical
from ablate.plan.known import Known
from ablate.plan.plan import Plan, make_plan
from ablate.plan.treatments import changed_levels, is_allowed
from ablate.plan.trials import Trial, expand, is_complete
from ablate.recipe.recipe import Recipe
from ablate.store.files import read_json, write_json
from ablate.store.folders import Store
from ablate.study.factors import Factor
from ablate.study.search import Suggestion
from ablate.study.study import Study


def read_suggestions(study: Study, store: Store) -> tuple[Suggestion, ...]:
    """The suggestions of a study's search so far, without those that its factors or constraints no longer allow."""
    if study.search is None:
        return ()
    entries = read_json(_suggestions_file(study, store)) or []
    stored = [(_current_levels(study.factors, entry["levels"]), entry["notes"]) for entry in entries]
    return tuple(Suggestion(levels, notes) for levels, notes in stored if levels and is_allowed(study, levels))


def _suggestions_file(study: Study, store: Store) -> Path:
    assert study.search is not None
    return store.study(study.name, study.variant).searched(study.search.tunes)


def future_suggestions(study: Study, known: Known) -> int:
    """The number of treatments that a search may still suggest; 0 for a study without a search."""
    if study.search is None:
        return 0
    budget = study.search.trials
    if study.search.sampler == "brute_force":
        grid_size = len(grid_levels(study))
        budget = min(budget or grid_size, grid_size)
    return max(0, (budget or 0) - 1 - len(known.searched))


def one_trial_per_level(study: Study) -> list[Trial]:
    """A trial for each level, and for both ends of each range, that a search may use; other factors as in the baseline.

    Empty for a study without a search, whose treatments are known in advance.
    """
    if study.search is None:
        return []
    return expand(replace(study, designs=("one_at_a_time",), seeds=study.seeds[:1], where=()))


class SearchSource:
    """Suggests the treatments of a study's search, and stores its suggestions."""

    def __init__(self, plan: Plan, can_build: Callable[[Recipe], bool] = lambda recipe: True):
        """`can_build`: whether the models of a recipe, which the study allows, can be built."""
        self.plan = plan
        self.can_build = can_build
        self.left = future_suggestions(plan.study, plan.known)
        """The number of treatments that may still be suggested."""

    @property
    def max_stages(self) -> int:
        """The largest number of stages that may still be suggested."""
        return self.left * len(self.plan.study.seeds) * len(self.plan.study.baseline.settings)

    def ask(self, under_way: Collection[str]) -> list[Trial]:
        """The trials of the next treatment, which may have been tried before; empty when the search has ended."""
        if not self.left:
            return []
        study = self.plan.study
        store = self.plan.store
        self._update(replace(self.plan.known, pruned=read_pruned(study, store)))
        suggestion = suggest(study, evaluations(self.plan), self.can_build)

        # Store the suggestion before it runs.
        path = _suggestions_file(study, store)
        entry = {"levels": dict(suggestion.levels), "notes": dict(suggestion.notes)}
        write_json(path, [*(read_json(path) or []), entry])

        self._update(replace(self.plan.known, searched=(*self.plan.known.searched, suggestion)))
        self.left -= 1
        changed = changed_levels(study, suggestion.levels)
        return [trial for trial in self.plan.trials if trial.treatment.changed == changed]

    def _update(self, known: Known) -> None:
        """Make the plan again if `known` has changed."""
        if known != self.plan.known:
            self.plan = make_plan(self.plan.study, self.plan.store, known)


def evaluations(plan: Plan) -> list[Evaluation]:
    """The results of the baseline and of each suggestion of a search, in order."""
    study = plan.study
    trials: dict[str, list[Trial]] = {}
    for trial in plan.trials:
        trials.setdefault(canonical(trial.treatment.changed), []).append(trial)
    baseline = Suggestion({f.path: f.levels[0] if f.at_baseline else f.choices[0] for f in study.factors})
    return [
        _evaluate(study, suggestion, trials[canonical(changed_levels(study, suggestion.levels))], plan.store)
        for suggestion in (baseline, *plan.known.searched)
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
    results = [record.metrics for record in records if record]
    goals = study.search.objectives
    values = tuple(fmean(objective_value(goal, metrics[goal.name]) for metrics in results) for goal in goals)
    excess = {
        str(limit): fmean(limit.excess(metrics[limit.metric]) for metrics in results) for limit in study.search.limits
    }
    if any(math.isnan(number) for number in (*values, *excess.values())):
        return Evaluation(label, suggestion, "failed")
    return Evaluation(label, suggestion, "done", values, excess)


def _current_levels(factors: tuple[Factor, ...], stored: dict[str, Any]) -> dict[str, Any]:
    """The levels of a stored suggestion; empty if they are not all levels of the factors as the study now has them."""
    levels = {}
    for factor in factors:
        value = stored.get(factor.path)
        if factor.range and isinstance(value, int | float) and factor.range.low <= value <= factor.range.high:
            levels[factor.path] = value
        elif factor.range is None and canonical(value) in map(canonical, factor.choices):
            levels[factor.path] = level_of(factor, canonical(value))
    return levels if levels.keys() == stored.keys() else {}
