"""The answer to a study's question in a few sentences, as far as its records carry it and no further."""

import math
from collections import Counter
from collections.abc import Sequence

from ablate.analysis.results import StudyResults
from ablate.analysis.statistics.chance import ALPHA
from ablate.analysis.statistics.claims import Verdict
from ablate.analysis.statistics.effects import Effect
from ablate.analysis.typeset.cells import numeral, unit

MAX_NAMED = 4
"""Treatments that a sentence names."""


VERDICTS = ("better", "worse", "higher", "lower")


CLAIMED: tuple[Verdict, ...] = ("reproduced", "opposite", "inconclusive")


def answer(results: StudyResults) -> list[str]:
    """Sentences, the most important first. Where nothing is clear the first one says so."""
    arms = results.table.arms
    changed = [arm.effects[results.study.primary] for arm in arms[1:]]
    measured = [effect for effect in changed if not math.isnan(effect.change.mean)]
    finished = sum(arm.status.get("done", 0) for arm in arms)
    if not measured:
        return [f"No answer yet: {finished} of {len(results.trials)} trials have finished.", *_diverged(results)]
    if results.study.search:
        first = _searched(results)
    elif max(effect.change.n for effect in measured) < 2:
        first = [_one_pair(results)]
    else:
        first = [_clear(results), *_rest(changed, results)]
    unfinished = len(results.trials) - finished - sum(arm.status.get("diverged", 0) for arm in arms)
    early = [f"This is preliminary: {unfinished} of {len(results.trials)} trials have no result."] if unfinished else []
    others = [] if results.study.search else _other_metrics(results)
    return [*first, *_diverged(results), *others, *_claims(results), *early]


def _clear(results: StudyResults) -> str:
    """The treatments that differ in the primary metric, the largest change first."""
    name = results.study.primary
    rows = [(arm.treatment.label, arm.effects[name]) for arm in results.table.arms[1:]]
    clear = sorted([row for row in rows if row[1].clear], key=lambda row: -abs(row[1].change.mean))
    if not clear:
        noise = results.table.analysis.noise
        found = f"{numeral(noise.detectable, results.primary.decimals)} {unit(results.primary)}".rstrip()
        power = f" {noise.pairs} paired seeds would detect {found}." if noise.detectable > 0 else ""
        return f"Nothing is clear in {name}: none of {_count(len(rows), 'treatment')} clearly differs.{power}"
    parts = []
    for verdict in VERDICTS:
        of_kind = [_change(results, label, effect) for label, effect in clear if effect.verdict == verdict]
        if of_kind:
            parts.append(f"{verdict} with {_listed(of_kind)}")
    return f"{name} is {'; '.join(parts)}."


def _rest(effects: Sequence[Effect], results: StudyResults) -> list[str]:
    """What became of the other treatments."""
    counts = Counter(effect.verdict for effect in effects)
    parts = [f"{counts[word]} {word}" for word in ("within noise", "identical", "too few seeds") if counts[word]]
    if counts["unclear"]:
        tests = results.table.analysis.noise.comparisons
        parts.append(f"{counts['unclear']} unclear (not after correction for {_count(tests, 'comparison')})")
    total = f"Of {_count(len(effects), 'treatment')}: "
    return [f"{total}{', '.join(parts)}."] if parts else []


def _one_pair(results: StudyResults) -> str:
    name = results.study.primary
    rows = [(arm.treatment.label, arm.effects[name]) for arm in results.table.arms[1:]]
    label, effect = max(rows, key=lambda row: abs(row[1].change.mean) if row[1].change.n else -1)
    return (
        "With one seed no difference can be told from noise. "
        f"The largest change in {name} is that of {_change(results, label, effect)}."
    )


def _searched(results: StudyResults) -> list[str]:
    """A search ends with its best; nothing of it is tested."""
    found, name = results.table.search_result, results.study.primary
    assert results.study.search is not None and found is not None
    best = [arm.treatment.label for arm in results.table.arms if arm.treatment.label in found.front]
    goals = " and ".join(goal.name for goal in results.study.search.objectives)
    if not best:
        return ["No treatment that the search has tried ended well and keeps the limits."]
    tried = _count(len(results.table.arms), "treatment")
    shown = [_change(results, label, results.effect(label, name)) if label != "baseline" else label for label in best]
    return [
        f"Of {tried} tried, none beats {_listed(shown)} in {goals}.",
        "The best of many seems better than it is: nothing of a search is tested.",
    ]


def _diverged(results: StudyResults) -> list[str]:
    lost = {arm.treatment.label: arm.status["diverged"] for arm in results.table.arms if arm.status.get("diverged")}
    seeds = len(results.study.seeds)
    return [f"Diverged: {_listed([f'{label} ({count} of {seeds})' for label, count in lost.items()])}."] if lost else []


def _other_metrics(results: StudyResults) -> list[str]:
    """How many differences stand out elsewhere, and how many would if there were none."""
    others = [name for name in results.study.metrics if name != results.study.primary]
    effects = [arm.effects[name] for arm in results.table.arms[1:] for name in others]
    tested = [effect for effect in effects if not math.isnan(effect.judged.p)]
    clear = sum(effect.clear for effect in tested)
    if not tested:
        return []
    return [
        f"In {_count(len(others), 'other metric')}, not corrected for their number, {clear} of "
        f"{_count(len(tested), 'difference')} stand out; about {ALPHA * len(tested):.0f} would by chance alone."
    ]


def _claims(results: StudyResults) -> list[str]:
    counts = Counter(found.verdict for _, found in results.table.claims)
    judged = {verdict: counts[verdict] for verdict in CLAIMED if counts[verdict]}
    if not judged:
        return []
    said = ", ".join(f"{count} {verdict}" for verdict, count in judged.items())
    return [f"Claims of the paper, held against these records: {said}."]


def _change(results: StudyResults, label: str, effect: Effect) -> str:
    """`kl=1 (−2.75 dB [−7.40, +1.90])`"""
    change, decimals = effect.change, results.primary.decimals
    mean = f"{numeral(change.mean, decimals, signed=True)} {unit(results.primary)}".rstrip()
    low, high = (numeral(bound, decimals, signed=True) for bound in (change.low, change.high))
    return f"{label} ({mean} [{low}, {high}])" if change.low == change.low else f"{label} ({mean})"


def _listed(parts: Sequence[str]) -> str:
    rest = f" and {len(parts) - NAMED} more" if len(parts) > MAX_NAMED else ""
    return ", ".join(parts[:MAX_NAMED]) + rest


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"
