"""The answer to a study's question in a few sentences that claim no more than the records support."""

import math
from collections import Counter
from collections.abc import Sequence

from ablate.analysis.results import StudyResults
from ablate.analysis.statistics.chance import ALPHA
from ablate.analysis.statistics.effects import Effect
from ablate.analysis.statistics.findings import Finding, Verdict, tally
from ablate.analysis.statistics.verdicts import CLEAR, is_trouble
from ablate.analysis.tables.rows import Arm
from ablate.analysis.typeset.cells import amount, numeral
from ablate.slots.settings import Metric

MAX_NAMED = 4
"""Most treatments that a sentence names."""

CLAIM_VERDICTS: tuple[Verdict, ...] = ("reproduced", "opposite", "no effect", "inconclusive")
"""Verdicts on claims that were observed, in the order in which they are reported."""


def answer(results: StudyResults) -> list[str]:
    """Sentences, the most important first. If there is no clear effect, the first one says so."""
    # The primary metric.
    arms = results.table.arms
    effects = [arm.judged for arm in arms[1:]]
    measured = [effect for effect in effects if not math.isnan(effect.change.mean)]
    finished = sum(arm.status.get("done", 0) for arm in arms)
    if not measured:
        return [f"No answer yet: {finished} of {len(results.trials)} trials have finished.", *_diverged(results)]
    if results.study.search:
        first = _best_of_search(results)
    elif max(effect.change.n for effect in measured) < 2:
        first = [_largest_change(results)]
    else:
        metrics = dict.fromkeys(arm.judged_by for arm in arms[1:])
        first = [*(_clear_changes(results, name) for name in metrics), *_other_treatments(effects)]

    # What else a reader should know.
    unfinished = len(results.trials) - finished - sum(arm.status.get("diverged", 0) for arm in arms)
    early = [f"This is preliminary: {unfinished} of {len(results.trials)} trials have no result."] if unfinished else []
    others = [] if results.study.search else _other_metrics(results)
    return [*first, *_diverged(results), *others, *_claims(results), *early]


def _clear_changes(results: StudyResults, name: str) -> str:
    """The treatments with a clear change of the metric that they are judged by, the largest change first."""
    rows = [arm for arm in results.table.arms[1:] if arm.judged_by == name]
    clear = sorted([arm for arm in rows if arm.judged.clear], key=lambda arm: -abs(arm.judged.change.mean))
    metric = results.study.metrics[name]
    if not clear:
        noise = results.table.analysis.noises.get(name)
        power = ""
        if noise and noise.detectable > 0:
            power = f" {noise.pairs} paired seeds would detect {amount(metric, noise.detectable)}."
        return f"There is no clear effect on {name}: none of {_count(len(rows), 'treatment')} clearly differs.{power}"
    parts = []
    for verdict in CLEAR:
        changes = [_change(metric, arm) for arm in clear if arm.judged.verdict == verdict]
        if changes:
            parts.append(f"{verdict} with {_listed(changes)}")
    return f"{name} is {'; '.join(parts)}."


def _other_treatments(effects: Sequence[Effect]) -> list[str]:
    """How many treatments have no clear change, by verdict."""
    counts = Counter(_kind(effect.verdict) for effect in effects if not effect.clear)
    parts = [f"{count} {word}" for word, count in counts.items() if word != "unclear"]
    if counts["unclear"]:
        parts.append(f"{counts['unclear']} unclear (not after correction for {_count(len(effects), 'comparison')})")
    total = f"Of {_count(len(effects), 'treatment')}: "
    return [f"{total}{', '.join(parts)}."] if parts else []


def _kind(verdict: str) -> str:
    """A verdict without its numbers of trials."""
    return "not judged, since trials diverged or failed" if is_trouble(verdict) else verdict


def _largest_change(results: StudyResults) -> str:
    """The treatment with the largest change of the primary metric, if there is one seed only."""
    name = results.study.primary
    rows = [arm for arm in results.table.arms[1:] if arm.judged_by == name] or results.table.arms[1:]
    largest = max(rows, key=lambda arm: abs(arm.judged.change.mean) if arm.judged.change.n else -1)
    return (
        "With one seed, no difference can be distinguished from noise. The largest change in "
        f"{largest.judged_by} is that of {_change(results.study.metrics[largest.judged_by], largest)}."
    )


def _best_of_search(results: StudyResults) -> list[str]:
    """The front of a search, which is not tested."""
    search_result = results.table.search_result
    assert results.study.search is not None and search_result is not None
    best = [arm.treatment.label for arm in results.table.arms if arm.treatment.label in search_result.front]
    goals = " and ".join(goal.name for goal in results.study.search.objectives)
    if not best:
        return ["No treatment that the search has tried finished successfully and keeps the limits."]
    tried = _count(len(results.table.arms), "treatment")
    metric = results.study.metrics[results.study.primary]
    arms = {arm.treatment.label: arm for arm in results.table.arms}
    shown = [_change(metric, arms[label]) if label != "baseline" else label for label in best]
    return [
        f"Of {tried} tried, none beats {_listed(shown)} in {goals}.",
        "The best of many seems better than it is: the results of a search are not tested.",
    ]


def _diverged(results: StudyResults) -> list[str]:
    """The treatments with diverged trials, if any."""
    counts = {arm.treatment.label: arm.status["diverged"] for arm in results.table.arms if arm.status.get("diverged")}
    if not counts:
        return []
    seeds = len(results.study.seeds)
    return [f"Diverged: {_listed([f'{label} ({count} of {seeds})' for label, count in counts.items()])}."]


def _other_metrics(results: StudyResults) -> list[str]:
    """How many differences in the other metrics are clear, and how many would be by chance alone."""
    judged = {arm.judged_by for arm in results.table.arms[1:]}
    others = [name for name in results.study.metrics if name not in judged]
    effects = [arm.effects[name] for arm in results.table.arms[1:] for name in others]
    tested = [effect for effect in effects if not math.isnan(effect.change.p)]
    clear = sum(effect.clear for effect in tested)
    if not tested:
        return []
    return [
        f"In {_count(len(others), 'other metric')}, not corrected for their number, {clear} of "
        f"{_count(len(tested), 'difference')} are clear; about {ALPHA * len(tested):.0f} would be by chance alone."
    ]


def _claims(results: StudyResults) -> list[str]:
    """How many claims of the paper and hypotheses of ours have each verdict, and how many chance would decide."""
    findings = results.table.claims
    said = [finding for finding in findings if finding.claim.said_by == "paper"]
    ours = [finding for finding in findings if finding.claim.said_by == "us"]
    parts = [_verdicts(f"Claims of {results.table.paper}", said), _verdicts("Hypotheses of ours", ours)]
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


def _change(metric: Metric, arm: Arm) -> str:
    """A treatment with the change that it is judged by: `kl=1 (−2.75 dB [−7.40, +1.90])`."""
    change = arm.judged.change
    mean = amount(metric, change.mean, signed=True)
    low, high = (numeral(bound, metric.decimals, signed=True) for bound in (change.low, change.high))
    interval = f" [{low}, {high}]" if change.low == change.low else ""
    return f"{arm.treatment.label} ({mean}{interval})"


def _listed(parts: Sequence[str]) -> str:
    """The first `MAX_NAMED` parts, and how many more there are."""
    rest = f" and {len(parts) - MAX_NAMED} more" if len(parts) > MAX_NAMED else ""
    return ", ".join(parts[:MAX_NAMED]) + rest


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"
