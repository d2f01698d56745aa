"""Fair tuning: each treatment's nuisance settings are searched for at one budget, and the best are confirmed.

The tuning of a treatment is a small search (`suggest`) whose baseline is that treatment and whose factors are the
nuisance settings. It sees other seeds than the rows of the table, so that what was chosen for its luck with a seed has
no such luck in the table. What it suggests follows from its own results alone and not from what other treatments did,
nor from the number of workers: where the sampler learns, one suggestion of a treatment is under way at a time.
"""

import copy
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from ablate.adaptive.search import Explorer, history, known, to_come
from ablate.identity import canonical, signature
from ablate.plan.treatments import Treatment, treatments
from ablate.plan.trials import Trial, expand, pending
from ablate.recipe.paths import assign
from ablate.store.files import read_json
from ablate.store.folders import Store
from ablate.study.search import Search
from ablate.study.study import Study

LEARNING = {"tpe", "nsga2"}
"""Samplers whose suggestions depend on results."""


def recall(study: Study, store: Store) -> Study:
    """The study as far as it has come: what its search has suggested, its tuning has chosen and its pruning has
    stopped, and how many seeds its treatments have."""
    study = known(study, store)
    if study.seed_bounds:
        study = replace(study, replicates=read_json(store.study(study.name, study.scale).replicates) or {})
    if study.tuning is None:
        return study
    chosen = {canonical(row.changed): chosen_by(tuning_of(study, row, store), store) for row in treatments(study)}
    return replace(study, tuned={mark: levels for mark, levels in chosen.items() if levels is not None})


def tuning_of(study: Study, row: Treatment, store: Store) -> Study:
    """The tuning of a treatment as a study that searches, with what it has suggested so far."""
    assert study.tuning is not None
    raw = copy.deepcopy(study.raw)
    for path, level in row.changed.items():
        assign(raw, path, level)
    search = Search(study.tuning.sampler, study.tuning.trials, (study.metrics[study.primary],), ())
    inner = replace(
        study, raw=raw, baseline=study.recipe(row.changed), factors=study.tuning.factors, designs=("search",),
        listed=(), where=(), fraction=None, seeds=study.tuning.seeds, search=search, tuning=None, tuned={},
        pruning=None, pruned={}, seed_bounds=None,
        tunes=signature(row.changed),
    )  # fmt: skip
    return known(inner, store)


def chosen_by(tuning: Study, store: Store) -> Mapping[str, Any] | None:
    """The levels that did best in a tuning, the first of equals; None as long as it has not ended.

    Where all trials have diverged, the file's own levels: that the treatment diverges is its result.
    """
    assert tuning.search is not None
    if to_come(tuning) or pending(expand(tuning), store):
        return None
    told = history(tuning, store)
    sign = -1 if tuning.search.objectives[0].direction == "up" else 1
    best = min((one for one in told if one.status == "done"), key=lambda one: sign * one.values[0], default=told[0])
    return best.suggestion.levels


def tuning_trials(study: Study, store: Store) -> list[Trial]:
    """The trials that the study's tuning is known to need: those with the file's own levels, and what was suggested."""
    if study.tuning is None:
        return []
    found = [_of(row, tuning_of(study, row, store)) for row in treatments(study)]
    return [trial for i in range(max(map(len, found))) for trials in found for trial in trials[i : i + 1]]


def known_trials(study: Study, store: Store) -> list[Trial]:
    """The trials of a study whose settings are known by now, those of its tuning included."""
    rows = [trial for trial in expand(study) if trial.treatment.nuisance is not None]
    return [*tuning_trials(study, store), *rows]


def trials_to_come(study: Study, store: Store) -> int:
    """How many trials there may still be whose settings are not known yet."""
    if study.tuning is None:
        return to_come(study) * len(study.seeds)
    rows = treatments(study)
    untuned = sum(row.nuisance is None for row in rows)
    more = sum(to_come(tuning_of(study, row, store)) for row in rows)
    return untuned * len(study.seeds) + more * len(study.tuning.seeds)


def _of(row: Treatment, tuning: Study) -> list[Trial]:
    """The trials of a treatment's tuning, as trials of that treatment."""
    found = []
    for trial in expand(tuning):
        nuisance = {**{factor.path: factor.levels[0] for factor in tuning.factors}, **trial.treatment.changed}
        treatment = replace(row, recipe=trial.treatment.recipe, nuisance=nuisance)
        found.append(replace(trial, treatment=treatment, role="tuning"))
    return found


class Tuner:
    """Hands out what tuning suggests and, as the tuning of a treatment ends, the trials of its row in the table.

    A treatment one of whose tuning trials has failed is given up until the next sweep.
    """

    def __init__(self, study: Study, store: Store):
        self.study, self.store = study, store
        self.explorers = {
            row.label: (row, Explorer(tuning_of(study, row, store), store))
            for row in treatments(study)
            if row.nuisance is None
        }
        """Of the treatments whose tuning has not ended."""

    @property
    def left(self) -> int:
        """How many treatments are still to be tuned."""
        return len(self.explorers)

    @property
    def most(self) -> int:
        """How many stages may still come at most."""
        rows = self.left * len(self.study.seeds) * len(self.study.baseline.settings)
        return rows + sum(explorer.most for _, explorer in self.explorers.values())

    def ask(self, under_way: Collection[str]) -> list[Trial]:
        """The next trials: of the first treatment that has any now."""
        assert self.study.tuning is not None
        for label, (row, explorer) in list(self.explorers.items()):
            missing = pending(expand(explorer.study), self.store)
            running = [trial for trial in missing if trial.signature in under_way]
            if explorer.left and not (missing and self.study.tuning.sampler in LEARNING):
                asked = {trial.signature for trial in explorer.ask(under_way)}
                return [trial for trial in _of(row, explorer.study) if trial.signature in asked]
            if not running:
                del self.explorers[label]
                self.study = recall(self.study, self.store)
                if not missing:
                    return [trial for trial in expand(self.study) if trial.treatment.label == label]
        return []
