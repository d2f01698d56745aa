"""What stands where in an ablation table, and the sentences that say how to read it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ablate.design import Treatment, short_names
from ablate.registry import Metric
from ablate.spec import Study
from analysis.cells import (
    Cell,
    Column,
    Difference,
    Group,
    Layout,
    Level,
    Phrase,
    Seeds,
    Sentence,
    Symbol,
    Value,
    Word,
    numeral,
    unit,
)
from analysis.claims import Claim, Judgement
from analysis.effects import Analysis, Effect
from analysis.papers import Paper

TROUBLES = {"diverged": "div.", "failed": "fail.", "running": "run.", "pending": "pend."}


@dataclass(frozen=True)
class Arm:
    """A treatment, the number of its trials by status, and its effects by metric."""

    treatment: Treatment
    status: Mapping[str, int]
    effects: dict[str, Effect]

    @property
    def seeds(self) -> Seeds:
        total = sum(self.status.values())
        troubles = [f"{word} {self.status[name]}/{total}" for name, word in TROUBLES.items() if name in self.status]
        return Seeds(self.status.get("done", 0), ", ".join(troubles))


def arrange(study: Study, arms: Sequence[Arm], analysis: Analysis, metrics: Sequence[str]) -> Layout:
    """Lay out a table with a row per treatment, the baseline first, and the given metrics."""
    one_at_a_time = study.design == "one_at_a_time"
    paths = [factor.path for factor in study.factors]
    names = ["level"] if one_at_a_time else list(short_names(study.factors).values())
    columns = [Column("level", name) for name in names]
    rows = [[_level(arm)] if one_at_a_time else [Level(arm.treatment.levels[path]) for path in paths] for arm in arms]
    stacks: list[list[Cell]] = [list(column) for column in zip(*rows, strict=True)]
    for name in metrics:
        found = _primary_columns if name == study.primary else _other_column
        for column, cells in found(study.metrics[name], arms):
            columns.append(column)
            stacks.append(cells)
    columns.append(Column("seeds", "n"))
    stacks.append([arm.seeds for arm in arms])
    body = list(zip(*stacks, strict=True))
    groups = _by_factor(study, arms, body) if one_at_a_time else (Group((body[0],)), Group(tuple(body[1:])))
    notes = [_about(study), *_how_to_read(study, analysis, metrics), _finished(arms), *_chance(study, analysis)]
    return Layout(
        study.name, study.name, _line(study.question), tuple(columns), groups, tuple(notes), analysis.warnings
    )  # fmt: skip


def arrange_claims(study: Study, paper: Paper, verdicts: Sequence[tuple[Claim, Judgement]]) -> Layout:
    """Lay out what a study says of a paper's claims, one row each; a column for published figures if there are any."""
    columns = [Column("text", "claim"), Column("text", "metric"), Column("text", "higher or lower")]
    columns += [Column("difference", "Δ [95 % CI]"), Column("seeds", "n"), Column("text", "verdict")]
    published = any(claim.published is not None for claim, _ in verdicts)
    columns[3:3] = [Column("text", "published Δ")] if published else []
    rows = []
    for claim, found in verdicts:
        metric = study.metrics.get(claim.metric, Metric(claim.metric, "1", "none"))
        row: list[Cell] = [
            Phrase((claim.id,), ("ours",) if claim.said_by == "us" else ()),
            Phrase((claim.metric,), (unit(metric),) if unit(metric) else ()),
            contrast(claim),
            Difference(found.estimate, found.low, found.high, metric.decimals),
            Seeds(found.n),
            Word(found.verdict),
        ]
        figure = math.nan if claim.published is None else claim.published
        row[3:3] = [Word(numeral(figure, metric.decimals, signed=True))] if published else []
        rows.append(tuple(row))
    question = f"Claims of {paper.name} ({paper.reference})"
    notes = [_held_against(study, paper), *_reasons(verdicts)]
    return Layout(f"{study.name}-claims", study.name, question, tuple(columns), (Group(tuple(rows)),), tuple(notes), ())


def contrast(claim: Claim) -> Phrase:
    """The treatments of a claim and their claimed order: `kl 0.0001 > 0.001`, and what both have besides."""
    common = {path: level for path, level in claim.a.items() if path in claim.b and claim.b[path] == level}
    a, b = ({path: level for path, level in side.items() if path not in common} for side in (claim.a, claim.b))
    order = " > " if claim.direction == "A above B" else " < "
    second = (Level(next(iter(b.values()))),) if len(b) == 1 and a.keys() == b.keys() else _side(b)
    return Phrase((*_side(a), order, *second), _side(common) if common else ())


def _side(levels: Mapping[str, Any]) -> Sentence:
    pieces = [piece for path, value in levels.items() for piece in (f", {path.split('.')[-1]} ", Level(value))]
    return (str(pieces[0])[2:], *pieces[1:]) if pieces else ("baseline",)


def _held_against(study: Study, paper: Paper) -> Sentence:
    return (
        f"Claims of {paper.name} ({paper.reference}) held against study {study.name} at scale {study.scale}. A claim "
        "says at which of two levels a metric is higher (>) or lower (<); Δ is the metric at the first less that at "
        "the second, paired by seed over ", Symbol("n"), " seeds, with its 95 % interval by Student’s ", Symbol("t"),
        ". Reproduced: the interval excludes 0 on the claimed side; opposite: on the other side; inconclusive: it "
        "includes 0, or there are fewer than two pairs; not corrected for the number of claims. Claims marked as ours "
        "are not the paper’s.",
    )  # fmt: skip


def _reasons(verdicts: Sequence[tuple[Claim, Judgement]]) -> list[Sentence]:
    ids: dict[str, list[str]] = {}
    for claim, found in verdicts:
        if found.reason:
            ids.setdefault(found.reason, []).append(claim.id)
    return [(f"{', '.join(names)}: {reason}.",) for reason, names in ids.items()]


def _level(arm: Arm) -> Cell:
    return next((Level(level) for level in arm.treatment.changed.values()), Word("baseline"))


def _primary_columns(metric: Metric, arms: Sequence[Arm]) -> list[tuple[Column, list[Cell]]]:
    effects = [arm.effects[metric.name] for arm in arms]
    differences: list[Cell] = [
        Difference(e.change.mean, e.change.low, e.change.high, metric.decimals, e.clear) for e in effects[1:]
    ]
    verdicts: list[Cell] = [Word(effect.verdict) for effect in effects[1:]]
    return [
        (Column("value", metric.name, metric), _values(metric, arms, starred=False)),
        (Column("difference", "Δ [95 % CI]", metric), [Word(""), *differences]),
        (Column("verdict", "verdict"), [Word(""), *verdicts]),
    ]


def _other_column(metric: Metric, arms: Sequence[Arm]) -> list[tuple[Column, list[Cell]]]:
    return [(Column("value", metric.name, metric), _values(metric, arms, starred=True))]


def _values(metric: Metric, arms: Sequence[Arm], *, starred: bool) -> list[Cell]:
    effects = [arm.effects[metric.name] for arm in arms]
    ranks = rank(
        metric, [math.nan if "diverged" in arm.status else e.mean for arm, e in zip(arms, effects, strict=True)]
    )
    return [
        Value(e.mean, e.sd, metric.decimals, r, starred and e.clear, e.n if 0 < e.n != arm.seeds.n else None)
        for arm, e, r in zip(arms, effects, ranks, strict=True)
    ]


def rank(metric: Metric, means: Sequence[float]) -> list[int]:
    """1 for the best mean, 2 for the second best, else 0, judged by what is printed: equal numerals share a rank.

    Nothing is ranked where a metric has no direction or where all means print the same. NaN has no rank.
    """
    printed = [round(mean, metric.decimals) if math.isfinite(mean) else mean for mean in means]
    loss = {"up": lambda v: -v, "down": lambda v: v, "target": lambda v: round(abs(v - metric.target), 9)}
    if metric.direction == "none":
        return [0] * len(means)
    losses = [loss[metric.direction](value) for value in printed]
    order = sorted({value for value in losses if not math.isnan(value)})
    ranks = {value: place for place, value in enumerate(order[:2], 1)} if len(order) > 1 else {}
    return [ranks.get(value, 0) for value in losses]


def _by_factor(study: Study, arms: Sequence[Arm], rows: Sequence[tuple[Cell, ...]]) -> tuple[Group, ...]:
    names, groups = short_names(study.factors), [Group((rows[0],))]
    for factor in study.factors:
        ours = [(arm, row) for arm, row in zip(arms, rows, strict=True) if factor.path in arm.treatment.changed]
        groups.append(Group(tuple(row for _, row in ours), names[factor.path], Level(factor.levels[0])))
    return tuple(groups)


def _about(study: Study) -> Sentence:
    steps = " + ".join(str(stage.settings.steps) for stage in study.baseline.stages)
    data = study.baseline.parts["data"]
    crop = data.settings.plain().get("crop")
    what = f"{data.level}, {crop} px crops" if crop else data.level
    levels = [piece for factor in study.factors for piece in (f", {factor.path} ", Level(factor.levels[0]))]
    start = f"Study {study.name} at scale {study.scale}: {steps} steps on {what}. Baseline:{str(levels[0])[1:]}"
    return (start, *levels[1:], ".")


def _how_to_read(study: Study, analysis: Analysis, metrics: Sequence[str]) -> list[Sentence]:
    mean: Sentence = (
        "Mean ± standard deviation over ", Symbol("n"), f" of {len(study.seeds)} seeds; Δ is the difference from the "
        "baseline, paired by seed, with its 95 % interval by Student’s ", Symbol("t"), " in brackets.",
    )  # fmt: skip
    star: Sentence = (
        f"A star marks an interval that excludes 0, for {study.primary} also ", Symbol("p"),
        f" < 0.05 after Holm’s correction for {analysis.noise.comparisons} comparisons (unclear: the interval alone); "
        "others are not corrected.",
    )  # fmt: skip
    if len(study.seeds) == 1:
        return [("One seed: no spread, no interval.",)]
    aims = any(study.metrics[name].direction == "target" for name in metrics)
    aim: list[Sentence] = [("Where the aim is a value (→), the distance to it is judged.",)] if aims else []
    return [mean, star, *aim] if analysis.noise.comparisons else [mean]


def _finished(arms: Sequence[Arm]) -> Sentence:
    counts = {name: sum(arm.status.get(name, 0) for arm in arms) for name in ("done", *TROUBLES)}
    total = sum(counts.values())
    if counts["done"] == total:
        return (f"All {total} trials finished.",)
    found = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    unranked = "; treatments with diverged trials are not ranked" if counts["diverged"] else ""
    return (f"{total} trials: {found}{unranked}.",)


def _chance(study: Study, analysis: Analysis) -> list[Sentence]:
    metric, noise = study.metrics[study.primary], analysis.noise
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
    return [(f"In {study.primary}, {'; '.join(parts)}.",)]


def _line(text: str) -> str:
    return " ".join(text.split())
