"""Optuna, by ask and tell: what a search or a tuning tries next. No other module imports Optuna."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from ablate.errors import StudyError
from ablate.identity import canonical, derive
from ablate.plan.treatments import changes, is_allowed, list_rows
from ablate.recipe.recipe import Recipe
from ablate.slots.settings import Metric
from ablate.study.factors import Factor
from ablate.study.search import Search, Suggestion
from ablate.study.study import Study

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
class Evaluation:
    """How a suggestion turned out: means over seeds. `excess`: limit -> how far beyond it, kept where 0 or less."""

    label: str
    suggestion: Suggestion
    status: Literal["done", "failed", "under way", "pruned"]
    values: tuple[float, ...] = ()
    excess: dict[str, float] = field(default_factory=dict)


def loss(goal: Metric, value: float) -> float:
    """What is optimised: the metric itself or, where it has a target, its distance to that."""
    return abs(value - goal.target) if goal.direction == "target" else value


def suggest(study: Study, told: list[Evaluation], fits: Callable[[Recipe], bool] = lambda recipe: True) -> Suggestion:
    """The next treatment to try; one that was tried before if nothing else comes up.

    Raises StudyError where the study forbids all that comes up.
    """
    assert study.search is not None
    tried = {canonical(changes(study, one.suggestion.levels)) for one in told}
    repeated = None
    if study.search.sampler == "brute_force":
        rest = [levels for levels in grid_levels(study) if canonical(changes(study, levels)) not in tried]
        return Suggestion(random.Random(derive(study.seeds[0], "search", len(told))).choice(rest))
    told = _failures_as_worst(study.search, told)
    at_random = replace(study, search=replace(study.search, sampler="random"))
    for attempt in range(TRIES):
        asking = study if attempt < TRIES // 2 else at_random
        optimiser = _optimiser(asking, told, derive(study.seeds[0], "search", len(told), attempt) % 2**32)
        asked = optimiser.ask({factor.path: _distribution(factor) for factor in study.factors})
        levels = {factor.path: level_of(factor, asked.params[factor.path]) for factor in study.factors}
        if is_allowed(study, levels) and fits(study.recipe(changes(study, levels))):
            notes = optimiser.trials[-1].system_attrs if study.search.sampler == "nsga2" else {}
            repeated = Suggestion(levels, notes)
            if canonical(changes(study, levels)) not in tried:
                return repeated
    if repeated:
        return repeated
    message = f"search: of {TRIES} suggestions in a row, none was a treatment that can be built and is allowed"
    raise StudyError([study.document.problem(("search",), message)])


def _failures_as_worst(search: Search, told: list[Evaluation]) -> list[Evaluation]:
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


def pareto_front(study: Study, told: list[Evaluation]) -> set[str]:
    """Labels of the treatments that keep all limits and that no other one of those beats in every objective."""
    return {told[best.number].label for best in _optimiser(study, told, 0).best_trials}


def factor_importance(study: Study, told: list[Evaluation]) -> dict[str, float]:
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


def _optimiser(study: Study, told: list[Evaluation], seed: int) -> "optuna.Study":
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


def level_of(factor: Factor, parameter: Any) -> Any:
    """The level that Optuna's parameter stands for."""
    if factor.range is None:
        return next(level for level in factor.choices if canonical(level) == parameter)
    if isinstance(parameter, int):
        return parameter
    return min(max(float(f"{parameter:.{DIGITS}g}"), factor.range.low), factor.range.high)


def grid_levels(study: Study) -> list[dict[str, Any]]:
    """A level for each factor, of all treatments that there are."""
    baseline = {factor.path: factor.levels[0] for factor in study.factors}
    rows = list_rows(replace(study, designs=("grid",))).rows.values()
    every = [{**baseline, **first.changed} for first, *_ in rows]
    return [levels for levels in every if is_allowed(study, levels)]
