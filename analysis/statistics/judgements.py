"""Verdicts of our records on claims: one per claim, from all its contexts together, and one per context.

The verdict on a context follows from the difference A - B, paired over the shared seeds, with its 95 % interval
(`effects.difference`). That on the claim follows in the same way from the differences of all its contexts, averaged
seed by seed. The first of these applies:

- `not observed`: the study has no such treatments or no such metric, a side has no trial with a result, or a
  requirement of the claim is not met;
- `inconclusive`: a trial of either side, of a step or of a requirement diverged or failed: the others were selected by
  their results, and a worst value has no interval. Or there are fewer than two pairs of seeds, or the interval has no
  width, which is a coincidence of equal numbers unless the metric is exact;
- `reproduced`: the interval lies on the claimed side of 0 or, if equality is claimed, within the margin around 0;
- `opposite`: it lies on the other side of 0, or outside the margin. For "differs" these two change places;
- `no effect`: an order is claimed, and two one-sided tests at 5 % show that the difference is smaller than the metric's
  smallest effect of interest (D. J. Schuirmann, "A comparison of the two one-sided tests procedure and the power
  approach", 1987);
- `inconclusive`: none of these.

A claim about a trend also requires that at each level in between the mean lies on the claimed side of the previous one.
A step in the other direction turns `reproduced` into `inconclusive`, or into `opposite` if the interval of that step
lies on the other side of 0.

The requirements of a claim are judged like its verdict: on a context by its own means, on the claim by the means over
all contexts. Averaging only the contexts that show the artifact would select those in which chance raised one side:
with four contexts at the bound, 6 % of claims without any truth would be `reproduced` instead of 2.5 %.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING

from ablate.analysis.statistics.chance import ALPHA
from ablate.analysis.statistics.claims import Claim, Direction, describe_levels
from ablate.analysis.statistics.contexts import Arm, Context, Evidence, average, describe_step
from ablate.analysis.statistics.effects import Change, difference
from ablate.analysis.statistics.findings import DECIDED, Finding, Judgement, Verdict, correct
from ablate.analysis.statistics.multiplicity import chance_of_trend
from ablate.analysis.statistics.verdicts import with_unit
from ablate.plan.treatments import Treatment
from ablate.study.study import SeedBounds, Study

if TYPE_CHECKING:
    import pandas as pd

NO_WIDTH = "every seed gives the same difference, and an interval without width decides nothing"


def judge(
    claims: Sequence[Claim], study: Study, treatments: Sequence[Treatment], frame: "pd.DataFrame"
) -> tuple[Finding, ...]:
    """Judge claims by a study's tidy frame, each in the baseline's context first.

    `treatments`: the study's treatments, as in the frame. In the returned claims, every `Extreme` and `Named` is
    replaced by the study's level.
    """
    evidence = Evidence(study, treatments, frame)
    return correct([_find(evidence.exact(claim), evidence) for claim in claims])


def decide(direction: Direction, change: Change, margin: float = 0.0) -> Verdict:
    """The verdict on a claimed direction, given the change from B to A. `margin`: for "equals" and "differs"."""
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


@dataclass(frozen=True)
class _Test:
    """The paired test of the two sides of a claim; all its intervals and p-values come from here."""

    a: Arm
    b: Arm
    bounds: SeedBounds | None

    def against(self, supposed: float) -> Change:
        """The change from B to A minus a supposed difference."""
        values = {seed: value - supposed for seed, value in self.a.items()} if supposed else self.a
        return difference(values, self.b, self.bounds)


def _find(claim: Claim, evidence: Evidence) -> Finding:
    """A claim and its judgements, without q-values."""
    contexts, gap, lacks = evidence.contexts(claim)
    if not contexts:
        return Finding(claim, Judgement("not observed", reason=gap, lacks=lacks))
    judgements = tuple(_judge(claim, one, evidence) for one in contexts)
    if len(contexts) == 1:
        return Finding(claim, judgements[0], judgements)

    # Contexts without any pair say nothing yet, and those in which one side is gone never will.
    there = [one for one in contexts if not one.gone and one.a.keys() & one.b.keys()]
    overall = _judge(claim, average(there or contexts), evidence)
    return Finding(claim, replace(overall, given={}), judgements)


def _judge(claim: Claim, context: Context, evidence: Evidence) -> Judgement:
    """Judge a claim in one context, or on average over contexts."""
    metric = evidence.metrics[claim.metric]
    test = _Test(context.a, context.b, evidence.study.seed_bounds)

    # The artifact must be there.
    margin = metric.interest if claim.margin is None else claim.margin
    given = context.given
    if context.gone:
        return Judgement("not observed", reason=context.lost, given=given)
    if absent := _absent(claim, context, evidence):
        return Judgement("not observed", reason=absent, given=given, n=len(context.a.keys() & context.b.keys()))

    # The estimate; what survivors say decides nothing.
    change = test.against(0.0)
    found = Judgement("inconclusive", change.mean, change.low, change.high, change.n, context.lost, given, (), margin)
    if context.lost or math.isnan(change.low):
        return found
    if change.low == change.high and not metric.exact:
        return replace(found, reason=NO_WIDTH)

    # The verdict by the interval, and the test that it stands on.
    if not claim.is_order:
        assert margin is not None  # `papers.load` refuses such a claim otherwise
        verdict = decide(claim.direction, change, margin)
        p = _p(test.against(math.copysign(margin, change.mean)))  # on the nearer side of 0
        return replace(found, verdict=verdict, p=p, chance=_chance_outside(change, margin))
    verdict = decide(claim.direction, change)
    found = replace(found, verdict=verdict, p=_p(change), chance=ALPHA)
    if claim.along:
        found = _judge_steps(claim, context, found, test.bounds, exact=metric.exact)
    if margin and _is_smaller(test, margin):
        if found.verdict == "inconclusive" and not found.reason:
            return replace(found, verdict="no effect")
        if found.verdict in DECIDED:
            remark = f"the difference is smaller than {with_unit(metric, margin)}"
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


def _is_smaller(test: _Test, margin: float) -> bool:
    """Whether two one-sided tests at 5 % show that the difference lies within the margin."""
    for side in (-margin, margin):
        change = test.against(side)
        if not (_p(change) / 2 < ALPHA and change.mean * side < 0):
            return False
    return True


def _judge_steps(
    claim: Claim, context: Context, found: Judgement, bounds: SeedBounds | None, *, exact: bool
) -> Judgement:
    """The judgement of a trend, given that of its two ends. `exact`: whether an interval without width decides."""
    found = replace(found, chance=chance_of_trend(found.n, len(context.steps)))
    if found.verdict != "reproduced":
        return found
    verdict: Verdict = "reproduced"
    reversals = []
    p = found.p
    for (before, reference), (after, values) in pairwise(context.steps.items()):
        change = difference(values, reference, bounds)
        if not (change.mean > 0 if claim.direction == "A above B" else change.mean < 0):
            has_width = exact or change.low < change.high
            opposite = has_width and decide(claim.direction, change) == "opposite"
            p = max(p, _p(change)) if opposite else 1.0
            verdict = "opposite" if opposite or verdict == "opposite" else "inconclusive"
            interval = f"{change.mean:+.3g} [{change.low:+.3g}, {change.high:+.3g}]"
            what = f"it goes the other way, {interval}" if change.n else "there is no pair of seeds"
            reversals.append(f"from {claim.along} {describe_step(before, after)} {what}")
    return replace(found, verdict=verdict, p=p, reason="; ".join(reversals))
