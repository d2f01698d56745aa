"""Judgements on claims as data: their verdicts, their correction for many, and how many chance alone would give."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from ablate.analysis.statistics.claims import Claim, Levels
from ablate.analysis.statistics.multiplicity import benjamini_hochberg, benjamini_yekutieli

Verdict = Literal["reproduced", "opposite", "no effect", "inconclusive", "not observed"]

DECIDED: tuple[Verdict, ...] = ("reproduced", "opposite")
"""Verdicts that chance alone can give as well."""


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
