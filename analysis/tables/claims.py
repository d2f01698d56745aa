"""What stands where in a table of claims."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ablate.analysis.papers import Paper
from ablate.analysis.statistics.claims import Claim, Judgement
from ablate.analysis.typeset.cells import (
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
    Word,
    numeral,
    unit,
)
from ablate.study.study import Study

PAGE_ROWS = 24
"""Rows of a claims table, mostly of two lines, that a page holds beside the caption."""


def arrange_claims(study: Study, paper: Paper, verdicts: Sequence[tuple[Claim, Judgement]]) -> Layout:
    """Lay out what a study says of a paper's claims: a row per claim and context, a note on what it lacks for others.

    There is a column for published figures if there are any.
    """
    columns = [Column("text", "claim"), Column("text", "metric"), Column("text", "higher or lower")]
    columns += [Column("difference", "Δ [95 % CI]"), Column("seeds", "n"), Column("text", "verdict")]
    within = [(claim, found) for claim, found in verdicts if not found.lacks]
    published = any(claim.published is not None for claim, _ in within)
    columns[3:3] = [Column("text", "published Δ")] if published else []
    rows: list[tuple[Cell, ...]] = []
    for claim, found in within:
        metric = study.metrics[claim.metric]
        row: list[Cell] = [
            Phrase((claim.id,), ("ours",) if claim.said_by == "us" else ()),
            Phrase((claim.metric,), (unit(metric),) if unit(metric) else ()),
            contrast(claim, found.given),
            Difference(found.estimate, found.low, found.high, metric.decimals),
            Seeds(found.n),
            Word(found.verdict),
        ]
        figure = math.nan if claim.published is None else claim.published
        row[3:3] = [Word(numeral(figure, metric.decimals, signed=True))] if published else []
        rows.append(tuple(row))
    if not rows:
        rows = [(Word("none"), *[Word("")] * (len(columns) - 1))]
    question = f"Claims of {paper.name} ({paper.reference})"
    notes = [_held_against(study, paper), *_reasons(verdicts)]
    return Layout(f"{study.name}-claims", study.name, question, tuple(columns), (Group(tuple(rows)),), tuple(notes), ())


def pages(layout: Layout) -> list[Layout]:
    """A table of one group in parts that fit a page each. What there is to say stands with the first."""
    (group,) = layout.groups
    parts = [
        replace(layout, groups=(replace(group, rows=group.rows[start : start + PAGE_ROWS]),))
        for start in range(0, max(1, len(group.rows)), PAGE_ROWS)
    ]
    continued: Sentence = (f"{layout.question}, continued.",)
    later = [replace(part, label=f"{layout.label}-{n}", notes=(continued,)) for n, part in enumerate(parts[1:], 2)]
    return [parts[0], *later]


def contrast(claim: Claim, given: Mapping[str, Any]) -> Phrase:
    """The treatments of a claim and their claimed order: `kl 0.0001 > 0.001`; what both have besides in brackets."""
    common = {path: level for path, level in claim.a.items() if path in claim.b and claim.b[path] == level}
    a, b = ({path: level for path, level in side.items() if path not in common} for side in (claim.a, claim.b))
    order = {"A above B": " > ", "A below B": " < ", "A equals B": " = "}[claim.direction]
    order = f"{order}…{order}" if claim.along else order
    second = (Level(next(iter(b.values()))),) if len(b) == 1 and a.keys() == b.keys() else _side(b)
    margin = {"within": claim.margin} if claim.direction == "A equals B" else {}
    besides = {**margin, **common, **given}
    return Phrase((*_side(a), order, *second), _side(besides) if besides else ())


def _side(levels: Mapping[str, Any]) -> Sentence:
    short = {path: path.removeprefix("loss.").removeprefix("stages.") for path in levels}
    pieces = [piece for path, value in levels.items() for piece in (f", {short[path]} ", Level(value))]
    return (str(pieces[0])[2:], *pieces[1:]) if pieces else ("baseline",)


def _held_against(study: Study, paper: Paper) -> Sentence:
    return (
        f"Claims of {paper.name} ({paper.reference}) held against study {study.name} at scale {study.scale}. A claim "
        "says at which of two levels a metric is higher (>) or lower (<), or that it is the same within a margin (=); "
        "with dots, that it is so step by step at the levels between them. "
        "It is judged in every context that the study holds; in brackets what both sides have besides the baseline’s "
        "levels. Δ is the metric at the first level less that at the second, paired by seed over ", Symbol("n"),
        " seeds, with its 95 % interval by Student’s ", Symbol("t"), ". Reproduced: the interval lies on the claimed "
        "side of 0, or within the margin; opposite: on the other side, or outside the margin; inconclusive: neither, "
        "or there are fewer than two pairs; not corrected for the number of claims. Claims marked as ours are not the "
        "paper’s.",
    )  # fmt: skip


def _reasons(verdicts: Sequence[tuple[Claim, Judgement]]) -> list[Sentence]:
    """What a reader should know of single claims; those that the study cannot judge share one note."""
    remarks: dict[str, dict[str, None]] = {}
    absent: dict[str, dict[str, None]] = {}
    for claim, found in verdicts:
        if found.lacks:
            absent.setdefault(", ".join(found.lacks), {})[claim.id] = None
        elif found.reason:
            remarks.setdefault(found.reason, {})[claim.id] = None
    notes: list[Sentence] = [(f"{', '.join(ids)}: {reason}.",) for reason, ids in remarks.items()]
    missing = "; ".join(f"{', '.join(ids)} ({lacks})" for lacks, ids in absent.items())
    start = "Not observed here, for want of levels of these factors, all else equal, or of this metric: "
    return [*notes, (f"{start}{missing}.",)] if missing else notes
