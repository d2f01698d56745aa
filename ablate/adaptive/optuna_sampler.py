"""What a search or a tuning tries next, by Optuna's ask-and-tell interface. No other module imports Optuna."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from ablate.errors import StudyError
from ablate.identity import canonical, derive
from ablate.plan.treatments import changed_levels, is_allowed, list_rows
from ablate.recipe.recipe import Recipe
from ablate.slots.settings import Metric
from ablate.study.factors import Factor
from ablate.study.search import Search, Suggestion
from ablate.study.study import Study

if TYPE_CHECKING:
    import optuna

DIGITS = 3
"""Significant digits of a number from a range, so that a table shows exactly the level that was used."""


TRIES = 100
"""How often a sampler is asked for a treatment that the study allows and that has not been tried.

The second half of the tries are random: a sampler that learns may keep suggesting treatments that are not allowed.
"""


POPULATION = 12
"""Treatments per generation of NSGA-II. With Optuna's default of 50, a search of 50 treatments would be random."""


@dataclass(frozen=True)
class Evaluation:
    """The result of a suggestion. `values`: the objectives (see `objective_value`), as means over seeds.

    `excess`: limit -> how far the metric is beyond it, as a mean over seeds; the limit is kept if this is 0 or less.
    """

    label: str
    suggestion: Suggestion
    status: Literal["done", "failed", "under way", "pruned"]
    values: tuple[float, ...] = ()
    excess: dict[str, float] = field(default_factory=dict)


def objective_value(goal: Metric, value: float) -> float:
    """The value to optimise: the metric itself or, if it has a target, its distance to the target."""
    return abs(value - goal.target) if goal.direction == "target" else value


def suggest(
    study: Study, evaluations: list[Evaluation], can_build: Callable[[Recipe], bool] = lambda recipe: True
) -> Suggestion:
    """The next treatment to try; one that was tried before if `TRIES` attempts give no new one.

    `can_build`: whether the models of a recipe can be built. Raises StudyError if no attempt gives a treatment that the
    study allows and whose models can be built.
    """
    assert study.search is not None
    tried = {canonical(changed_levels(study, each.suggestion.levels)) for each in evaluations}
    seed = study.seeds[0]
    count = len(evaluations)

    # Brute force: a random one of the treatments that are left
    if study.search.sampler == "brute_force":
        untried = [levels for levels in grid_levels(study) if canonical(changed_levels(study, levels)) not in tried]
        return Suggestion(random.Random(derive(seed, "search", count)).choice(untried))

    # Other samplers: ask until a treatment is allowed and new
    evaluations = _failures_as_worst(study.search, evaluations)
    random_study = replace(study, search=replace(study.search, sampler="random"))
    repeated = None
    for attempt in range(TRIES):
        asked = study if attempt < TRIES // 2 else random_study
        optimiser = _optimiser(asked, evaluations, derive(seed, "search", count, attempt) % 2**32)
        trial = optimiser.ask({factor.path: _distribution(factor) for factor in study.factors})
        levels = {factor.path: level_of(factor, trial.params[factor.path]) for factor in study.factors}
        changed = changed_levels(study, levels)
        if is_allowed(study, levels) and can_build(study.recipe(changed)):
            notes = optimiser.trials[-1].system_attrs if study.search.sampler == "nsga2" else {}
            suggestion = Suggestion(levels, notes)
            if canonical(changed) not in tried:
                return suggestion
            repeated = suggestion
    if repeated:
        return repeated
    message = f"search: none of {TRIES} suggestions in a row is allowed by the study and can be built"
    raise StudyError([study.document.problem(("search",), message)])


def _failures_as_worst(search: Search, evaluations: list[Evaluation]) -> list[Evaluation]:
    """The evaluations, with the worst values of the others, beyond all limits, for failed and diverged treatments.

    Samplers ignore failed trials, so they would suggest similar treatments again and again.
    """
    done = [each for each in evaluations if each.status == "done"]
    if not done:
        return evaluations
    worst = [min if goal.direction == "up" else max for goal in search.objectives]
    values = tuple([pick(each.values[i] for each in done) for i, pick in enumerate(worst)])
    excess = {name: max(1.0, *(each.excess[name] for each in done)) for name in done[0].excess}
    return [
        replace(each, status="done", values=values, excess=excess) if each.status == "failed" else each
        for each in evaluations
    ]


def pareto_front(study: Study, evaluations: list[Evaluation]) -> set[str]:
    """Labels of the treatments that keep all limits and are not dominated by another one that does."""
    return {evaluations[best.number].label for best in _optimiser(study, evaluations, 0).best_trials}


def factor_importance(study: Study, evaluations: list[Evaluation]) -> dict[str, float]:
    """Factor -> its share of the first objective's variance, the most important first.

    By fANOVA (Hutter et al., "An Efficient Approach for Assessing Hyperparameter Importance", 2014). Empty if the first
    objective has fewer than ten distinct values, which are too few for a random forest.
    """
    import math

    from optuna.importance import FanovaImportanceEvaluator, get_param_importances

    values = {each.values[0] for each in evaluations if each.status == "done" and math.isfinite(each.values[0])}
    if len(values) < 10:
        return {}
    evaluator = FanovaImportanceEvaluator(seed=0)
    optimiser = _optimiser(study, evaluations, 0)
    shares = get_param_importances(optimiser, evaluator=evaluator, target=lambda trial: trial.values[0])
    return {path: float(share) for path, share in shares.items()}


def _optimiser(study: Study, evaluations: list[Evaluation], seed: int) -> "optuna.Study":
    """An Optuna study that knows these evaluations."""
    import optuna

    assert study.search is not None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    directions = ["maximize" if goal.direction == "up" else "minimize" for goal in study.search.objectives]
    optimiser = optuna.create_study(directions=directions, sampler=_sampler(study.search, seed))
    state = optuna.trial.TrialState
    states = {"done": state.COMPLETE, "failed": state.FAIL, "pruned": state.PRUNED, "under way": state.RUNNING}
    space = {factor.path: _distribution(factor) for factor in study.factors}
    for each in evaluations:
        params = {factor.path: _parameter(factor, each.suggestion.levels[factor.path]) for factor in study.factors}
        optimiser.add_trial(
            optuna.trial.create_trial(
                state=states[each.status],
                values=each.values or None,
                params=params,
                distributions=space,
                system_attrs=dict(each.suggestion.notes),
                constraints=each.excess,
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
    bounds = factor.range
    if isinstance(factor.levels[-1], int):
        return IntDistribution(int(bounds.low), int(bounds.high), log=bounds.log)
    return FloatDistribution(bounds.low, bounds.high, log=bounds.log)


def _parameter(factor: Factor, level: Any) -> Any:
    """The value of Optuna's parameter for a level: the number itself for a range, or else canonical text."""
    return level if factor.range else canonical(level)


def level_of(factor: Factor, parameter: Any) -> Any:
    """The level for a value of Optuna's parameter."""
    if factor.range is None:
        return next(level for level in factor.choices if canonical(level) == parameter)
    if isinstance(parameter, int):
        return parameter
    return min(max(float(f"{parameter:.{DIGITS}g}"), factor.range.low), factor.range.high)


def grid_levels(study: Study) -> list[dict[str, Any]]:
    """The levels of every factor, for each treatment of the full grid that the study allows."""
    baseline = {factor.path: factor.levels[0] for factor in study.factors}
    rows = list_rows(replace(study, designs=("grid",))).rows.values()
    grid = [{**baseline, **first.changed} for first, *_ in rows]
    return [levels for levels in grid if is_allowed(study, levels)]
