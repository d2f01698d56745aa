"""Searches: which treatment to try next, given how those before turned out. This module alone knows Optuna.

What has been suggested is kept in the store, in a file of the study, before any of it runs; how it turned out is in the
records. A suggestion follows from these two and the study's seed, so a search has no other state: after a kill it goes
on from what is known, and what was asked for and never ended is run first.

Optuna's own brute force repeats itself beside other workers and does not end when driven by ask and tell, so here all
treatments of a grid are taken in random order instead.
"""

import random
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any, Literal

from ablate.design import allows, changes, list_rows
from ablate.factors import Factor
from ablate.identity import canonical, derive
from ablate.pruner import recall_pruned
from ablate.recipe import Recipe
from ablate.registry import Metric
from ablate.search import Search, Suggestion
from ablate.spec import Study
from ablate.store import Store, read_json, write_json
from ablate.strict_yaml import StudyError
from ablate.trials import Trial, answers, expand

if TYPE_CHECKING:
    import optuna

DIGITS = 3
"""Significant digits of a number from a range, so that a table can show the level that was used."""
TRIES = 100
"""How often a sampler is asked for a treatment that the study allows and that has not been tried.

The second half of the tries are random: a sampler that learns may see the best in what is forbidden, always again.
"""
POPULATION = 12
"""Treatments of a generation of NSGA-II: with Optuna's 50, a search of fifty short runs would be a random one."""


@dataclass(frozen=True)
class Told:
    """How a suggestion turned out: means over seeds. `excess`: limit -> how far beyond it, kept where 0 or less."""

    label: str
    suggestion: Suggestion
    status: Literal["done", "failed", "under way", "pruned"]
    values: tuple[float, ...] = ()
    excess: dict[str, float] = field(default_factory=dict)


def known(study: Study, store: Store) -> Study:
    """The study with what its search has suggested so far, as far as its factors and constraints still allow it, and
    with the treatments that were pruned."""
    study = recall_pruned(study, store)
    if study.search is None:
        return study
    entries = read_json(_ledger(study, store)) or []
    read = [(_levels(study.factors, entry["levels"]), entry["notes"]) for entry in entries]
    found = [Suggestion(levels, notes) for levels, notes in read if levels and allows(study, levels)]
    return replace(study, searched=tuple(found))


def _ledger(study: Study, store: Store) -> Path:
    return store.study(study.name, study.scale).searched(study.tunes)


def to_come(study: Study) -> int:
    """How many treatments a search may still suggest; 0 for a study that does not search."""
    if study.search is None:
        return 0
    budget = study.search.trials
    if study.search.sampler == "brute_force":
        there = len(_cells(study))
        budget = min(budget or there, there)
    return max(0, (budget or 0) - 1 - len(study.searched))


def each_level(study: Study) -> list[Trial]:
    """A trial with each level and each end of a range that a search may come to, the rest as in the baseline.

    None for a study that does not search: its treatments are known.
    """
    if study.search is None:
        return []
    alone = replace(study, designs=("one_at_a_time",), seeds=study.seeds[:1], where=())
    return expand(alone)


class Explorer:
    """Suggests treatments of a study that searches, and keeps what it has suggested in the store."""

    def __init__(self, study: Study, store: Store, fits: Callable[[Recipe], bool] = lambda recipe: True):
        """`fits`: whether a recipe, which the study allows, can be built at all."""
        self.study, self.store, self.fits = known(study, store), store, fits
        self.left = to_come(self.study)
        """How many treatments may still come."""

    @property
    def most(self) -> int:
        """How many stages may still come at most."""
        return self.left * len(self.study.seeds) * len(self.study.baseline.settings)

    def ask(self, under_way: Collection[str]) -> list[Trial]:
        """The trials of the next treatment, which may be one that was tried before; none when the search is over."""
        if not self.left:
            return []
        self.study = recall_pruned(self.study, self.store)
        suggestion = propose(self.study, history(self.study, self.store), self.fits)
        ledger = _ledger(self.study, self.store)
        entry = {"levels": dict(suggestion.levels), "notes": dict(suggestion.notes)}
        write_json(ledger, [*(read_json(ledger) or []), entry])
        self.study = replace(self.study, searched=(*self.study.searched, suggestion))
        self.left -= 1
        changed = changes(self.study, suggestion.levels)
        return [trial for trial in expand(self.study) if trial.treatment.changed == changed]


def history(study: Study, store: Store) -> list[Told]:
    """How each suggestion turned out, in the order in which they were made; the baseline is the first."""
    trials: dict[str, list[Trial]] = {}
    for trial in expand(study):
        trials.setdefault(canonical(trial.treatment.changed), []).append(trial)
    first = Suggestion({f.path: f.levels[0] if f.at_baseline else f.choices[0] for f in study.factors})
    return [
        _outcome(study, one, trials[canonical(changes(study, one.levels))], store) for one in (first, *study.searched)
    ]


def _outcome(study: Study, suggestion: Suggestion, trials: list[Trial], store: Store) -> Told:
    assert study.search is not None
    label = trials[0].treatment.label
    if trials[0].pruned:
        return Told(label, suggestion, "pruned")
    folders = [store.stage(trial.signature) for trial in trials]
    records = [folder.record() for folder in folders]
    if any(record and record.status == "diverged" for record in records):
        return Told(label, suggestion, "failed")
    if not all(answers(record, trial) for record, trial in zip(records, trials, strict=True)):
        return Told(label, suggestion, "failed" if any(folder.failure() for folder in folders) else "under way")
    metrics = [record.metrics for record in records if record]
    values = tuple(fmean(loss(goal, found[goal.name]) for found in metrics) for goal in study.search.objectives)
    excess = {
        str(limit): fmean(limit.excess(found[limit.metric]) for found in metrics) for limit in study.search.limits
    }
    if any(number != number for number in (*values, *excess.values())):
        return Told(label, suggestion, "failed")
    return Told(label, suggestion, "done", values, excess)


def loss(goal: Metric, value: float) -> float:
    """What is optimised: the metric itself or, where it has a target, its distance to that."""
    return abs(value - goal.target) if goal.direction == "target" else value


def propose(study: Study, told: list[Told], fits: Callable[[Recipe], bool] = lambda recipe: True) -> Suggestion:
    """The next treatment to try; one that was tried before if nothing else comes up.

    Raises StudyError where the study forbids all that comes up.
    """
    assert study.search is not None
    tried = {canonical(changes(study, one.suggestion.levels)) for one in told}
    repeated = None
    if study.search.sampler == "brute_force":
        rest = [levels for levels in _cells(study) if canonical(changes(study, levels)) not in tried]
        return Suggestion(random.Random(derive(study.seeds[0], "search", len(told))).choice(rest))
    told = _failures_as_worst(study.search, told)
    at_random = replace(study, search=replace(study.search, sampler="random"))
    for attempt in range(TRIES):
        asking = study if attempt < TRIES // 2 else at_random
        optimiser = _optimiser(asking, told, derive(study.seeds[0], "search", len(told), attempt) % 2**32)
        asked = optimiser.ask({factor.path: _distribution(factor) for factor in study.factors})
        levels = {factor.path: _level(factor, asked.params[factor.path]) for factor in study.factors}
        if allows(study, levels) and fits(study.recipe(changes(study, levels))):
            notes = optimiser.trials[-1].system_attrs if study.search.sampler == "nsga2" else {}
            repeated = Suggestion(levels, notes)
            if canonical(changes(study, levels)) not in tried:
                return repeated
    if repeated:
        return repeated
    message = f"search: of {TRIES} suggestions in a row, none was a treatment that can be built and is allowed"
    raise StudyError([study.document.problem(("search",), message)])


def _failures_as_worst(search: Search, told: list[Told]) -> list[Told]:
    """Failed and diverged treatments told as the worst of the others, beyond every limit.

    Samplers pass over what has failed, so that they would ask for its kind again and again.
    """
    done = [one for one in told if one.status == "done"]
    if not done:
        return told
    worst = [min if goal.direction == "up" else max for goal in search.objectives]
    values = tuple([pick(one.values[i] for one in done) for i, pick in enumerate(worst)])
    excess = {name: max(1.0, *(one.excess[name] for one in done)) for name in done[0].excess}
    return [
        replace(one, status="done", values=values, excess=excess) if one.status == "failed" else one for one in told
    ]


def front(study: Study, told: list[Told]) -> set[str]:
    """Labels of the treatments that keep all limits and that no other one of those beats in every objective."""
    return {told[best.number].label for best in _optimiser(study, told, 0).best_trials}


def importance(study: Study, told: list[Told]) -> dict[str, float]:
    """Factor -> its share of the first objective's variance, the most important first.

    By fANOVA (Hutter et al., "An Efficient Approach for Assessing Hyperparameter Importance", 2014). Empty where fewer
    treatments have ended than a forest can learn from, or where all ended alike.
    """
    import math

    from optuna.importance import FanovaImportanceEvaluator, get_param_importances

    values = {one.values[0] for one in told if one.status == "done" and math.isfinite(one.values[0])}
    if len(values) < 10:
        return {}
    evaluator = FanovaImportanceEvaluator(seed=0)
    optimiser = _optimiser(study, told, 0)
    shares = get_param_importances(optimiser, evaluator=evaluator, target=lambda trial: trial.values[0])
    return {path: float(share) for path, share in shares.items()}


def _optimiser(study: Study, told: list[Told], seed: int) -> "optuna.Study":
    """An Optuna study that has been told all of it."""
    import optuna

    assert study.search is not None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    directions = ["maximize" if goal.direction == "up" else "minimize" for goal in study.search.objectives]
    optimiser = optuna.create_study(directions=directions, sampler=_sampler(study.search, seed))
    ended = optuna.trial.TrialState
    states = {"done": ended.COMPLETE, "failed": ended.FAIL, "pruned": ended.PRUNED}
    space = {factor.path: _distribution(factor) for factor in study.factors}
    for one in told:
        params = {factor.path: _parameter(factor, one.suggestion.levels[factor.path]) for factor in study.factors}
        optimiser.add_trial(
            optuna.trial.create_trial(
                state=states.get(one.status, optuna.trial.TrialState.RUNNING),
                values=one.values or None,
                params=params,
                distributions=space,
                system_attrs=dict(one.suggestion.notes),
                constraints=one.excess,
            )
        )
    return optimiser


def _sampler(search: Search, seed: int) -> "optuna.samplers.BaseSampler":
    import optuna

    if search.sampler == "tpe":
        return optuna.samplers.TPESampler(seed=seed)
    if search.sampler == "nsga2":
        return optuna.samplers.NSGAIISampler(population_size=POPULATION, seed=seed)
    return optuna.samplers.RandomSampler(seed=seed)


def _distribution(factor: Factor) -> "optuna.distributions.BaseDistribution":
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if factor.range is None:
        return CategoricalDistribution([canonical(level) for level in factor.choices])
    low, high, log = factor.range.low, factor.range.high, factor.range.log
    if isinstance(factor.levels[-1], int):
        return IntDistribution(int(low), int(high), log=log)
    return FloatDistribution(low, high, log=log)


def _parameter(factor: Factor, level: Any) -> Any:
    """A level as Optuna knows it: a number of a range, else text."""
    return level if factor.range else canonical(level)


def _level(factor: Factor, parameter: Any) -> Any:
    """The level that Optuna's parameter stands for."""
    if factor.range is None:
        return next(level for level in factor.choices if canonical(level) == parameter)
    if isinstance(parameter, int):
        return parameter
    return min(max(float(f"{parameter:.{DIGITS}g}"), factor.range.low), factor.range.high)


def _levels(factors: tuple[Factor, ...], kept: dict[str, Any]) -> dict[str, Any]:
    """A suggestion as it was kept, in terms of the factors as they are now; empty if it lies outside of them."""
    found = {}
    for factor in factors:
        value = kept.get(factor.path)
        if factor.range and isinstance(value, int | float) and factor.range.low <= value <= factor.range.high:
            found[factor.path] = value
        elif factor.range is None and canonical(value) in map(canonical, factor.choices):
            found[factor.path] = _level(factor, canonical(value))
    return found if found.keys() == kept.keys() else {}


def _cells(study: Study) -> list[dict[str, Any]]:
    """A level for each factor, of all treatments that there are."""
    baseline = {factor.path: factor.levels[0] for factor in study.factors}
    rows = list_rows(replace(study, designs=("grid",))).rows.values()
    cells = [{**baseline, **first.changed} for first, *_ in rows]
    return [levels for levels in cells if allows(study, levels)]
