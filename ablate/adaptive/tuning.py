"""Fair tuning: the nuisance settings of every treatment are tuned with the same budget.

The tuning of a treatment is a small search whose baseline is that treatment and whose factors are the nuisance
settings. It uses other seeds than the trials of the table, so settings that won by a lucky seed have no advantage
there. Its suggestions depend only on its own results, not on other treatments or the number of workers: if the sampler
learns from results, a treatment has only one suggestion under way at a time.
"""

import copy
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from ablate.adaptive.search import SearchSource, evaluations, future_suggestions, read_suggestions
from ablate.identity import canonical, signature
from ablate.plan.known import Known
from ablate.plan.plan import Plan, make_plan
from ablate.plan.treatments import Levels, Treatment
from ablate.plan.trials import Trial, pending
from ablate.recipe.paths import assign
from ablate.store.folders import Store
from ablate.study.search import Search
from ablate.study.study import Study

LEARNING = {"tpe", "nsga2"}
"""Samplers whose suggestions depend on results."""


def plan_tuning(study: Study, changed: Levels, store: Store) -> Plan:
    """The plan of the tuning of the treatment with these changed levels, including its suggestions so far."""
    search = tuning_search(study, changed)
    return make_plan(search, store, Known(searched=read_suggestions(search, store)))


def tuning_search(study: Study, changed: Levels) -> Study:
    """The tuning of the treatment with these changed levels, as a study with a search."""
    assert study.tuning is not None
    raw = copy.deepcopy(study.raw)
    for path, level in changed.items():
        assign(raw, path, level)
    goals = (study.metrics[study.primary],)
    search = Search(study.tuning.sampler, study.tuning.trials, goals, (), tunes=signature(changed))
    return replace(
        study, raw=raw, baseline=study.recipe(changed), factors=study.tuning.factors, designs=("search",),
        listed=(), where=(), fraction=None, seeds=study.tuning.seeds, search=search, tuning=None, pruning=None,
        seed_bounds=None,
    )  # fmt: skip


def tuned_levels(tuning: Plan) -> Mapping[str, Any] | None:
    """The nuisance levels with the best result in a tuning, the first of equals; None until the tuning has ended.

    If all trials have diverged, these are the levels of the study file, with which the treatment's trials will show
    that it diverges.
    """
    assert tuning.study.search is not None
    if future_suggestions(tuning.study, tuning.known) or pending(tuning.trials, tuning.store):
        return None
    results = evaluations(tuning)
    sign = -1 if tuning.study.search.objectives[0].direction == "up" else 1
    done = (result for result in results if result.status == "done")
    best = min(done, key=lambda result: sign * result.values[0], default=results[0])
    return best.suggestion.levels


def with_tuning(plan: Plan, tunings: Mapping[str, Plan]) -> Plan:
    """The plan with its tuning trials: the first of every treatment, then the second of every treatment, and so on.

    `tunings`: changed levels of a treatment, as canonical text -> the plan of its tuning.
    """
    by_label = {row.label: tunings[canonical(row.changed)] for row in plan.treatments}
    by_treatment = [trials_of_tuning(row, tunings[canonical(row.changed)]) for row in plan.treatments]
    longest = max(map(len, by_treatment))
    alternating = [trial for i in range(longest) for trials in by_treatment for trial in trials[i : i + 1]]
    return replace(plan, tuning_trials=alternating, tuning_plans=by_label)


def trials_of_tuning(row: Treatment, tuning: Plan) -> list[Trial]:
    """The trials of a treatment's tuning, as trials of that treatment with other nuisance settings."""
    defaults = {factor.path: factor.levels[0] for factor in tuning.study.factors}
    trials = []
    for trial in tuning.trials:
        nuisance = {**defaults, **trial.treatment.changed}
        treatment = replace(row, recipe=trial.treatment.recipe, nuisance=nuisance)
        trials.append(replace(trial, treatment=treatment, role="tuning"))
    return trials


def future_trials(plan: Plan) -> int:
    """The largest number of trials that results may still add, because their settings are not known yet."""
    study = plan.study
    if study.tuning is None:
        return future_suggestions(study, plan.known) * len(study.seeds)
    untuned = sum(row.nuisance is None for row in plan.treatments)
    more = sum(future_suggestions(tuning.study, tuning.known) for tuning in plan.tuning_plans.values())
    return untuned * len(study.seeds) + more * len(study.tuning.seeds)


class TuningSource:
    """Suggests tuning trials and, when the tuning of a treatment has ended, the treatment's trials for the table.

    If a tuning trial fails, its treatment gets no further trials until the next sweep.
    """

    def __init__(self, plan: Plan):
        self.plan = plan
        self.searches = {
            row.label: (row, SearchSource(plan.tuning_plans[row.label]))
            for row in plan.treatments
            if row.nuisance is None
        }
        """Label -> treatment and search, for each treatment whose tuning has not ended."""

    @property
    def left(self) -> int:
        """The number of treatments that are still to be tuned."""
        return len(self.searches)

    @property
    def max_stages(self) -> int:
        """The largest number of stages that may still be suggested."""
        table = self.left * len(self.plan.study.seeds) * len(self.plan.study.baseline.settings)
        return table + sum(search.max_stages for _, search in self.searches.values())

    def ask(self, under_way: Collection[str]) -> list[Trial]:
        """The next trials, of the first treatment that has any now; empty if there are none."""
        assert self.plan.study.tuning is not None
        for label, (row, search) in list(self.searches.items()):
            unfinished = pending(search.plan.trials, self.plan.store)

            # The next suggestion of the tuning
            if search.left and not (unfinished and self.plan.study.tuning.sampler in LEARNING):
                suggested = {trial.signature for trial in search.ask(under_way)}
                return [trial for trial in trials_of_tuning(row, search.plan) if trial.signature in suggested]

            # The trials of the table, if the tuning has ended; none if some of its trials failed
            if not any(trial.signature in under_way for trial in unfinished):
                del self.searches[label]
                if not unfinished and (levels := tuned_levels(search.plan)) is not None:
                    return self._table_trials(row, levels)
        return []

    def _table_trials(self, row: Treatment, levels: Mapping[str, Any]) -> list[Trial]:
        """The trials of a treatment for the table, with these nuisance levels."""
        plan = self.plan
        known = replace(plan.known, tuned={**plan.known.tuned, canonical(row.changed): levels})
        new_plan = make_plan(plan.study, plan.store, known, plan.listing)
        self.plan = replace(new_plan, tuning_plans=plan.tuning_plans)
        return [trial for trial in self.plan.trials if trial.treatment.label == row.label]
