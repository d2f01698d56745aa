"""The notes under an ablation table, which say how to read it."""

from collections.abc import Sequence
from itertools import takewhile

from ablate.analysis.statistics.chance import significance_level
from ablate.analysis.statistics.effects import Analysis, Change
from ablate.analysis.statistics.stability import NAMED_STEPS, Stability
from ablate.analysis.statistics.verdicts import TROUBLES
from ablate.analysis.tables.likeness import held_out
from ablate.analysis.tables.rows import UNFINISHED, Arm, list_levels
from ablate.analysis.tables.searched import SearchResult
from ablate.analysis.tables.verdict_notes import (
    describe_chance,
    describe_moderation,
    list_negligible,
    list_troubles,
)
from ablate.analysis.typeset.cells import Column, Level, Sentence, Symbol, amount, compared, numeral
from ablate.plan.labels import Names, format_level, short_names
from ablate.plan.signatures import stage_signatures
from ablate.slots.settings import Metric
from ablate.study.study import Study
from ablate.study.titles import title_of

OTHER_REFERENCES = {
    "ladder": "for later rungs of the ladder, from the previous rung",
    "leave_one_out": "for rows w/o a factor, from the row “all”",
}
"""Design -> the reference of Δ where it is not the baseline."""


def describe_stability(metric: Metric, stability: Stability, names: Names) -> Sentence:
    """How stable the ranking is, in a sentence. Of the steps during training, `NAMED_STEPS` are named."""
    best = names.treatment(stability.best)
    text = (
        f"If seeds are resampled with replacement ({stability.draws} draws), {best} stays the best in "
        f"{title_of(metric)} in {stability.stays:.0%} of the draws; Kendall’s τ with the ranking over all seeds is "
        f"{numeral(stability.tau, 2)} on average"
    )
    steps = list(stability.during)
    if steps:
        chosen = sorted({round(k * (len(steps) - 1) / (NAMED_STEPS - 1)) for k in range(NAMED_STEPS)})
        text += "; Kendall’s τ of the ranking during training with the final one is " + ", ".join(
            f"{numeral(stability.during[step], 2)} at step {step}" for step in (steps[i] for i in chosen)
        )
    return (f"{text}.",)


def name_metrics(columns: Sequence[Column]) -> list[Sentence]:
    """Under which names commands know the metrics that the columns show under others."""
    metrics = dict.fromkeys(column.metric for column in columns if column.metric)
    named = [f"{title_of(metric)} is {metric.name}" for metric in metrics if title_of(metric) != metric.name]
    return [(f"In commands, {', '.join(named)}.",)] if named else []


def how_to_read(
    study: Study,
    arms: Sequence[Arm],
    metrics: Sequence[Metric],
    analysis: Analysis,
    total: Change | None,
    search_result: SearchResult | None,
    *,
    raw: bool,
    unpaired: bool,
    indistinct: bool,
) -> tuple[Sentence, ...]:
    """The study, what the numbers are, how many trials finished, and what chance alone does.

    `total`: the change of the primary metric by all changes of a ladder together. `search_result`: for a study that
    searches. `raw`: the metrics are of the weights as the optimiser left them. `unpaired`: treatments are compared by
    Dunnett's test. `indistinct`: bold marks all means that do not differ from the best.
    """
    shown = {metric.name: metric for metric in metrics}  # with the requested decimals
    primary = shown.get(study.primary, study.metrics[study.primary])
    weights: list[Sentence] = (
        [("Metrics are of the weights as the optimiser left them, not of their average.",)] if raw else []
    )
    if unpaired:
        effects = _unpaired_effects(study)
    elif search_result:
        effects = _search(study, search_result)
    else:
        effects = _effects(study, arms, analysis, metrics)
    bold = [_indistinct(study, metrics)] if indistinct else []
    in_total = [_in_total(primary, total)] if total else []
    return (
        _about(study, arms),
        *weights,
        *effects,
        *bold,
        *in_total,
        *_sequential(study),
        *_tuned(study, arms),
        *_pruned(study, arms),
        _finished(arms),
        *list_troubles(study, arms),
        *list_negligible(study, arms),
        *(
            describe_chance(shown.get(name, study.metrics[name]), noise)
            for name, noise in analysis.noises.items()
            if noise.sd > 0
        ),
    )


def _about(study: Study, arms: Sequence[Arm]) -> Sentence:
    """The study, its training and its baseline."""
    lengths = [stage.settings.steps for stage in study.baseline.stages]
    steps = f"{' + '.join(map(str, lengths))} steps"
    if shared := sum(lengths[: _count_shared(arms)]):
        steps += f", the first {shared} of them shared by all treatments,"
    data = study.baseline.parts["data"]
    crop = data.settings.plain().get("crop")
    what = f"{data.level}, {crop} px crops" if crop else data.level
    measured = held_out(study.baseline)
    start = f"Study {study.name} at scale {study.scale}: {steps} on {what}, measured on {measured}. Baseline: "
    baseline = {factor.path: factor.levels[0] for factor in study.factors}
    return (start, *list_levels(Names(study), baseline, full=True), ".")


def _count_shared(arms: Sequence[Arm]) -> int:
    """How many stages at the beginning are the same training for all treatments."""
    first, *others = arms
    shared = stage_signatures(first.treatment.recipe, seed=0) if others else ()
    for arm in others:
        pairs = zip(shared, stage_signatures(arm.treatment.recipe, seed=0), strict=False)
        shared = tuple(one for one, _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
        if not shared:
            break
    return len(shared)


def _search(study: Study, search_result: SearchResult) -> list[Sentence]:
    """What the numbers are in a study that searches."""
    seeds: Sentence = (
        ("One seed: no spread.",)
        if len(study.seeds) == 1
        else ("Mean ± standard deviation over ", Symbol("n"), f" of {len(study.seeds)} seeds.")
    )
    return [seeds, *search_result.notes]


def _unpaired_effects(study: Study) -> list[Sentence]:
    """What the numbers are where treatments are compared by Dunnett's test."""
    return [
        ("Mean ± standard deviation over ", Symbol("n"), f" of {len(study.seeds)} seeds; Δ is the difference from the "
         "baseline, with the seeds taken as unpaired. The interval in brackets and the star, which marks an interval "
         "that excludes 0, are from Dunnett’s test: they hold at 95 % for all treatments of a column simultaneously."),
    ]  # fmt: skip


def _effects(study: Study, arms: Sequence[Arm], analysis: Analysis, metrics: Sequence[Metric]) -> list[Sentence]:
    """What the numbers are where treatments are compared seed by seed."""
    # The references of Δ, and the second names of treatments that stand in two designs.
    others = "; ".join(OTHER_REFERENCES[design] for design in study.designs if design in OTHER_REFERENCES)
    delta = "Δ is the difference from the baseline" + (f" ({others})" if others else "")
    aliases: list[Sentence] = []
    if any(arm.treatment.aliases for arm in arms):
        aliases = [("A name in brackets is that of the same treatment in another design; Δ refers to the name before "
                    "the brackets.",)]  # fmt: skip
    if len(study.seeds) == 1:
        return [("One seed: no spread, no interval.",), *([(f"{delta}.",)] if others else []), *aliases]

    mean: Sentence = (
        "Mean ± standard deviation over ", Symbol("n"), f" of {len(study.seeds)} seeds; {delta}, paired by seed, with "
        "its 95 % interval by Student’s ", Symbol("t"), " in brackets.",
    )  # fmt: skip
    count = len(arms) - 1
    star: Sentence = (
        f"A star marks an interval that excludes 0; for {study.primary_title}, a star also requires ",
        Symbol("p"), f" < 0.05 after Holm’s correction for {count} comparison{'s' * (count != 1)} (unclear: only the "
        "interval excludes 0). Other metrics are not corrected.",
    )  # fmt: skip
    if study.primary_of:
        star = (
            "A star marks an interval that excludes 0. The comparison of each treatment in the metric that it is "
            "judged by is planned; there a star also requires ", Symbol("p"), " < 0.05 after Holm’s correction for "
            f"{count} comparison{'s' * (count != 1)} (unclear: only the interval excludes 0). Nothing else is "
            "corrected.",
        )  # fmt: skip
    targets = any(metric.direction == "target" for metric in metrics)
    target: list[Sentence] = (
        [("For a metric with a target value (→), Δ, its interval and the test are of the distance to the target.",)]
        if targets
        else []
    )
    return [mean, *describe_moderation(analysis), *aliases, star, *target]


def _sequential(study: Study) -> list[Sentence]:
    """The rule by which seeds were added to some treatments, and how intervals account for it."""
    if study.seed_bounds is None:
        return []
    fewest, most = study.seed_bounds
    metric = "the metric that it is judged by" if study.primary_of else study.primary_title
    return [
        (
            f"Seeds were added one at a time, from {fewest} to at most {most}, as long as a treatment was not "
            f"distinguished from its reference in {metric}: up to {most - fewest + 1} analyses. Each analysis has a "
            f"{1 - significance_level(study.seed_bounds):.1%} interval, so that the intervals of all analyses cover "
            "the truth with 95 %; ", Symbol("p"), " is corrected accordingly (Pocock’s boundary, for ", Symbol("t"),
            ").",
        )
    ]  # fmt: skip


def _tuned(study: Study, arms: Sequence[Arm]) -> list[Sentence]:
    """What was tuned for each treatment, with which budget, and the settings that were chosen."""
    tuning = study.tuning
    if tuning is None:
        return []
    shown = Names(study)
    names = short_names(tuning.factors)
    seeds = f"seed{'s' * (len(tuning.seeds) != 1)} {', '.join(map(str, tuning.seeds))}"
    how = (
        f"Tuned for each treatment with the same budget, by {tuning.sampler} for {study.primary_title}: "
        f"{', '.join(names.values())}. Each treatment had {tuning.trials} settings, trained in full with {seeds}, "
        "which no row uses; the rows use the best settings: "
    )
    chosen: list[str | Level | Symbol] = []
    for arm in arms:
        best = arm.treatment.nuisance
        settings = ", ".join(f"{names[path]} {format_level(level)}" for path, level in (best or {}).items())
        chosen += ["; " if chosen else "", f"{shown.treatment(arm.treatment.label)} {settings or 'not tuned yet'}"]
    return [(how, *chosen, ".")]


def _pruned(study: Study, arms: Sequence[Arm]) -> list[Sentence]:
    """The rule by which treatments were pruned, and what that means for the others."""
    pruning = study.pruning
    if pruning is None:
        return []
    pruned = [Names(study).treatment(arm.treatment.label) for arm in arms if "pruned" in arm.status]
    text = (
        f"Treatments were pruned by {pruning.rule} on {pruning.column} with seed {study.seeds[0]}, at {pruning.where}: "
        f"{', '.join(pruned) or 'none'}."
    )
    if pruned:
        text += " They have no results; the other treatments were selected by their results with this seed."
    return [(text,)]


def _indistinct(study: Study, metrics: Sequence[Metric]) -> Sentence:
    """What bold means, if it marks all means that do not differ from the best."""
    corrected = study.primary in {metric.name for metric in metrics} and not study.primary_of
    holm = f"; for {study.primary_title} after Holm’s correction" if corrected else ""
    return (
        "Bold: the best mean of a column and all means that do not differ from it significantly (", Symbol("p"),
        " ≥ 0.05 by Student’s ", Symbol("t"), f", paired by seed{holm}).",
    )  # fmt: skip


def _in_total(metric: Metric, total: Change) -> Sentence:
    """The change by all changes of a ladder together."""
    low, high = (numeral(bound, metric.decimals, signed=True) for bound in (total.low, total.high))
    change = f"{compared(metric)} {amount(metric, total.mean, signed=True)}"
    return (f"All changes together, against the baseline: {change} [{low}, {high}].",)


def _finished(arms: Sequence[Arm]) -> Sentence:
    """How many trials finished, and the status of the others."""
    counts = {name: sum(arm.status.get(name, 0) for arm in arms) for name in ("done", *UNFINISHED)}
    total = sum(counts.values())
    if counts["done"] == total:
        return (f"All {total} trials finished.",)
    listed = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    named = [name for name in TROUBLES if counts[name]]
    unranked = f"; treatments with {' or '.join(named)} trials are not ranked" if named else ""
    return (f"{total} trials: {listed}{unranked}.",)
