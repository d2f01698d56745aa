"""The notes under an ablation table about verdicts: who is not judged, what is negligible, what could be detected."""

import math
from collections.abc import Sequence

from ablate.analysis.statistics.effects import Analysis
from ablate.analysis.statistics.noise import Noise
from ablate.analysis.statistics.power import MOST_SEEDS
from ablate.analysis.statistics.verdicts import is_trouble, with_unit
from ablate.analysis.tables.rows import Arm
from ablate.analysis.typeset.cells import Sentence, amount, numeral
from ablate.plan.labels import Names
from ablate.slots.settings import Metric
from ablate.study.study import Study
from ablate.study.titles import title_of


def describe_moderation(analysis: Analysis) -> list[Sentence]:
    """How variances are moderated, if they are."""
    if not analysis.moderation:
        return []
    rows = [one.rows for one in analysis.moderation.values()]
    count = f"{min(rows)}" if min(rows) == max(rows) else f"{min(rows)} to {max(rows)}"
    return [
        (
            f"Variances are moderated over {count} rows of a metric (Smyth 2004), never below a row’s own; a row with "
            "too large a variance keeps its own test.",
        )
    ]


def list_troubles(study: Study, arms: Sequence[Arm]) -> list[Sentence]:
    """The treatments on which there is no verdict because trials have ended without a result."""
    names = Names(study)
    words = {
        names.treatment(arm.treatment.label): arm.judged.verdict for arm in arms[1:] if is_trouble(arm.judged.verdict)
    }
    if not words:
        return []
    listed = ", ".join(f"{label} ({word})" for label, word in words.items())
    return [(f"Not judged, because the trials that are left are a selection by their results: {listed}.",)]


def list_negligible(study: Study, arms: Sequence[Arm]) -> list[Sentence]:
    """The planned comparisons whose change is smaller than the smallest effect of interest."""
    names = Names(study)
    labels_of: dict[str, list[str]] = {}
    for arm in arms[1:]:
        if arm.judged.negligible:
            remark = " (though clear)" if arm.judged.clear else ""
            labels_of.setdefault(arm.judged_by, []).append(f"{names.treatment(arm.treatment.label)}{remark}")
    return [
        (
            f"Smaller than the smallest effect of interest in {name}, {with_unit(metric, metric.interest)}, "
            f"by two one-sided tests at 5 %: {', '.join(labels)}.",
        )
        for metric, name, labels in (
            (study.metrics[name], title_of(study.metrics[name]), labels) for name, labels in labels_of.items()
        )
    ]


def describe_chance(metric: Metric, noise: Noise) -> Sentence:
    """What chance alone does, which difference the study can detect, and the seeds that it would need."""
    parts = [describe_power(metric, noise, noise.pairs)]
    if noise.chance_gain > 0:
        gain = amount(metric, noise.chance_gain)
        parts.insert(0, f"the best of {noise.comparisons} treatments without effect would seem {gain} better by chance")
    if not math.isnan(noise.correlation):
        parts.append(f"correlation of the pairs {numeral(noise.correlation, 2)}")
    return (f"In {title_of(metric)}, {'; '.join(parts)}.",)


def describe_power(metric: Metric, noise: Noise, seeds: int) -> str:
    """The difference that a verdict finds with 80 % power, and the seeds needed for the smallest effect of interest.

    `seeds`: the number for which `noise.detectable` is.
    """
    holm = f", after Holm’s correction for {noise.planned} comparisons" if noise.planned > 1 else ""
    text = (
        f"{seeds} paired seeds detect a difference of {amount(metric, noise.detectable)} (80 % power, 5 % "
        f"two-sided{holm})"
    )
    if metric.interest is None:
        return text
    needed = f"{noise.needed} seeds" if noise.needed else f"more than {MOST_SEEDS} seeds"
    return f"{text}; the smallest effect of interest, {with_unit(metric, metric.interest)}, needs {needed}"
