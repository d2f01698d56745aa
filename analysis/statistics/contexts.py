"""The contexts in which a study can judge a claim: pairs of treatments that have its levels and agree in all else."""

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any

from ablate.analysis.statistics.claims import Claim, Extreme, Levels, Named, Requirement, describe_levels
from ablate.analysis.statistics.effects import by_seed, count_statuses, distances
from ablate.analysis.statistics.verdicts import TROUBLES
from ablate.identity import canonical
from ablate.plan.labels import format_level
from ablate.plan.signatures import stage_signatures
from ablate.plan.treatments import Treatment
from ablate.study.study import Study

if TYPE_CHECKING:
    import pandas as pd

Arm = Mapping[int, float]
"""Seed -> value of a metric."""


@dataclass(frozen=True)
class Context:
    """What a claim compares in one context, or on average over contexts.

    `given`: the levels in which the context differs from the study's baseline. `a`, `b`: the values of the two sides.
    `steps`: for a trend, level -> values at each level of the study from side B to side A. `present`: for each
    requirement of the claim, the values that it is about. `lost`: the trials that ended without a result, in words, and
    `gone` whether one side has no others.
    """

    given: Levels
    a: Arm
    b: Arm
    steps: Mapping[Any, Arm]
    present: tuple[Arm, ...]
    lost: str = ""
    gone: bool = False


class Evidence:
    """A study's treatments and results. Look-ups are cached."""

    def __init__(self, study: Study, treatments: Sequence[Treatment], frame: "pd.DataFrame") -> None:
        self.study = study
        self.treatments = treatments
        self.metrics = study.metrics
        self.arms = cache(lambda metric: by_seed(frame, metric))
        # Treatments with the same signatures train alike; the first of them is the one that is found.
        self._labels = {stage_signatures(study.recipe(row.changed), 0): row.label for row in reversed(treatments)}
        self._found: dict[str, str | None] = {}
        self._statuses = count_statuses(frame)

    def exact(self, claim: Claim) -> Claim:
        """The claim with every `Extreme` and `Named` replaced by the study's level."""
        requires = tuple(replace(one, of=_exact(one.of, self.treatments)) for one in claim.requires)
        return replace(claim, a=_exact(claim.a, self.treatments), b=_exact(claim.b, self.treatments), requires=requires)

    def contexts(self, claim: Claim) -> tuple[list[Context], str, tuple[str, ...]]:
        """The contexts of a claim, that of the baseline first.

        If there are none, also why, and what the study lacks: factors or, failing that, metrics.
        """
        found: dict[tuple[str | None, ...], Context] = {}
        missing = [name for name in claim.metrics if name not in self.metrics]
        same: list[str] = []
        pairs = False
        for given in self._others(claim.factors):
            a = self.find({**given, **claim.a})
            b = a if isinstance(claim.b, float | int) else self.find({**given, **claim.b})
            if not a or not b:
                continue
            if a == b and not isinstance(claim.b, float | int) and claim.against in {"", claim.metric}:
                same.append(a)
                continue
            pairs = True
            shown = [self._required(one, given, a, b) for one in claim.requires]
            if not missing and all(shown):
                key = (a, b, *shown)
                if key not in found:
                    found[key] = self._context(claim, given, a, b, [label for label in shown if label])
        if found:
            return list(found.values()), "", ()
        gaps = [f"no probe of the study reports {name}" for name in missing]
        gaps += [] if pairs and missing else [self._gap(claim, same, pairs=pairs)]
        return [], "; ".join(gaps), tuple(missing) if pairs and missing else claim.factors

    def find(self, levels: Levels) -> str | None:
        """The label of the treatment that trains with these levels; None if there is none."""
        key = canonical(list(levels.items()))
        if key not in self._found:
            self._found[key] = self._find(levels)
        return self._found[key]

    def _find(self, levels: Levels) -> str | None:
        try:
            recipe = self.study.recipe(levels)
        except ValueError:  # the study has no such stage, or its baseline contradicts these levels
            return None
        return self._labels.get(stage_signatures(recipe, 0))

    def _others(self, named: Collection[str]) -> list[Levels]:
        """Each treatment's changed levels of all factors but the `named`, each once."""
        others = [{path: v for path, v in t.changed.items() if path not in named} for t in self.treatments]
        return list({canonical(given): given for given in others}.values())

    def _required(self, required: Requirement, given: Levels, a: str, b: str) -> str | None:
        """The label of the treatment that a requirement is about."""
        if isinstance(required.of, str):
            return {"A": a, "B": b}[required.of]
        return self.find({**given, **required.of})

    def _context(self, claim: Claim, given: Levels, a: str, b: str, shown: Sequence[str]) -> Context:
        """The context whose sides are the treatments labelled `a` and `b`; `shown`: those of the requirements."""
        # Values; of a metric with a target, the distances to it are ordered.
        values = self._values(claim, claim.metric, a)
        if isinstance(claim.b, float | int):
            others: Arm = dict.fromkeys(values, float(claim.b))
        else:
            others = self._values(claim, claim.against or claim.metric, b)
        steps = self._steps(claim, given) if claim.along else {}
        present = [self.arms(one.metric)[label] for one, label in zip(claim.requires, shown, strict=True)]

        # Trials without a result.
        labels = dict.fromkeys([a, b, *steps.values(), *shown])
        lost = [
            f"{count} of {self._statuses[label].total()} trials of '{label}' {status}"
            for label in labels
            for status in TROUBLES
            if (count := self._statuses[label][status])
        ]
        gone = any(self._statuses[label].keys() <= TROUBLES.keys() for label in (a, b))
        walked = {level: self._values(claim, claim.metric, label) for level, label in steps.items()}
        return Context(given, values, others, walked, tuple(present), "; ".join(lost), gone)

    def _values(self, claim: Claim, name: str, label: str) -> Arm:
        """The values of a treatment that the claim compares."""
        metric = self.metrics[name]
        arm = self.arms(name)[label]
        return distances(metric, arm) if claim.orders_distances(metric) else arm

    def _steps(self, claim: Claim, given: Levels) -> dict[Any, str]:
        """Level -> label of the treatment, for the levels of a trend from side B to side A that the study has."""
        assert isinstance(claim.b, Mapping)
        first = claim.b[claim.along]
        last = claim.a[claim.along]
        values = {t.recipe.value(claim.along) for t in self.treatments if t.recipe.has(claim.along)}
        path = sorted(
            (value for value in values if min(first, last) <= value <= max(first, last)), reverse=first > last
        )
        labels = {value: self.find({**given, **claim.b, claim.along: value}) for value in path}
        return {value: label for value, label in labels.items() if label}

    def _has(self, levels: Levels) -> bool:
        """Whether any treatment has these levels."""
        return any(self.find({**given, **levels}) for given in self._others(levels))

    def _gap(self, claim: Claim, same: Sequence[str], *, pairs: bool) -> str:
        """Why no context has two treatments to compare. `same`: treatments that are both sides of the claim at once.

        `pairs`: whether only the treatment of a requirement is missing.
        """
        required = [one.of for one in claim.requires if isinstance(one.of, Mapping)]
        sides = [claim.a, *([claim.b] if isinstance(claim.b, Mapping) else []), *(required if pairs else [])]
        words = [describe_levels(levels) for levels in sides]
        if missing := [text for text, levels in zip(words, sides, strict=True) if not self._has(levels)]:
            return f"no treatment has {' or '.join(missing)}"
        if same:
            return f"both sides are the treatment '{same[0]}'"
        return f"the treatments with {' and with '.join(words)} differ in more than that"


def average(contexts: Sequence[Context]) -> Context:
    """All contexts as one: the values of each side averaged seed by seed, so that shared seeds stay paired.

    Only seeds that every context has on both sides. A trend keeps the levels that every context has.
    """
    if len(contexts) == 1:
        return contexts[0]
    levels = [level for level in contexts[0].steps if all(level in one.steps for one in contexts)]
    return Context(
        {},
        *_mean_sides(contexts),
        {level: _mean([one.steps[level] for one in contexts]) for level in levels},
        tuple(_mean(arms) for arms in zip(*(one.present for one in contexts), strict=True)),
        "; ".join(dict.fromkeys(part for one in contexts if one.lost for part in one.lost.split("; "))),
        all(one.gone for one in contexts),
    )


def _mean_sides(contexts: Sequence[Context]) -> tuple[Arm, Arm]:
    """The mean of each side over the contexts, at the seeds that all have on both sides."""
    seeds = set.intersection(*(one.a.keys() & one.b.keys() for one in contexts))
    a, b = (
        _mean([{seed: side[seed] for seed in seeds} for side in sides])
        for sides in ([one.a for one in contexts], [one.b for one in contexts])
    )
    return a, b


def _mean(arms: Sequence[Arm]) -> Arm:
    """The mean over treatments at the seeds that all have."""
    seeds = sorted(set.intersection(*(set(arm) for arm in arms)))
    return {seed: sum(arm[seed] for arm in arms) / len(arms) for seed in seeds}


def describe_step(before: Any, after: Any) -> str:
    """A step of a trend in words: `0.01 to 1`."""
    return f"{format_level(before)} to {format_level(after)}"


def _exact(levels: Any, treatments: Sequence[Treatment]) -> Any:
    """The levels with every `Extreme` and `Named` replaced by the study's level; anything but levels as it is.

    An `Extreme` stays if the study lacks the stage, and `LEAST` also if the setting has one value only.
    """
    if not isinstance(levels, Mapping):
        return levels
    exact = dict(levels)
    for path, level in levels.items():
        if isinstance(level, Extreme):
            with suppress(KeyError):  # the study has no such stage
                values = [treatment.recipe.value(path) for treatment in treatments]
                if level is Extreme.MOST or len(set(values)) > 1:
                    exact[path] = min(values) if level is Extreme.LEAST else max(values)
        elif isinstance(level, Named):
            candidates = [treatment.levels.get(path) for treatment in treatments]
            matching = {canonical(one): one for one in candidates if _name(one) == level.name}
            exact[path] = next(iter(matching.values())) if len(matching) == 1 else level.name
    return exact


def _name(level: Any) -> Any:
    """A slot's level without its settings."""
    return level.get("level") if isinstance(level, Mapping) else level
