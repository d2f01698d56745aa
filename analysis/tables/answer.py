"""The answer to a study's question in sentences that claim no more than intervals and verdicts support."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ablate.analysis.statistics.chance import ALPHA
from ablate.analysis.statistics.findings import Finding, Verdict, tally
from ablate.analysis.statistics.noise import Noise
from ablate.analysis.statistics.verdicts import CLEAR, is_trouble, with_unit
from ablate.analysis.tables.leads import SEVERAL, Comparison, by_factor, by_metric, by_size, largest
from ablate.analysis.typeset.cells import amount, compared, numeral
from ablate.plan.labels import Names
from ablate.study.titles import title_of

if TYPE_CHECKING:
    from ablate.analysis.tables.table import Table

MAX_NAMED = 4
"""Most treatments that a sentence names."""

CLAIM_VERDICTS: tuple[Verdict, ...] = ("reproduced", "opposite", "no effect", "inconclusive")
"""Verdicts on claims that were observed, in the order in which they are reported."""


@dataclass(frozen=True)
class Answer:
    """What a study has found so far, in sentences.

    `headline`: the answer in one sentence. `found`: the clear effects, a sentence per factor, the largest first.
    `ruled_out`: where there is no effect as large as the smallest effect of interest. `still_open`: what the study
    cannot tell, a sentence per metric with the seeds that it needs. `remarks`: what else a reader should know.
    """

    headline: str
    found: tuple[str, ...] = ()
    ruled_out: tuple[str, ...] = ()
    still_open: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()

    @property
    def parts(self) -> dict[str, tuple[str, ...]]:
        """Heading -> its sentences; headings without any are left out."""
        parts = {
            "Clear effects (×: in multiples of the smallest effect of interest)": self.found,
            "Ruled out": self.ruled_out,
            "Still open": self.still_open,
            "Also": self.remarks,
        }
        return {heading: sentences for heading, sentences in parts.items() if sentences}

    @property
    def parts_by_key(self) -> dict[str, list[str]]:
        """What `ablate table --json` has besides the headline."""
        return {
            "found": [*self.found],
            "ruled_out": [*self.ruled_out],
            "still_open": [*self.still_open],
            "remarks": [*self.remarks],
        }

    @property
    def sentences(self) -> list[str]:
        """All sentences in order."""
        return [self.headline, *(sentence for part in self.parts.values() for sentence in part)]


def answer(table: "Table") -> Answer:
    """The answer of a study so far."""
    total = sum(sum(arm.status.values()) for arm in table.arms)
    finished = sum(arm.status.get("done", 0) for arm in table.arms)
    diverged = _diverged(table)
    nothing_measured = all(math.isnan(arm.effects[table.study.primary].mean) for arm in table.arms)
    if nothing_measured if table.study.search else not table.comparisons:
        return Answer(_no_answer(table, finished, total), remarks=tuple(diverged))
    lost = sum(arm.status.get(name, 0) for arm in table.arms for name in ("diverged", "failed", "pruned"))
    left = total - finished - lost
    early = [f"This is preliminary: {left} of {total} trials have no result yet."] if left else []
    if table.study.search:
        return Answer(_best_of_search(table), remarks=(SEARCH_BIAS, *diverged, *early))

    # What is clear, ruled out and open.
    rows = table.comparisons
    found = _found(rows)
    remarks = [*diverged, *_not_judged(rows), *_exploratory(table), *_claims(table), *early]
    return Answer(
        _headline(rows), tuple(found), tuple(_ruled_out(rows)), tuple(_open(rows, table.open_noises)), tuple(remarks)
    )


def _no_answer(table: "Table", finished: int, total: int) -> str:
    """Why there is no answer."""
    if len(table.arms) == 1 and not table.study.search:
        return "No comparison: the study has one treatment."
    lacking = ", and none of them can be compared with its reference" if finished else ""
    return f"No answer yet: {finished} of {total} trials have finished{lacking}."


def _headline(rows: Sequence[Comparison]) -> str:
    """How many factors have a clear effect, and which."""
    groups = by_factor(rows)
    noun = "group of treatments" if SEVERAL in groups else "factor"
    if max(one.change.n for one in rows) < 2:
        one = largest(rows)
        return (
            "With one seed, no difference can be distinguished from noise. The largest change is that of "
            f"{one.name} in {compared(one.metric)}: {_interval(one)}."
        )
    clear = [largest(group) for group in groups.values() if any(one.clear for one in group)]
    metrics = by_metric(rows)
    if not clear:
        return (
            f"No clear effect: none of {_count(len(groups), noun)} clearly changes "
            f"{_listed([compared(group[0].metric) for group in metrics.values()])}."
        )
    names = [one.factor for one in by_size(clear)]
    top = by_size(clear)[0]
    share = f"{len(clear)} of {_count(len(groups), noun)} {'have' if len(clear) > 1 else 'has'} a clear effect"
    return f"{share}: {_listed(names)}. The largest: {_described(top)}."


def _found(rows: Sequence[Comparison]) -> list[str]:
    """A sentence per factor with a clear effect: on each metric the largest in either direction, and who shares it."""
    groups = {factor: [one for one in group if one.clear] for factor, group in by_factor(rows).items()}
    order = sorted((group for group in groups.values() if group), key=lambda group: rows.index(largest(group)))
    order = sorted(order, key=lambda group: -_finite(largest(group).size))
    sentences = []
    for group in order:
        alike = [
            [one for one in on_metric if one.verdict == word]
            for on_metric in by_metric(by_size(group)).values()
            for word in CLEAR
        ]
        tops = by_size([largest(same) for same in alike if same])
        texts = [_described(top, next(same for same in alike if top in same)) for top in tops]
        sentences.append(f"{group[0].factor}: {'; '.join(texts)}.")
    return sentences


def _described(one: Comparison, alike: Sequence[Comparison] = ()) -> str:
    """A clear effect: `kl=1, psnr worse: −3.00 dB [−3.20, −2.80] (6.0 ×, exploratory), likewise kl=0.1`.

    `alike`: the treatments with the same verdict, it among them.
    """
    remarks = [f"{one.size:.1f} ×" if math.isfinite(one.size) else "", "" if one.planned else "exploratory"]
    remark = ", ".join(filter(None, remarks))
    text = f"{one.name}, {compared(one.metric)} {one.verdict}: {_interval(one)}"
    others = [other.name for other in alike if other is not one]
    return (f"{text} ({remark})" if remark else text) + (f", likewise {_listed(others)}" if others else "")


def _interval(one: Comparison) -> str:
    """The change with its interval: `−2.75 dB [−7.40, +1.90]`."""
    mean = amount(one.metric, one.change.mean, signed=True)
    if math.isnan(one.change.low):
        return mean
    low, high = (numeral(bound, one.metric.decimals, signed=True) for bound in (one.change.low, one.change.high))
    return f"{mean} [{low}, {high}]"


def _ruled_out(rows: Sequence[Comparison]) -> list[str]:
    """A sentence per metric on which treatments have no effect of interest, and one on equal values."""
    sentences = []
    for group in by_metric(rows).values():
        metric = group[0].metric
        gone = [one for one in group if one.ruled_out]
        if gone:
            remark = "" if all(one.planned for one in gone) else " (exploratory)"
            margin = with_unit(metric, metric.interest)
            sentences.append(f"no effect ≥ {margin} on {compared(metric)}{remark}: {_who(gone, rows)}.")
    same = [one for one in rows if one.verdict == "identical"]
    equal = [
        f"{title_of(group[0].metric)} identical in every seed: {_who(group, rows)}."
        for group in by_metric(same).values()
    ]
    return sentences + equal


def _open(rows: Sequence[Comparison], noises: Mapping[str, Noise]) -> list[str]:
    """A sentence per metric on which the study cannot tell: of whom, the largest estimate, the seeds that it needs."""
    sentences = []
    for name, group in by_metric(rows).items():
        undecided = [one for one in group if one.is_open]
        if not undecided:
            continue
        metric = undecided[0].metric
        measured = [one for one in undecided if math.isfinite(one.change.mean)]
        parts = [_who(undecided, rows)]
        if measured:
            top = max(measured, key=lambda one: abs(one.change.mean))
            estimate = f"{top.name}, {_interval(top)} ({top.verdict})"
            parts = [estimate] if len(undecided) == 1 else [*parts, f"the largest estimate is that of {estimate}"]
        noise = noises.get(name)
        if noise and metric.interest and not math.isnan(noise.detectable):
            parts.append(_seeds(noise, with_unit(metric, metric.interest)))
        elif noise and not math.isnan(noise.detectable):
            parts.append(f"{noise.pairs} seeds detect {amount(metric, noise.detectable)}")
        sentences.append(f"{compared(metric)}: {'; '.join(parts)}.")
    return sentences


def _seeds(noise: Noise, margin: str) -> str:
    """How many seeds would settle it, by the power of the test at the smallest effect of interest."""
    if noise.needed is None:
        return f"more than 1000 seeds would be needed to detect {margin}"
    if noise.needed <= noise.pairs:
        return f"its {noise.pairs} seeds detect {margin} in 80 % of studies"
    return f"{noise.needed} seeds would detect {margin} in 80 % of studies"


def _who(chosen: Sequence[Comparison], rows: Sequence[Comparison]) -> str:
    """The factors all of whose comparisons on the metric are chosen, by name, and the others by comparison."""
    metric = chosen[0].metric.name
    names = []
    for factor, group in by_factor(one for one in rows if one.metric.name == metric).items():
        mine = [one for one in chosen if one.factor == factor]
        whole = len(mine) == len(group) > 1 and not any(one.verdict in CLEAR for one in mine)
        each = [f"{one.name} (though {one.verdict})" if one.verdict in CLEAR else one.name for one in mine]
        names += [f"all of {factor}"] if whole else each
    return _listed(names)


def _not_judged(rows: Sequence[Comparison]) -> list[str]:
    """The treatments on which there is no verdict since trials failed; those that diverged are told elsewhere."""
    words = {one.name: one.verdict for one in rows if is_trouble(one.verdict) and "diverges" not in one.verdict}
    return [f"Not judged: {_listed([f'{name} ({word})' for name, word in words.items()])}."] if words else []


SEARCH_BIAS = "The best of many seems better than it is: the results of a search are not tested."


def _best_of_search(table: "Table") -> str:
    """The front of a search, which is not tested."""
    assert table.study.search is not None and table.search_result is not None
    best = [arm for arm in table.arms if arm.treatment.label in table.search_result.front]
    names = Names(table.study)
    goals = " and ".join(title_of(goal) for goal in table.study.search.objectives)
    if not best:
        return "No treatment that the search has tried finished successfully and keeps the limits."
    metric = table.study.metrics[table.study.primary]
    shown = []
    for arm in best:
        change = amount(metric, arm.effects[metric.name].change.mean, signed=True)
        label = names.treatment(arm.treatment.label)
        shown.append(label if arm.treatment.is_baseline else f"{label} ({change})")
    return f"Of {_count(len(table.arms), 'treatment')} tried, none beats {_listed(shown)} in {goals}."


def _diverged(table: "Table") -> list[str]:
    """The treatments with diverged trials, if any."""
    counts = {arm.treatment.label: arm.status["diverged"] for arm in table.arms if arm.status.get("diverged")}
    if not counts:
        return []
    names = Names(table.study)
    totals = {arm.treatment.label: sum(arm.status.values()) for arm in table.arms}
    lost = [f"{names.treatment(label)} ({count} of {totals[label]})" for label, count in counts.items()]
    return [f"Diverged: {_listed(lost)}."]


def _exploratory(table: "Table") -> list[str]:
    """How many differences in metrics that are not planned are clear, and how many would be by chance alone."""
    effects = [
        effect for arm in table.arms[1:] for name, effect in arm.effects.items() if name != arm.judged_by
    ]  # fmt: skip
    tested = [effect for effect in effects if not math.isnan(effect.change.p)]
    clear = sum(effect.clear for effect in tested)
    if not tested:
        return []
    return [
        f"Exploratory comparisons are not corrected for their number: of {len(tested)} in all metrics, {clear} are "
        f"clear; about {ALPHA * len(tested):.0f} would be by chance alone."
    ]


def _claims(table: "Table") -> list[str]:
    """How many claims of the paper and hypotheses of ours have each verdict, and how many chance would decide."""
    findings = table.claims
    said = [finding for finding in findings if finding.claim.said_by == "paper"]
    ours = [finding for finding in findings if finding.claim.said_by == "us"]
    parts = [_verdicts(f"Claims of {table.paper}", said), _verdicts("Hypotheses of ours", ours)]
    sentences = [f"{part}." for part in parts if part]
    counts = tally([finding.overall for finding in findings])
    if counts.tested:
        sentences.append(f"Chance alone would decide about {counts.by_chance:.1f} of {_count(counts.tested, 'claim')}.")
    return sentences


def _verdicts(name: str, findings: Sequence[Finding]) -> str:
    """How many claims have each verdict; empty if none was observed."""
    counts = Counter(finding.overall.verdict for finding in findings)
    observed = [f"{counts[verdict]} {verdict}" for verdict in CLAIM_VERDICTS if counts[verdict]]
    return f"{name}: {', '.join(observed)}" if observed else ""


def _listed(parts: Sequence[str]) -> str:
    """The first `MAX_NAMED` parts, and how many more there are."""
    rest = f" and {len(parts) - MAX_NAMED} more" if len(parts) > MAX_NAMED else ""
    return ", ".join(parts[:MAX_NAMED]) + rest


def _count(number: int, noun: str) -> str:
    first, *rest = noun.split(" ", 1)
    return " ".join([str(number), first + "s" * (number != 1), *rest])


def _finite(size: float) -> float:
    """A size by which to sort; one that is not known is the smallest."""
    return size if math.isfinite(size) else -1.0
