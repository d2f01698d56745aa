"""Claims of a paper as data, and what our records say of them.

A claim says of two treatments which has the higher metric. Its verdict comes from the difference A - B, paired over the
seeds that both have, and its 95 % interval by Student's t (`effects.paired`):

- `reproduced`: the interval excludes 0 and lies on the claimed side;
- `opposite`: it excludes 0 and lies on the other side;
- `inconclusive`: it includes 0, or there are fewer than two pairs;
- `not observed`: the study has no such treatment or metric, or all trials of one side diverged.

Where nothing differs, each of the first two verdicts comes up in 2.5 % of studies. Claims are judged one by one: there
is no correction for their number. A claim about a trend is made at two of its points.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from ablate.design import Treatment, show
from ablate.recipe import Recipe
from ablate.spec import Study
from analysis.effects import Change, by_seed, difference

if TYPE_CHECKING:
    import pandas as pd

Direction = Literal["A above B", "A below B"]
Verdict = Literal["reproduced", "opposite", "inconclusive", "not observed"]
Levels = Mapping[str, Any]
"""Factor path -> level; what is not named is as in the baseline, so that `{}` is the baseline."""


@dataclass(frozen=True)
class Claim:
    """What a paper says of treatments `a` and `b`, in our words.

    `source` is its place in the paper, `said_by` whether it stands there or is our own hypothesis about its subject.
    `caveat` is what would speak against the claim's explanation, or what limits the comparison. `published` is the
    paper's own figure for A - B, in the metric's unit.
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


@dataclass(frozen=True)
class Judgement:
    """The verdict, the estimate of A - B with its 95 % interval over `n` pairs, and what a reader should know of it."""

    verdict: Verdict
    estimate: float = math.nan
    low: float = math.nan
    high: float = math.nan
    n: int = 0
    reason: str = ""


def judge(claim: Claim, study: Study, treatments: Sequence[Treatment], frame: "pd.DataFrame") -> Judgement:
    """Hold a claim against a study's tidy frame. `treatments` are the study's, which the frame has rows of."""
    sides = (claim.a, claim.b)
    labels = [_find(levels, study, treatments) for levels in sides]
    missing = [say(levels) for levels, label in zip(sides, labels, strict=True) if label is None]
    gaps = [] if claim.metric in study.metrics else [f"no probe of the study reports {claim.metric}"]
    gaps += [f"no treatment has {' or '.join(missing)}"] if missing else []
    if not gaps and labels[0] == labels[1]:
        gaps = [f"both sides are the treatment '{labels[0]}'"]
    if gaps:
        return Judgement("not observed", reason="; ".join(gaps))
    lost = {label: frame["status"][frame["treatment"] == label] == "diverged" for label in labels}
    counts = [f"{trials.sum()} of {len(trials)} trials of '{label}' diverged" for label, trials in lost.items()]
    reason = "; ".join(count for count, trials in zip(counts, lost.values(), strict=True) if trials.any())
    if any(trials.all() for trials in lost.values()):
        return Judgement("not observed", reason=reason)
    arms = by_seed(frame, claim.metric)
    change = difference(*(arms[label] for label in labels if label))
    return Judgement(decide(claim.direction, change), change.mean, change.low, change.high, change.n, reason)


def decide(direction: Direction, change: Change) -> Verdict:
    """The verdict on a claimed direction, given the change from B to A."""
    if not (change.low > 0 or change.high < 0):  # so too for NaN: fewer than two pairs have no interval
        return "inconclusive"
    return "reproduced" if (change.mean > 0) == (direction == "A above B") else "opposite"


def _find(levels: Levels, study: Study, treatments: Sequence[Treatment]) -> str | None:
    """The label of the treatment that trains as `levels` say; None if there is none."""
    try:
        wanted = _content(study.recipe(levels))
    except ValueError:  # the study has no such stage, or its baseline contradicts these levels
        return None
    return next((treatment.label for treatment in treatments if _content(treatment.recipe) == wanted), None)


def _content(recipe: Recipe) -> tuple[Any, ...]:
    return recipe.identity(), recipe.stages


def say(levels: Levels) -> str:
    """Levels in words: `loss.kl 0.01, norm scn`."""
    return ", ".join(f"{path} {show(level)}" for path, level in levels.items()) or "the baseline's levels"
