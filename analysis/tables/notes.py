"""The sentences that say how to read an ablation table."""

import math
from collections.abc import Sequence

from ablate.analysis.statistics.chance import level
from ablate.analysis.statistics.effects import Analysis, Change
from ablate.analysis.statistics.stability import MOMENTS, Stability
from ablate.analysis.tables.rows import TROUBLES, Arm, listed
from ablate.analysis.tables.searched import SearchResult
from ablate.analysis.typeset.cells import Level, Sentence, Symbol, numeral, unit
from ablate.plan.labels import short_names
from ablate.slots.settings import Metric
from ablate.study.study import Study


def describe(metric: Metric, found: Stability) -> Sentence:
    """The same in a sentence."""
    text = (
        f"If seeds are drawn again ({found.draws} draws), {found.best} stays the best in {metric.name} in "
        f"{found.stays:.0%}; Kendall’s τ of the ranking with that by all seeds {numeral(found.tau, 2)}"
    )
    steps = list(found.during)
    if steps:
        named = [steps[i] for i in sorted({round(k * (len(steps) - 1) / (MOMENTS - 1)) for k in range(MOMENTS)})]
        text += "; of the ranking during training with the final one " + ", ".join(
            f"{numeral(found.during[step], 2)} at step {step}" for step in named
        )
    return (f"{text}.",)


AGAINST = {
    "ladder": "of later rungs of the ladder from the rung before",
    "leave_one_out": "of rows w/o a factor from the row with all",
}
"""What Δ is taken from where that is not the baseline."""


def how_to_read(
    study: Study,
    arms: Sequence[Arm],
    metrics: Sequence[Metric],
    analysis: Analysis,
    total: Change | None,
    found: SearchResult | None,
    *,
    raw: bool,
    unpaired: bool,
    indistinct: bool,
) -> tuple[Sentence, ...]:
    """The study, what its numbers are, what became of its trials, what chance does.

    `total`: the change of the primary metric by all that a ladder changes. `found`: what a search has found. `raw`: the
    metrics are of the weights as the optimiser left them. `unpaired`: compared by Dunnett's test. `indistinct`: bold is
    all that is not told from the best.
    """
    primary = next((metric for metric in metrics if metric.name == study.primary), study.metrics[study.primary])
    which: list[Sentence] = [("Of the weights as the optimiser left them, not of their average.",)] if raw else []
    sums = [_in_total(primary, total)] if total else []
    if unpaired:
        how = _of_unpaired(study)
    else:
        how = _of_search(study, found) if found else _of_effects(study, arms, analysis, metrics)
    bold = [_indistinct(study, metrics)] if indistinct else []
    return (
        _about(study),
        *which,
        *how,
        *bold,
        *sums,
        *_sequential(study),
        *_tuned(study, arms),
        *_pruned(study, arms),
        _finished(arms),
        *_chance(primary, analysis),
    )


def _about(study: Study) -> Sentence:
    steps = " + ".join(str(stage.settings.steps) for stage in study.baseline.stages)
    data = study.baseline.parts["data"]
    crop = data.settings.plain().get("crop")
    what = f"{data.level}, {crop} px crops" if crop else data.level
    start = f"Study {study.name} at scale {study.scale}: {steps} steps on {what}. Baseline: "
    return (start, *listed({factor.path: factor.levels[0] for factor in study.factors}), ".")


def _of_search(study: Study, found: SearchResult) -> list[Sentence]:
    seeds: Sentence = (
        ("One seed: no spread.",)
        if len(study.seeds) == 1
        else ("Mean ± standard deviation over ", Symbol("n"), f" of {len(study.seeds)} seeds.")
    )
    return [seeds, *found.notes]


def _of_unpaired(study: Study) -> list[Sentence]:
    return [
        ("Mean ± standard deviation over ", Symbol("n"), f" of {len(study.seeds)} seeds; Δ is the difference from the "
         "baseline, the seeds taken as unpaired. Its interval in brackets and its star, which marks an interval that "
         "excludes 0, are of Dunnett’s test: they hold at 95 % for all treatments of a column at once."),
    ]  # fmt: skip


def _of_effects(study: Study, arms: Sequence[Arm], analysis: Analysis, metrics: Sequence[Metric]) -> list[Sentence]:
    aliases = any(arm.treatment.aliases for arm in arms)
    count = analysis.noise.comparisons
    names = "A name in brackets is the row’s in another design; its Δ goes by the name before the brackets."
    others = "; ".join(AGAINST[design] for design in study.designs if design in AGAINST)
    delta = "Δ is the difference from the baseline" + (f" ({others})" if others else "")
    beside: list[Sentence] = [(names,)] if aliases else []
    mean: Sentence = (
        "Mean ± standard deviation over ", Symbol("n"), f" of {len(study.seeds)} seeds; {delta}, paired by seed, with "
        "its 95 % interval by Student’s ", Symbol("t"), " in brackets.",
    )  # fmt: skip
    star: Sentence = (
        f"A star marks an interval that excludes 0, for {study.primary} also ", Symbol("p"),
        f" < 0.05 after Holm’s correction for {count} comparison{'s' * (count != 1)} (unclear: the interval alone); "
        "others are not corrected.",
    )  # fmt: skip
    if len(study.seeds) == 1:
        return [("One seed: no spread, no interval.",), *([(f"{delta}.",)] if others else []), *beside]
    aims = any(metric.direction == "target" for metric in metrics)
    aim: list[Sentence] = [("Where the aim is a value (→), the distance to it is judged.",)] if aims else []
    return [mean, *beside, *([star, *aim] if count else [])]


def _sequential(study: Study) -> list[Sentence]:
    """By which rule there are more seeds of some treatments, and what that does to intervals."""
    if study.seed_bounds is None:
        return []
    fewest, most = study.seed_bounds
    return [
        (
            f"Seeds were added one at a time, from {fewest} to at most {most}, where {study.primary} did not tell a "
            f"treatment from its reference: up to {most - fewest + 1} analyses. The interval of each is one of "
            f"{1 - level(study.seed_bounds):.1%}, so that those of all analyses hold the truth with 95 %; ",
            Symbol("p"), " is corrected alike (Pocock, for ", Symbol("t"), ").",
        )
    ]  # fmt: skip


def _tuned(study: Study, arms: Sequence[Arm]) -> list[Sentence]:
    """What was tuned for each treatment, at which budget, and what came out."""
    tuning = study.tuning
    if tuning is None:
        return []
    names, seeds = short_names(tuning.factors), ", ".join(map(str, tuning.seeds))
    how = (
        f"Tuned for each treatment alike, by {tuning.sampler} for {study.primary}: {', '.join(names.values())}. "
        f"Each had {tuning.trials} settings, trained in full with seed {seeds}, which no row holds; the rows have what "
        "did best: "
    )
    chosen: list[str | Level | Symbol] = []
    for arm in arms:
        found = arm.treatment.nuisance
        levels = listed({names[path]: level for path, level in found.items()}) if found else ("not tuned yet",)
        chosen += ["; " if chosen else "", f"{arm.treatment.label} ", *levels]
    return [(how, *chosen, ".")]


def _pruned(study: Study, arms: Sequence[Arm]) -> list[Sentence]:
    """By which rule treatments were stopped, and what that means for the others."""
    pruning = study.pruning
    if pruning is None:
        return []
    lost = [arm.treatment.label for arm in arms if "pruned" in arm.status]
    return [
        (
            f"Treatments are stopped by {pruning.rule} on {pruning.column} with seed {study.seeds[0]}, "
            f"at {pruning.where}: {', '.join(lost) or 'none was'}. "
            + ("They are no results; those left were chosen by how this seed did." if lost else ""),
        )
    ]


def _indistinct(study: Study, metrics: Sequence[Metric]) -> Sentence:
    holm = f", for {study.primary} after Holm’s correction" if study.primary in {m.name for m in metrics} else ""
    return (
        "Bold are the best mean of a column and all that are not told from it: ", Symbol("p"), " ≥ 0.05, paired by "
        "seed, by Student’s ", Symbol("t"), f"{holm}.",
    )  # fmt: skip


def _in_total(metric: Metric, total: Change) -> Sentence:
    mean, low, high = (numeral(value, metric.decimals, signed=True) for value in (total.mean, total.low, total.high))
    change = f"{mean} {unit(metric)}".rstrip()
    return (f"All changes together, against the baseline: {metric.name} {change} [{low}, {high}].",)


def _finished(arms: Sequence[Arm]) -> Sentence:
    counts = {name: sum(arm.status.get(name, 0) for arm in arms) for name in ("done", *TROUBLES)}
    total = sum(counts.values())
    if counts["done"] == total:
        return (f"All {total} trials finished.",)
    found = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    unranked = "; treatments with diverged trials are not ranked" if counts["diverged"] else ""
    return (f"{total} trials: {found}{unranked}.",)


def _chance(metric: Metric, analysis: Analysis) -> list[Sentence]:
    noise = analysis.noise
    if not noise.sd > 0:
        return []
    amount = f"{{}} {unit(metric)}".rstrip()
    found = amount.format(numeral(noise.detectable, metric.decimals))
    parts = [f"{noise.pairs} paired seeds detect a difference of {found} (80 % power, 5 % two-sided, uncorrected)"]
    if noise.chance_gain > 0:
        gain = amount.format(numeral(noise.chance_gain, metric.decimals))
        parts.insert(0, f"the best of {noise.comparisons} treatments without effect would seem {gain} better by chance")
    if not math.isnan(noise.correlation):
        parts.append(f"correlation of the pairs {numeral(noise.correlation, 2)}")
    return [(f"In {metric.name}, {'; '.join(parts)}.",)]
