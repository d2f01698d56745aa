"""Claims of a paper as data, and the verdicts of our records on them.

A claim names two treatments, A and B, and says which has the higher metric, or that both are equal within a margin. It
is judged in every context that a study contains: for each pair of the study's treatments that have the levels of A and
of B and agree in everything else. The verdict on a pair follows from the difference A - B, paired over the shared
seeds, with its 95 % interval by Student's t (`effects.paired`):

- `reproduced`: the interval lies on the claimed side of 0 or, if equality is claimed, within the margin around 0;
- `opposite`: it lies on the other side of 0, or outside the margin;
- `inconclusive`: neither, or there are fewer than two pairs of seeds;
- `not observed`: the study has no such pair of treatments or no such metric, or all trials of one side diverged.

If there is no difference, a claimed order is `reproduced` in 2.5 % of studies, and `opposite` in another 2.5 %. There
is no correction for the number of claims and contexts.

A claim about a trend names its two ends and the setting `along` which it runs. It also requires that at each level in
between the mean lies on the claimed side of the previous one. A step in the other direction turns `reproduced` into
`inconclusive`, or into `opposite` if the interval of that step lies on the other side of 0.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

from ablate.analysis.statistics.effects import Change, by_seed, difference
from ablate.identity import canonical
from ablate.plan.labels import format_level
from ablate.plan.signatures import stage_signatures
from ablate.plan.treatments import Treatment
from ablate.study.study import Study

if TYPE_CHECKING:
    import pandas as pd

Direction = Literal["A above B", "A below B", "A equals B"]
Verdict = Literal["reproduced", "opposite", "inconclusive", "not observed"]

Levels = Mapping[str, Any]
"""Factor path -> level. Everything not named is as in the context: `{}` is the baseline in the baseline's context."""


class Extreme(StrEnum):
    """A level that depends on the study: the smallest or largest value of a setting among its treatments.

    `LEAST` needs at least two different values.
    """

    LEAST = "least"
    MOST = "most"


@dataclass(frozen=True)
class Named:
    """The study's level of this name, with the study's settings; with default settings if it has several or none."""

    name: str


@dataclass(frozen=True)
class Claim:
    """A claim of a paper about treatments `a` and `b`, in our words.

    `source`: where it stands in the paper. `said_by`: whether the paper says it or it is our own hypothesis about the
    same subject. `caveat`: what would speak against the claim's explanation, or what limits the comparison.
    `published`: the paper's own figure for A - B, in the metric's unit. `margin`: the largest difference that counts as
    equal, in the metric's unit. `along`: if the claim is about a trend, the dotted path of the setting that changes
    from `b` to `a`; else empty.
    """

    id: str
    text: str
    a: Levels
    b: Levels
    metric: str
    direction: Direction
    source: str
    said_by: Literal["paper", "us"]
    caveat: str
    published: float | None = None
    margin: float = 0.0
    along: str = ""


@dataclass(frozen=True)
class Judgement:
    """The verdict, the estimate of A - B with its 95 % interval over `n` pairs, and the `reason` for a reader, if any.

    `given`: the levels in which the context differs from the study's baseline. `lacks`: what the study would need to
    judge the claim: the factors whose levels it cannot compare with all else equal or, failing that, the metric that it
    does not report; empty if it has both.
    """

    verdict: Verdict
    estimate: float = math.nan
    low: float = math.nan
    high: float = math.nan
    n: int = 0
    reason: str = ""
    given: Levels = field(default_factory=dict)
    lacks: tuple[str, ...] = ()


def judge(
    claims: Sequence[Claim], study: Study, treatments: Sequence[Treatment], frame: "pd.DataFrame"
) -> list[tuple[Claim, Judgement]]:
    """Judge claims by a study's tidy frame: one judgement per claim and context, the baseline's context first.

    A claim that the study cannot judge has a single judgement, `not observed`. `treatments`: the study's treatments, as
    in the frame. In the returned claims, every `Extreme` and `Named` is replaced by the study's level.
    """
    evidence = _Evidence(study, treatments, frame)
    exact = [replace(claim, a=_exact(claim.a, treatments), b=_exact(claim.b, treatments)) for claim in claims]
    return [(claim, judgement) for claim in exact for judgement in _judge(claim, evidence)]


def decide(direction: Direction, change: Change, margin: float = 0.0) -> Verdict:
    """The verdict on a claimed direction, given the change from B to A. `margin`: for `A equals B`."""
    lower, upper = {
        "A above B": (0.0, math.inf), "A below B": (-math.inf, 0.0), "A equals B": (-margin, margin)
    }[direction]  # fmt: skip
    if lower < change.low and change.high < upper:
        return "reproduced"
    if change.high < lower or change.low > upper:
        return "opposite"
    return "inconclusive"  # also for NaN: with fewer than two pairs there is no interval


def describe_levels(levels: Levels) -> str:
    """Levels in words: `loss.kl 0.01, norm scn`."""
    return ", ".join(f"{path} {format_level(level)}" for path, level in levels.items()) or "the baseline's levels"


def _exact(levels: Levels, treatments: Sequence[Treatment]) -> Levels:
    """The levels with every `Extreme` and `Named` replaced by the study's level.

    An `Extreme` stays if the study lacks the stage, and `LEAST` also if the setting has one value only.
    """
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


class _Evidence:
    """A study's treatments and results. Look-ups are cached."""

    def __init__(self, study: Study, treatments: Sequence[Treatment], frame: "pd.DataFrame") -> None:
        self.study = study
        self.treatments = treatments
        self.frame = frame
        self.arms = cache(lambda metric: by_seed(frame, metric))
        # Treatments with the same signatures train alike; the first of them is the one that is found.
        self._labels = {stage_signatures(study.recipe(row.changed), 0): row.label for row in reversed(treatments)}
        self._cache: dict[str, str | None] = {}

    def contexts(self, named: Collection[str]) -> list[Levels]:
        """The contexts of a claim about the factors `named`: each treatment's changed levels of all other factors.

        Each context is listed once.
        """
        others = [{path: v for path, v in t.changed.items() if path not in named} for t in self.treatments]
        return list({canonical(given): given for given in others}.values())

    def has(self, levels: Levels) -> bool:
        """Whether any treatment has these levels."""
        return any(self.find({**given, **levels}) for given in self.contexts(levels))

    def find(self, levels: Levels) -> str | None:
        """The label of the treatment that trains with these levels; None if there is none."""
        key = canonical(list(levels.items()))
        if key not in self._cache:
            self._cache[key] = self._find(levels)
        return self._cache[key]

    def _find(self, levels: Levels) -> str | None:
        try:
            recipe = self.study.recipe(levels)
        except ValueError:  # the study has no such stage, or its baseline contradicts these levels
            return None
        return self._labels.get(stage_signatures(recipe, 0))


def _judge(claim: Claim, evidence: _Evidence) -> list[Judgement]:
    """The judgements of one claim, one per context."""
    # The pairs of treatments to compare, each with the first context that yields it.
    pairs: dict[tuple[str, str], Levels] = {}
    same = []
    for given in evidence.contexts({*claim.a, *claim.b}):
        a, b = (evidence.find({**given, **side}) for side in (claim.a, claim.b))
        if a and a == b:
            same.append(a)
        elif a and b:
            pairs.setdefault((a, b), given)

    # What the study lacks to judge the claim.
    gaps = [] if claim.metric in evidence.study.metrics else [f"no probe of the study reports {claim.metric}"]
    gaps += [] if pairs else [_gap(claim, same, evidence)]
    if gaps:
        lacks = (claim.metric,) if pairs else tuple(dict.fromkeys([*claim.a, *claim.b]))
        return [Judgement("not observed", reason="; ".join(gaps), lacks=lacks)]
    return [_compare(claim, a, b, given, evidence) for (a, b), given in pairs.items()]


def _gap(claim: Claim, same: Sequence[str], evidence: _Evidence) -> str:
    """Why no context has two treatments to compare. `same`: treatments that are both sides of the claim at once."""
    a = describe_levels(claim.a)
    b = describe_levels(claim.b)
    if missing := [side for side, levels in ((a, claim.a), (b, claim.b)) if not evidence.has(levels)]:
        return f"no treatment has {' or '.join(missing)}"
    if same:
        return f"both sides are the treatment '{same[0]}'"
    return f"the treatments with {a} and with {b} differ in more than that"


def _compare(claim: Claim, a: str, b: str, given: Levels, evidence: _Evidence) -> Judgement:
    """Judge a claim by the treatments labelled `a` and `b`."""
    # Diverged trials: if there are no others on one side, nothing is observed.
    frame = evidence.frame
    diverged = {label: frame["status"][frame["treatment"] == label] == "diverged" for label in (a, b)}
    counts = [f"{trials.sum()} of {len(trials)} trials of '{label}' diverged" for label, trials in diverged.items()]
    reason = "; ".join(count for count, trials in zip(counts, diverged.values(), strict=True) if trials.any())
    if any(trials.all() for trials in diverged.values()):
        return Judgement("not observed", reason=reason, given=given)

    arms = evidence.arms(claim.metric)
    change = difference(arms[a], arms[b], evidence.study.seed_bounds)
    verdict = decide(claim.direction, change, claim.margin)
    if claim.along and verdict == "reproduced":
        verdict, reversals = _judge_steps(claim, given, evidence)
        reason = "; ".join(filter(None, (reason, reversals)))
    return Judgement(verdict, change.mean, change.low, change.high, change.n, reason, given)


def _judge_steps(claim: Claim, given: Levels, evidence: _Evidence) -> tuple[Verdict, str]:
    """The verdict on a trend whose ends are as claimed, and a description of the steps in the other direction."""
    # The treatments from one end of the trend to the other.
    first = claim.b[claim.along]
    last = claim.a[claim.along]
    values = {t.recipe.value(claim.along) for t in evidence.treatments if t.recipe.has(claim.along)}
    path = sorted((value for value in values if min(first, last) <= value <= max(first, last)), reverse=first > last)
    labels = {value: evidence.find({**given, **claim.b, claim.along: value}) for value in path}
    present = [value for value in path if labels[value]]

    # The change at each step.
    arms = evidence.arms(claim.metric)
    verdict: Verdict = "reproduced"
    reversals = []
    for before, after in pairwise(present):
        change = difference(arms[str(labels[after])], arms[str(labels[before])])
        if not (change.mean > 0 if claim.direction == "A above B" else change.mean < 0):
            opposite = decide(claim.direction, change) == "opposite"
            verdict = "opposite" if opposite or verdict == "opposite" else "inconclusive"
            interval = f"{change.mean:+.3g} [{change.low:+.3g}, {change.high:+.3g}]"
            what = f"it goes the other way, {interval}" if change.n else "there is no pair of seeds"
            reversals.append(f"from {claim.along} {format_level(before)} to {format_level(after)} {what}")
    return verdict, "; ".join(reversals)
