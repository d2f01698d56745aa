"""Rows, columns and notes of a table of claims."""

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
"""Rows of a claims table, most of them two lines high, that fit on a page with the caption."""


def arrange_claims(study: Study, paper: Paper, verdicts: Sequence[tuple[Claim, Judgement]]) -> Layout:
    """Lay out the verdicts on a paper's claims: a row per claim and context, and a note on claims not observed.

    There is a column for published figures if any claim has one.
    """
    columns = [Column("text", "claim"), Column("text", "metric"), Column("text", "higher or lower")]
    columns += [Column("difference", "Δ [95 % CI]"), Column("seeds", "n"), Column("text", "verdict")]
    observed = [(claim, judgement) for claim, judgement in verdicts if not judgement.lacks]
    published = any(claim.published is not None for claim, _ in observed)
    columns[3:3] = [Column("text", "published Δ")] if published else []
    rows: list[tuple[Cell, ...]] = []
    for claim, judgement in observed:
        metric = study.metrics[claim.metric]
        row: list[Cell] = [
            Phrase((claim.id,), ("ours",) if claim.said_by == "us" else ()),
            Phrase((claim.metric,), (unit(metric),) if unit(metric) else ()),
            contrast(claim, judgement.given),
            Difference(judgement.estimate, judgement.low, judgement.high, metric.decimals),
            Seeds(judgement.n),
            Word(judgement.verdict),
        ]
        figure = math.nan if claim.published is None else claim.published
        row[3:3] = [Word(numeral(figure, metric.decimals, signed=True))] if published else []
        rows.append(tuple(row))
    if not rows:
        rows = [(Word("none"), *[Word("")] * (len(columns) - 1))]
    question = f"Claims of {paper.name} ({paper.reference})"
    notes = [_how_to_read(study, paper), *_reasons(verdicts)]
    return Layout(f"{study.name}-claims", study.name, question, tuple(columns), (Group(tuple(rows)),), tuple(notes), ())


def pages(layout: Layout) -> list[Layout]:
    """A table of one group, divided into parts that each fit on a page. The notes are under the first part."""
    (group,) = layout.groups
    parts = [
        replace(layout, groups=(replace(group, rows=group.rows[start : start + PAGE_ROWS]),))
        for start in range(0, max(1, len(group.rows)), PAGE_ROWS)
    ]
    continued: Sentence = (f"{layout.question}, continued.",)
    later = [replace(part, label=f"{layout.label}-{n}", notes=(continued,)) for n, part in enumerate(parts[1:], 2)]
    return [parts[0], *later]


def contrast(claim: Claim, given: Mapping[str, Any]) -> Phrase:
    """The two sides of a claim and their claimed order: `kl 0.0001 > 0.001`. Levels of both sides are in brackets."""
    common = {path: level for path, level in claim.a.items() if path in claim.b and claim.b[path] == level}
    a, b = ({path: level for path, level in side.items() if path not in common} for side in (claim.a, claim.b))
    order = {"A above B": " > ", "A below B": " < ", "A equals B": " = "}[claim.direction]
    order = f"{order}…{order}" if claim.along else order
    second = (Level(next(iter(b.values()))),) if len(b) == 1 and a.keys() == b.keys() else _side(b)
    margin = {"within": claim.margin} if claim.direction == "A equals B" else {}
    remark = {**margin, **common, **given}
    return Phrase((*_side(a), order, *second), _side(remark) if remark else ())


def _side(levels: Mapping[str, Any]) -> Sentence:
    """Levels as text, with the prefixes of their paths left out: `kl 1, norm scn`."""
    short = {path: path.removeprefix("loss.").removeprefix("stages.") for path in levels}
    pieces = [piece for path, value in levels.items() for piece in (f", {short[path]} ", Level(value))]
    return (str(pieces[0])[2:], *pieces[1:]) if pieces else ("baseline",)


def _how_to_read(study: Study, paper: Paper) -> Sentence:
    """The note that explains the table."""
    return (
        f"Claims of {paper.name} ({paper.reference}) judged by study {study.name} at scale {study.scale}. A claim says "
        "at which of two levels a metric is higher (>) or lower (<), or that it is equal within a margin (=); dots "
        "mean that the order also holds step by step at the levels in between. A claim is judged in every context that "
        "the study contains; brackets list further levels that both sides share. Δ is the metric at the first level "
        "minus the metric at the second, paired by seed over ", Symbol("n"), " seeds, with its 95 % interval by "
        "Student’s ", Symbol("t"), ". Reproduced: the interval lies on the claimed side of 0, or within the margin; "
        "opposite: on the other side of 0, or outside the margin; inconclusive: neither, or there are fewer than two "
        "pairs. Verdicts are not corrected for the number of claims. Claims marked “ours” are not the paper’s.",
    )  # fmt: skip


def _reasons(verdicts: Sequence[tuple[Claim, Judgement]]) -> list[Sentence]:
    """Notes on single claims; all claims that the study cannot judge are in one note."""
    remarks: dict[str, dict[str, None]] = {}
    unobserved: dict[str, dict[str, None]] = {}
    for claim, judgement in verdicts:
        if judgement.lacks:
            unobserved.setdefault(", ".join(judgement.lacks), {})[claim.id] = None
        elif judgement.reason:
            remarks.setdefault(judgement.reason, {})[claim.id] = None
    notes: list[Sentence] = [(f"{', '.join(ids)}: {reason}.",) for reason, ids in remarks.items()]
    missing = "; ".join(f"{', '.join(ids)} ({lacks})" for lacks, ids in unobserved.items())
    start = "Not observed here, because no two treatments differ only in these factors, or this metric is missing: "
    return [*notes, (f"{start}{missing}.",)] if missing else notes
