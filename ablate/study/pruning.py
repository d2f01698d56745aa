"""Early stopping (pruning): rules that compare a quick metric of the treatments at rungs, that is at steps of training.

`asha`: at the rungs `first`, `first` * `factor`, … a treatment continues only if it is among the best 1 / `factor` of
those that have reached the rung; the first to reach it always continues (Li et al., "A System for Massively Parallel
Hyperparameter Tuning", MLSys 2020, in its form that stops trials and never resumes them). `median`: at each evaluation
from `first` on, a treatment is stopped if its best value so far is worse than the median of the averages that the
finished ones had up to that step (Golovin et al., "Google Vizier", KDD 2017, section 3.2.2).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median

from ablate.errors import Problem, nearest
from ablate.recipe.recipe import Part, Recipe
from ablate.slots import registry
from ablate.slots.settings import Metric
from ablate.study.document import Document
from ablate.study.schema import PruningSettings, Rule

Curve = Mapping[int, float]
"""Step, counted over all stages -> loss, lower is better."""


QUICK, TRAINING = "during/", "train/"
"""Prefixes of the numbers that are known during training: metrics of quick probes, and losses."""


FEWEST = 3
"""Treatments that must have finished before there is a median, as in Ray Tune's rule."""


@dataclass(frozen=True)
class Pruning:
    """How treatments are stopped early. `metric`: unit and direction of `column`, a number logged during training."""

    rule: Rule
    column: str
    metric: Metric
    first: int
    factor: int

    @property
    def where(self) -> str:
        """At which steps treatments are compared, in words."""
        if self.rule == "median":
            return f"each evaluation from step {self.first} on"
        return f"steps {', '.join(str(self.first * self.factor**i) for i in range(3))} …"

    def loss(self, value: float) -> float:
        """The number that is compared: lower is better."""
        if self.metric.direction == "target":
            return abs(value - self.metric.target)
        return -value if self.metric.direction == "up" else value

    def is_rung(self, step: int) -> bool:
        """Whether treatments are compared at this step."""
        if self.rule == "median":
            return step >= self.first
        rung = self.first
        while rung < step:
            rung *= self.factor
        return rung == step

    def objection(self, step: int, own: Curve, others: Sequence[Curve], finished: Sequence[Curve]) -> str:
        """Why a treatment is to be stopped at a rung; empty if it is not.

        `others`: the curves of all other treatments, with those that were stopped; `finished`: of those that have made
        all their steps. A NaN stops nothing here: training itself notices it.
        """
        if math.isnan(own[step]):
            return ""
        if self.rule == "asha":
            rivals = [curve[step] for curve in others if step in curve]
            better = sum(value < own[step] for value in rivals)
            kept = max(1, (len(rivals) + 1) // self.factor)
            return f"{better + 1} of {len(rivals) + 1} at step {step}, {kept} kept" if better >= kept else ""
        means = [fmean(past) for curve in finished if (past := [v for at, v in curve.items() if at <= step])]
        best = min(value for at, value in own.items() if at <= step)
        if len(means) < FEWEST or not best > (middle := median(means)):
            return ""
        shown = [-value if self.metric.direction == "up" else value for value in (best, middle)]
        return f"best {shown[0]:.4g} by step {step}, median of {len(means)} finished {shown[1]:.4g}"


def read_pruning(
    document: Document,
    settings: PruningSettings | None,
    baseline: Recipe,
    probes: tuple[Part, ...],
    problems: list[Problem],
) -> Pruning | None:
    """The pruning of a study, None if it has none; adds what is wrong with it to `problems`."""
    if settings is None:
        return None
    column = settings.metric
    quick = [probe.level for probe in probes if registry.level("probe", probe.level).cheap]
    metrics = {QUICK + metric.name: metric for level in quick for metric in registry.level("probe", level).metrics}
    terms = [TRAINING + name for name in ("loss", *baseline.losses)]
    metrics |= {name: Metric(name, "1", "down") for name in terms}
    if column not in metrics:
        message = f"pruning: nothing reports '{column}' during training{nearest(column, metrics)}"
        problems.append(document.problem(("pruning", "metric"), message))
        return None
    if metrics[column].direction == "none":
        message = f"pruning: no direction of '{column}' is better"
        problems.append(document.problem(("pruning", "metric"), message))
        return None
    pruning = Pruning(settings.rule, column, metrics[column], settings.first, settings.factor)
    if message := _never(pruning, baseline):
        problems.append(document.problem(("pruning", "first"), f"pruning: {message}"))
        return None
    return pruning


def _never(pruning: Pruning, baseline: Recipe) -> str:
    """Why no treatment as long as the baseline reaches a rung at which the metric is known; empty if it does."""
    total = 0
    known_at: list[int] = []
    for stage in baseline.stages:
        every = stage.settings.probe_every if pruning.column.startswith(QUICK) else stage.settings.log_every
        if every:
            known_at += [total + step for step in range(every, stage.settings.steps + 1, every)]
        total += stage.settings.steps
    if not known_at:
        return f"no stage sets 'probe_every', so '{pruning.column}' is never known during training"
    rungs = [step for step in known_at if pruning.is_rung(step) and step < total]
    if rungs and (pruning.rule == "median" or rungs[0] == pruning.first):
        return ""
    known = ", ".join(map(str, known_at[:4]))
    return f"the first rung, {pruning.first}, is no step at which '{pruning.column}' is known: {known} … below {total}"
