"""Fair tuning: each treatment's nuisance settings are searched for at one budget, and the best are confirmed.

The tuning of a treatment is a small search whose baseline is that treatment and whose factors are the nuisance
settings. It uses other seeds than the rows of the table: settings that won by a lucky seed have no such luck there. Its
suggestions follow from its own results alone, not from those of other treatments or the number of workers: where the
sampler learns, a treatment has one suggestion under way at a time.
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
    """The plan of the tuning of the treatment with these changed levels, with what it has suggested so far."""
    assert study.tuning is not None
    raw = copy.deepcopy(study.raw)
    for path, level in changed.items():
        assign(raw, path, level)
    goals = (study.metrics[study.primary],)
    search = Search(study.tuning.sampler, study.tuning.trials, goals, (), tunes=signature(changed))
    inner = replace(
        study, raw=raw, baseline=study.recipe(changed), factors=study.tuning.factors, designs=("search",),
        listed=(), where=(), fraction=None, seeds=study.tuning.seeds, search=search, tuning=None, pruning=None,
        seed_bounds=None,
    )  # fmt: skip
    return make_plan(inner, store, Known(searched=read_suggestions(inner, store)))


def tuned_levels(tuning: Plan) -> Mapping[str, Any] | None:
    """The levels that did best in a tuning, the first of equals; None as long as it has not ended.

    Where all trials have diverged, the file's own levels: that the treatment diverges is its result.
    """
    assert tuning.study.search is not None
    if future_suggestions(tuning.study, tuning.known) or pending(tuning.trials, tuning.store):
        return None
    results = evaluations(tuning)
    sign = -1 if tuning.study.search.objectives[0].direction == "up" else 1
    done = (one for one in results if one.status == "done")
    best = min(done, key=lambda one: sign * one.values[0], default=results[0])
    return best.suggestion.levels


def with_tuning(plan: Plan, tunings: Mapping[str, Plan]) -> Plan:
    """A plan with the trials of its treatments' tunings: the first of every treatment, then the second, and so on."""
    by_treatment = [trials_of_tuning(row, tunings[canonical(row.changed)]) for row in plan.treatments]
    longest = max(map(len, by_treatment))
    in_turn = [trial for i in range(longest) for trials in by_treatment for trial in trials[i : i + 1]]
    labelled = {row.label: tunings[canonical(row.changed)] for row in plan.treatments}
    return replace(plan, tuning=in_turn, tunings=labelled)


def trials_of_tuning(row: Treatment, tuning: Plan) -> list[Trial]:
    """The trials of a treatment's tuning, as trials of that treatment."""
    own = {factor.path: factor.levels[0] for factor in tuning.study.factors}
    found = []
    for trial in tuning.trials:
        nuisance = {**own, **trial.treatment.changed}
        treatment = replace(row, recipe=trial.treatment.recipe, nuisance=nuisance)
        found.append(replace(trial, treatment=treatment, role="tuning"))
    return found


def future_trials(plan: Plan) -> int:
    """How many trials there may still be whose settings are not known yet."""
    study = plan.study
    if study.tuning is None:
        return future_suggestions(study, plan.known) * len(study.seeds)
    untuned = sum(row.nuisance is None for row in plan.treatments)
    more = sum(future_suggestions(tuning.study, tuning.known) for tuning in plan.tunings.values())
    return untuned * len(study.seeds) + more * len(study.tuning.seeds)


class TuningSource:
    """Hands out what tuning suggests and, as the tuning of a treatment ends, the trials of its row in the table.

    A treatment one of whose tuning trials has failed is given up until the next sweep.
    """

    def __init__(self, plan: Plan):
        self.plan = plan
        self.explorers = {
            row.label: (row, SearchSource(plan.tunings[row.label])) for row in plan.treatments if row.nuisance is None
        }
        """Of the treatments whose tuning has not ended."""

    @property
    def left(self) -> int:
        """How many treatments are still to be tuned."""
        return len(self.explorers)

    @property
    def most(self) -> int:
        """How many stages may still come at most."""
        rows = self.left * len(self.plan.study.seeds) * len(self.plan.study.baseline.settings)
        return rows + sum(explorer.most for _, explorer in self.explorers.values())

    def ask(self, under_way: Collection[str]) -> list[Trial]:
        """The next trials: of the first treatment that has any now."""
        assert self.plan.study.tuning is not None
        for label, (row, explorer) in list(self.explorers.items()):
            missing = pending(explorer.plan.trials, self.plan.store)
            running = [trial for trial in missing if trial.signature in under_way]
            if explorer.left and not (missing and self.plan.study.tuning.sampler in LEARNING):
                asked = {trial.signature for trial in explorer.ask(under_way)}
                return [trial for trial in trials_of_tuning(row, explorer.plan) if trial.signature in asked]
            if not running:
                del self.explorers[label]
                if not missing and (levels := tuned_levels(explorer.plan)) is not None:
                    return self._rows_of(row, levels)
        return []

    def _rows_of(self, row: Treatment, levels: Mapping[str, Any]) -> list[Trial]:
        """The trials of a treatment in the table, with its nuisance settings chosen."""
        plan = self.plan
        known = replace(plan.known, tuned={**plan.known.tuned, canonical(row.changed): levels})
        self.plan = replace(make_plan(plan.study, plan.store, known, plan.listing), tunings=plan.tunings)
        return [trial for trial in self.plan.trials if trial.treatment.label == row.label]
