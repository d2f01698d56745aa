"""Claims of a paper as data, and what our records say of them.

A claim says of two treatments which has the higher metric. It is judged, all else equal, in every context that a study
holds: at each pair of its treatments that have the two sides' levels and agree in everything else. Each pair has a
verdict, from the difference A - B over the seeds that both have and its 95 % interval by Student's t
(`effects.paired`):

- `reproduced`: the interval lies on the claimed side of 0 or, where equality is claimed, within the margin around 0;
- `opposite`: it lies on the other side of 0, or outside the margin;
- `inconclusive`: neither, or there are fewer than two pairs of seeds;
- `not observed`: the study has no such pair of treatments or no such metric, or all trials of one side diverged.

Where nothing differs, a claimed order is found `reproduced` in 2.5 % of studies, and `opposite` in as many. There is no
correction for the number of claims and contexts.

A claim about a trend is made at its two ends and `along` a setting: at each level between them, too, the mean is to be
on the claimed side of the one before. A step the other way makes `reproduced` inconclusive, or opposite where its own
interval is.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal, cast

from ablate.analysis.statistics.effects import Change, by_seed, difference
from ablate.identity import canonical
from ablate.plan.labels import show
from ablate.plan.signatures import chain
from ablate.plan.treatments import Treatment
from ablate.study.study import Study

if TYPE_CHECKING:
    import pandas as pd

Direction = Literal["A above B", "A below B", "A equals B"]


Verdict = Literal["reproduced", "opposite", "inconclusive", "not observed"]


Levels = Mapping[str, Any]
"""Factor path -> level; what is not named is as in the context, so that `{}` is the baseline in the baseline's."""


class Extreme(StrEnum):
    """A level that depends on the study: the smallest, of several, or the largest that it has of a setting."""

    LEAST = "least"
    MOST = "most"


@dataclass(frozen=True)
class Named:
    """A study's level of this name, whatever its settings there; with default settings if it has several or none."""

    name: str


@dataclass(frozen=True)
class Claim:
    """What a paper says of treatments `a` and `b`, in our words.

    `source` is its place in the paper, `said_by` whether it stands there or is our own hypothesis about its subject.
    `caveat` is what would speak against the claim's explanation, or what limits the comparison. `published` is the
    paper's own figure for A - B, and `margin` what counts as equal, both in the metric's unit. `along`: the setting of
    which A and B are the ends of a trend; a dotted path, or empty.
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
    """The verdict, the estimate of A - B with its 95 % interval over `n` pairs, and what a reader should know of it.

    `given`: the levels in which the context differs from the study's baseline. `lacks`: the factors of which the study
    has not the levels to compare, all else equal, or else the metric that it does not report; empty where it has both.
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
    """Hold claims against a study's tidy frame: one judgement per claim and context, the baseline's context first.

    A claim that the study says nothing of has one judgement. `treatments` are the study's, which the frame has rows
    of. Claims come back with their extremes, and what is `Named`, replaced by the study's levels.
    """
    evidence = _Evidence(study, treatments, frame)
    exact = [replace(claim, a=_exact(claim.a, treatments), b=_exact(claim.b, treatments)) for claim in claims]
    return [(claim, found) for claim in exact for found in _judge(claim, evidence)]


def decide(direction: Direction, change: Change, margin: float = 0.0) -> Verdict:
    """The verdict on a claimed direction, given the change from B to A."""
    lower, upper = {
        "A above B": (0.0, math.inf), "A below B": (-math.inf, 0.0), "A equals B": (-margin, margin)
    }[direction]  # fmt: skip
    if lower < change.low and change.high < upper:
        return "reproduced"
    if change.high < lower or change.low > upper:
        return "opposite"
    return "inconclusive"  # so too for NaN: fewer than two pairs have no interval


def say(levels: Levels) -> str:
    """Levels in words: `loss.kl 0.01, norm scn`."""
    return ", ".join(f"{path} {show(level)}" for path, level in levels.items()) or "the baseline's levels"


def _exact(levels: Levels, treatments: Sequence[Treatment]) -> Levels:
    """Levels with their extremes replaced, those of stages that the study lacks excepted, and those `Named`."""
    exact = dict(levels)
    for path, level in levels.items():
        if isinstance(level, Extreme):
            with suppress(KeyError):
                values = [treatment.recipe.value(path) for treatment in treatments]
                if level is Extreme.MOST or len(set(values)) > 1:
                    exact[path] = min(values) if level is Extreme.LEAST else max(values)
        elif isinstance(level, Named):
            held = [treatment.levels.get(path) for treatment in treatments]
            own = {canonical(one): one for one in held if _name(one) == level.name}
            exact[path] = next(iter(own.values())) if len(own) == 1 else level.name
    return exact


def _name(level: Any) -> Any:
    """A slot's level without its settings."""
    return level.get("level") if isinstance(level, Mapping) else level


class _Evidence:
    """A study's treatments and results. Nothing is looked up twice."""

    def __init__(self, study: Study, treatments: Sequence[Treatment], frame: "pd.DataFrame") -> None:
        self.study, self.treatments, self.frame = study, treatments, frame
        self.arms = cache(lambda metric: by_seed(frame, metric))
        self._labels = {chain(study.recipe(row.changed), 0): row.label for row in reversed(treatments)}
        self._found: dict[str, str | None] = {}

    def contexts(self, named: Collection[str]) -> list[Levels]:
        """Of each treatment, those levels that differ from the baseline's and are not `named`; none twice."""
        rest = [{path: v for path, v in t.changed.items() if path not in named} for t in self.treatments]
        return list({canonical(given): given for given in rest}.values())

    def has(self, levels: Levels) -> bool:
        """Whether any treatment has these levels."""
        return any(self.find({**given, **levels}) for given in self.contexts(levels))

    def find(self, levels: Levels) -> str | None:
        """The label of the treatment that trains as `levels` say; None if there is none."""
        key = canonical(list(levels.items()))
        if key not in self._found:
            self._found[key] = self._find(levels)
        return self._found[key]

    def _find(self, levels: Levels) -> str | None:
        try:
            recipe = self.study.recipe(levels)
        except ValueError:  # the study has no such stage, or its baseline contradicts these levels
            return None
        return self._labels.get(chain(recipe, 0))


def _judge(claim: Claim, evidence: _Evidence) -> list[Judgement]:
    pairs: dict[tuple[str, str], Levels] = {}
    alike = []
    for given in evidence.contexts({*claim.a, *claim.b}):
        a, b = (evidence.find({**given, **side}) for side in (claim.a, claim.b))
        if a and a == b:
            alike.append(a)
        elif a and b:
            pairs.setdefault((a, b), given)
    gaps = [] if claim.metric in evidence.study.metrics else [f"no probe of the study reports {claim.metric}"]
    gaps += [] if pairs else [_gap(claim, alike, evidence)]
    if gaps:
        lacks = (claim.metric,) if pairs else tuple(dict.fromkeys([*claim.a, *claim.b]))
        return [Judgement("not observed", reason="; ".join(gaps), lacks=lacks)]
    return [_compare(claim, a, b, given, evidence) for (a, b), given in pairs.items()]


def _gap(claim: Claim, alike: Sequence[str], evidence: _Evidence) -> str:
    """Why no context has two treatments to compare. `alike`: treatments that are both sides at once."""
    if missing := [say(side) for side in (claim.a, claim.b) if not evidence.has(side)]:
        return f"no treatment has {' or '.join(missing)}"
    if alike:
        return f"both sides are the treatment '{alike[0]}'"
    return f"the treatments with {say(claim.a)} and with {say(claim.b)} differ in more than that"


def _compare(claim: Claim, a: str, b: str, given: Levels, evidence: _Evidence) -> Judgement:
    frame = evidence.frame
    lost = {label: frame["status"][frame["treatment"] == label] == "diverged" for label in (a, b)}
    counts = [f"{trials.sum()} of {len(trials)} trials of '{label}' diverged" for label, trials in lost.items()]
    reason = "; ".join(count for count, trials in zip(counts, lost.values(), strict=True) if trials.any())
    if any(trials.all() for trials in lost.values()):
        return Judgement("not observed", reason=reason, given=given)
    arms = evidence.arms(claim.metric)
    change = difference(arms[a], arms[b], evidence.study.seed_bounds)
    verdict = decide(claim.direction, change, claim.margin)
    if claim.along and verdict == "reproduced":
        verdict, back = _steps(claim, given, evidence)
        reason = "; ".join(filter(None, (reason, back)))
    return Judgement(verdict, change.mean, change.low, change.high, change.n, reason, given)


def _steps(claim: Claim, given: Levels, evidence: _Evidence) -> tuple[Verdict, str]:
    """The verdict on a trend whose ends are as claimed, and the steps that go the other way."""
    first, last = claim.b[claim.along], claim.a[claim.along]
    values = {t.recipe.value(claim.along) for t in evidence.treatments if t.recipe.has(claim.along)}
    path = sorted((value for value in values if min(first, last) <= value <= max(first, last)), reverse=first > last)
    labels = {value: evidence.find({**given, **claim.b, claim.along: value}) for value in path}
    arms, there = evidence.arms(claim.metric), [value for value in path if labels[value]]
    back, verdict = [], "reproduced"
    for before, after in pairwise(there):
        change = difference(arms[str(labels[after])], arms[str(labels[before])])
        if not (change.mean > 0 if claim.direction == "A above B" else change.mean < 0):
            opposite = decide(claim.direction, change) == "opposite"
            verdict = "opposite" if opposite or verdict == "opposite" else "inconclusive"
            interval = f"{change.mean:+.3g} [{change.low:+.3g}, {change.high:+.3g}]"
            what = f"it goes the other way, {interval}" if change.n else "there is no pair of seeds"
            back.append(f"from {claim.along} {show(before)} to {show(after)} {what}")
    return cast(Verdict, verdict), "; ".join(back)
