"""Verdicts of our records on claims: one per claim, from all its contexts together, and one per context.

The verdict on a context follows from the difference A - B, paired over the shared seeds, with its 95 % interval
(`effects.difference`). That on the claim follows in the same way from the differences of all its contexts, averaged
seed by seed. The first of these applies:

- `not observed`: the study has no such treatments or no such metric, a side has no trial with a result, or a
  requirement of the claim is not met;
- `inconclusive`: a trial of either side diverged or failed. The others were selected by their results, and a worst
  value has no interval, so nothing is decided;
- `reproduced`: the interval lies on the claimed side of 0 or, if equality is claimed, within the margin around 0;
- `opposite`: it lies on the other side of 0, or outside the margin. For "differs" these two change places;
- `no effect`: an order is claimed, and two one-sided tests at 5 % show that the difference is smaller than the metric's
  smallest effect of interest (D. J. Schuirmann, "A comparison of the two one-sided tests procedure and the power
  approach", 1987);
- `inconclusive`: none of these, fewer than two pairs of seeds, or an interval without width, which is a coincidence of
  equal numbers unless the metric is exact.

A claim about a trend also requires that at each level in between the mean lies on the claimed side of the previous one.
A step in the other direction turns `reproduced` into `inconclusive`, or into `opposite` if the interval of that step
lies on the other side of 0.

The requirements of a claim are judged like its verdict: on a context by its own means, on the claim by the means over
all contexts. Averaging only the contexts that show the artifact would select those in which chance raised one side:
with four contexts at the bound, 6 % of claims without any truth would be `reproduced` instead of 2.5 %.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

from ablate.analysis.statistics.chance import ALPHA
from ablate.analysis.statistics.claims import Claim, Direction, Levels, describe_levels
from ablate.analysis.statistics.contexts import Arm, Context, Evidence, average, describe_step
from ablate.analysis.statistics.effects import Change, difference
from ablate.analysis.statistics.multiplicity import benjamini_hochberg, benjamini_yekutieli, chance_of_trend
from ablate.plan.treatments import Treatment
from ablate.slots.settings import Metric
from ablate.study.study import SeedBounds, Study

if TYPE_CHECKING:
    import pandas as pd

Verdict = Literal["reproduced", "opposite", "no effect", "inconclusive", "not observed"]

DECIDED: tuple[Verdict, ...] = ("reproduced", "opposite")
"""Verdicts that chance alone can give as well."""

NO_WIDTH = "every seed gives the same difference, and an interval without width decides nothing"


@dataclass(frozen=True)
class Judgement:
    """The verdict, the estimate of A - B with its 95 % interval over `n` pairs, and the `reason` for a reader, if any.

    `given`: the levels in which the context differs from the study's baseline. `lacks`: what the study would need to
    judge the claim: the factors whose levels it cannot compare with all else equal or, failing that, the metrics that
    it does not report; empty if it has both. `margin`: the difference that the verdicts "no effect", "equals" and
    "differs" are about. `p`: two-sided, of the test that the verdict stands on: that the difference is 0 or, for
    "equals" and "differs", that it is the margin. `q`: p corrected for the number of judgements (`correct`). `chance`:
    how often the verdict would be `reproduced` or `opposite`, wrongly, if there were no difference; 0 if it can not be.
    """

    verdict: Verdict
    estimate: float = math.nan
    low: float = math.nan
    high: float = math.nan
    n: int = 0
    reason: str = ""
    given: Levels = field(default_factory=dict)
    lacks: tuple[str, ...] = ()
    margin: float | None = None
    p: float = math.nan
    q: float = math.nan
    chance: float = 0.0


@dataclass(frozen=True)
class Finding:
    """A claim, the judgement over all its contexts, and the judgement in each of them; none if the study lacks it."""

    claim: Claim
    overall: Judgement
    contexts: tuple[Judgement, ...] = ()


def judge(
    claims: Sequence[Claim], study: Study, treatments: Sequence[Treatment], frame: "pd.DataFrame"
) -> tuple[Finding, ...]:
    """Judge claims by a study's tidy frame, each in the baseline's context first.

    `treatments`: the study's treatments, as in the frame. In the returned claims, every `Extreme` and `Named` is
    replaced by the study's level.
    """
    evidence = Evidence(study, treatments, frame)
    return correct([_find(evidence.exact(claim), evidence) for claim in claims])


def correct(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """The findings with a q-value for each judgement that rests on a test.

    Over the claims by Benjamini and Hochberg; over all contexts, which share seeds and treatments and so are dependent
    in any way, by Benjamini and Yekutieli.
    """
    q_of_claims = iter(benjamini_hochberg([finding.overall.p for finding in findings]))
    q_of_contexts = iter(benjamini_yekutieli([one.p for finding in findings for one in finding.contexts]))
    return tuple(
        replace(
            finding,
            overall=replace(finding.overall, q=next(q_of_claims)),
            contexts=tuple(replace(one, q=next(q_of_contexts)) for one in finding.contexts),
        )
        for finding in findings
    )


def decide(direction: Direction, change: Change, margin: float = 0.0, *, exact: bool = True) -> Verdict:
    """The verdict on a claimed direction, given the change from B to A. `margin`: for "equals" and "differs".

    `exact`: whether an interval without width decides.
    """
    if change.low == change.high and not exact:
        return "inconclusive"
    lower, upper = {
        "A above B": (0.0, math.inf), "A below B": (-math.inf, 0.0),
        "A equals B": (-margin, margin), "A differs from B": (-margin, margin),
    }[direction]  # fmt: skip
    inside: Verdict = "reproduced"
    outside: Verdict = "opposite"
    if direction == "A differs from B":
        inside, outside = outside, inside
    if lower < change.low and change.high < upper:
        return inside
    if change.high < lower or change.low > upper:
        return outside
    return "inconclusive"  # also for NaN: with fewer than two pairs there is no interval


def _find(claim: Claim, evidence: Evidence) -> Finding:
    """A claim and its judgements, without q-values."""
    contexts, gap, lacks = evidence.contexts(claim)
    if not contexts:
        return Finding(claim, Judgement("not observed", reason=gap, lacks=lacks))
    bounds = evidence.study.seed_bounds
    judgements = tuple(_judge(claim, one, evidence.metrics[claim.metric], evidence, bounds) for one in contexts)
    if len(contexts) == 1:
        return Finding(claim, judgements[0], judgements)

    # Contexts without any pair say nothing yet, and those in which one side is gone never will.
    there = [one for one in contexts if not one.gone and one.a.keys() & one.b.keys()]
    overall = _judge(claim, average(there or contexts), evidence.metrics[claim.metric], evidence, bounds)
    return Finding(claim, overall, judgements)


def _judge(claim: Claim, context: Context, metric: Metric, evidence: Evidence, bounds: SeedBounds | None) -> Judgement:
    """Judge a claim in one context, or on average over contexts."""
    # The artifact must be there.
    margin = metric.interest if claim.margin is None else claim.margin
    given = context.given
    if context.gone:
        return Judgement("not observed", reason=context.lost, given=given)
    if absent := _absent(claim, context, evidence):
        return Judgement("not observed", reason=absent, given=given, n=len(context.a.keys() & context.b.keys()))

    # The estimate; what survivors say decides nothing.
    change = difference(context.a, context.b, bounds)
    found = Judgement("inconclusive", change.mean, change.low, change.high, change.n, context.lost, given, (), margin)
    if context.lost or math.isnan(change.low):
        return found
    if change.low == change.high and not metric.exact:
        return replace(found, reason=NO_WIDTH)

    # The verdict by the interval, and the test that it stands on.
    if not claim.is_order:
        assert margin is not None  # `papers.load` refuses such a claim otherwise
        verdict = decide(claim.direction, change, margin)
        p, chance = _at_margin(context.a, context.b, change, margin, bounds)
        return replace(found, verdict=verdict, p=p, chance=chance)
    verdict = decide(claim.direction, change)
    found = replace(found, verdict=verdict, p=_p(change), chance=ALPHA)
    if claim.along:
        found = _judge_steps(claim, context, found)
    if margin and _smaller(context.a, context.b, margin, bounds):
        if found.verdict == "inconclusive" and not found.reason:
            return replace(found, verdict="no effect")
        if found.verdict in DECIDED:
            remark = f"the difference is smaller than {margin:g} {metric.unit if metric.unit != '1' else ''}".rstrip()
            return replace(found, reason="; ".join(filter(None, (found.reason, remark))))
    return found


def _absent(claim: Claim, context: Context, evidence: Evidence) -> str:
    """Which requirements are not met, in words; empty if all are, or if there are no values yet."""
    reasons = []
    for required, arm in zip(claim.requires, context.present, strict=True):
        metric = evidence.metrics[required.metric]
        low, high = required.bounds(metric.interest)
        if not arm:
            continue
        mean = sum(arm.values()) / len(arm)
        if low <= mean <= high:
            continue
        sides = {"A": claim.a, "B": claim.b}
        levels = sides[required.of] if isinstance(required.of, str) else required.of
        where = describe_levels(levels) if not isinstance(levels, float | int) else ""
        bound = f"below {low:g}" if not mean >= low else f"above {high:g}"
        number = f"{mean:.{metric.decimals}f}"
        reasons.append(f"{metric.name} is {number} with {where}, {bound}: what the claim is about is not there")
    return "; ".join(reasons)


def _at_margin(a: Arm, b: Arm, change: Change, margin: float, bounds: SeedBounds | None) -> tuple[float, float]:
    """p of the test that the difference is the margin, on the nearer side of 0, and the chance to be outside of it.

    The chance is that of a difference of 0 with the estimate's own error.
    """
    nearer = math.copysign(margin, change.mean)
    p = _p(difference({seed: value - nearer for seed, value in a.items()}, b, bounds))
    return p, _chance_outside(change, margin)


def _chance_outside(change: Change, margin: float) -> float:
    """How often an interval lies outside the margin if the true difference is 0.

    The half width h of the interval stands for its expected value: the mean of n pairs must be beyond margin + h.
    """
    from scipy.special import stdtr, stdtrit

    half = (change.high - change.low) / 2
    if not half:
        return 0.0
    critical = float(stdtrit(change.n - 1, 1 - ALPHA / 2))
    return 2 * float(stdtr(change.n - 1, -critical * (margin + half) / half))


def _p(change: Change) -> float:
    """p of a change; 0 for one of an exact metric that is the same in every seed."""
    return 0.0 if change.low == change.high and change.mean else change.p


def _smaller(a: Arm, b: Arm, margin: float, bounds: SeedBounds | None) -> bool:
    """Whether two one-sided tests at 5 % show that the difference lies within the margin."""
    for side in (-margin, margin):
        shifted = difference({seed: value - side for seed, value in a.items()}, b, bounds)
        if not (_p(shifted) / 2 < ALPHA and shifted.mean * side < 0):
            return False
    return True


def _judge_steps(claim: Claim, context: Context, found: Judgement) -> Judgement:
    """The judgement of a trend, given that of its two ends."""
    found = replace(found, chance=chance_of_trend(found.n, len(context.steps)))
    if found.verdict != "reproduced":
        return found
    verdict: Verdict = "reproduced"
    reversals = []
    p = found.p
    for (before, reference), (after, values) in pairwise(context.steps.items()):
        change = difference(values, reference)
        if not (change.mean > 0 if claim.direction == "A above B" else change.mean < 0):
            opposite = decide(claim.direction, change) == "opposite"
            p = max(p, _p(change)) if opposite else 1.0
            verdict = "opposite" if opposite or verdict == "opposite" else "inconclusive"
            interval = f"{change.mean:+.3g} [{change.low:+.3g}, {change.high:+.3g}]"
            what = f"it goes the other way, {interval}" if change.n else "there is no pair of seeds"
            reversals.append(f"from {claim.along} {describe_step(before, after)} {what}")
    return replace(found, verdict=verdict, p=p, reason="; ".join(reversals))


@dataclass(frozen=True)
class Tally:
    """How many judgements there are, how many rest on a test, and how many are `reproduced` or `opposite`.

    `by_chance`: how many would be if every difference that is judged were 0.
    """

    judged: int
    tested: int
    decided: int
    by_chance: float


def tally(judgements: Sequence[Judgement]) -> Tally:
    """The tally of judgements; those that the study lacks something for are not counted."""
    judged = [one for one in judgements if not one.lacks]
    tested = [one for one in judged if not math.isnan(one.p)]
    decided = sum(one.verdict in DECIDED for one in tested)
    return Tally(len(judged), len(tested), decided, sum(one.chance for one in tested))
