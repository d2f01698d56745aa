"""Rows, columns and notes of a table of claims."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ablate.analysis.papers import Paper
from ablate.analysis.statistics.claims import Claim
from ablate.analysis.statistics.findings import DECIDED, Finding, Judgement, Tally, tally
from ablate.analysis.statistics.verdicts import no_effect
from ablate.analysis.typeset.cells import (
    Cell,
    Column,
    Difference,
    Group,
    Heading,
    Layout,
    Level,
    Phrase,
    Seeds,
    Sentence,
    Symbol,
    Word,
    enough_decimals,
    numeral,
    unit,
    words,
)
from ablate.analysis.typeset.latex_text import extent
from ablate.slots.settings import Metric
from ablate.study.study import Study
from ablate.study.titles import METRICS, title_of

PAGE = 520.0
"""Height of a page of LaTeX's article class without a caption of one line, the table's head and rules, in points."""

WIDTH = 345.0
"""Its width."""

ROW = 22.0
"""Height of a row of two lines, the second for the interval."""

SKIP = 3.0
"""Height of the space below a row."""

NAMED = 110.0
"""Width of the column that says what is compared, at least."""

GAP = 12.0
"""Height of the space around a heading."""

LINE = {"caption": 12.0, "sentence": 9.5, "small": 9.5}
"""Height of a line of text by its font."""

DIGIT = {"caption": 5.0, "sentence": 4.3, "small": 3.8}
"""Width of a digit by font."""


def arrange_claims(study: Study, paper: Paper, findings: Sequence[Finding]) -> Layout:
    """Lay out the verdicts on a paper's claims: a group per claim that the study can judge.

    A group's heading is the claim's sentence, who says it, and its caveat. Its first row is the verdict over all
    contexts; then comes a row per context, if there are several. There is a column for published figures if any claim
    has one.
    """
    observed = [finding for finding in findings if finding.contexts]
    published = any(finding.claim.published is not None for finding in observed)
    columns = [
        Column("text", "higher or lower"),
        *([Column("text", "published Δ")] if published else []),
        Column("difference", "Δ [95 % CI]"),
        Column("seeds", "n"),
        Column("text", "q"),
        Column("text", "verdict"),
    ]
    groups = [
        Group(
            _rows(finding, study.metrics[finding.claim.metric], published=published),
            finding.claim.id,
            heading=_heading(finding.claim, paper),
        )
        for finding in observed
    ]
    if not groups:
        groups = [Group(((Word("none"), *[Word("")] * (len(columns) - 1)),))]
    question = f"Claims of {paper.name} ({paper.reference})"
    return Layout(
        f"{study.name}-claims", study.name, question, tuple(columns), tuple(groups),
        (_how_to_read(study, paper), *_by_chance(observed, paper)), (), asides=tuple(_reasons(findings)),
    )  # fmt: skip


def _heading(claim: Claim, paper: Paper) -> Heading:
    """The claim's sentence, its source, and its caveat."""
    whose = paper.name if claim.said_by == "paper" else "our hypothesis"
    source = claim.source.removeprefix("ours, ").removeprefix("ours: ")
    return Heading(claim.text, f"{whose}, {source}" if source != "ours" else whose, claim.caveat)


def _rows(finding: Finding, metric: Metric, *, published: bool) -> tuple[tuple[Cell, ...], ...]:
    """The row of a claim, and a row per context if there are several."""
    claim = finding.claim
    figure = "" if claim.published is None else numeral(claim.published, metric.decimals, signed=True)
    count = len(finding.contexts)
    given = {} if count > 1 else finding.overall.given
    first = (
        contrast(claim, metric, given, finding.overall.margin, contexts=count),
        *([Word(figure)] if published else []),
        *_judged(finding.overall, metric),
    )
    if count == 1:
        return (first,)
    blank = [Word("")] if published else []
    contexts = [
        (Phrase(("– ", *_side(one.given, "as in the baseline"))), *blank, *_judged(one, metric))
        for one in finding.contexts
    ]
    return (first, *contexts)


def _judged(judgement: Judgement, metric: Metric) -> tuple[Cell, ...]:
    """The last cells of a row: estimate, number of pairs, q and verdict."""
    digits = enough_decimals(judgement.low, judgement.high, metric.decimals)
    return (
        Difference(judgement.estimate, judgement.low, judgement.high, digits),
        Seeds(judgement.n),
        Word("" if math.isnan(judgement.q) else "<0.001" if judgement.q < 0.001 else f"{judgement.q:.3f}"),
        Word(describe_verdict(judgement, metric)),
    )


def describe_verdict(judgement: Judgement, metric: Metric) -> str:
    """The verdict in words: `no effect ≥ 0.5 dB`."""
    return no_effect(metric, judgement.margin) if judgement.verdict == "no effect" else judgement.verdict


def pages(layout: Layout) -> list[Layout]:
    """The table divided into parts that each fit on a page. The notes are under the first part.

    A claim is divided only if it alone fills a page; its further parts have no heading.
    """
    # Claims that fill more than a page become several groups.
    caption = sum(_text(words(note), "caption") for note in layout.notes)
    first_page = max(PAGE - caption, PAGE / 4)
    groups: list[Group] = []
    for group in layout.groups:
        size = max(1, int((first_page - _height(replace(group, rows=()))) / ROW))
        chunks = [group.rows[start : start + size] for start in range(0, len(group.rows), size)]
        groups += [replace(group, rows=chunk, heading=None if i else group.heading) for i, chunk in enumerate(chunks)]

    # As many groups on a page as fit.
    parts: list[list[Group]] = [[]]
    for group in groups:
        room = PAGE if len(parts) > 1 else first_page
        if parts[-1] and sum(map(_height, parts[-1])) + _height(group) > room:
            parts.append([])
        parts[-1].append(group)
    continued: Sentence = (f"{layout.question}, continued.",)
    first, *later = [replace(layout, groups=tuple(part)) for part in parts]
    return [
        first,
        *(
            replace(part, label=f"{layout.label}-{n}", notes=(continued,), asides=(), warnings=())
            for n, part in enumerate(later, 2)
        ),
    ]


def _height(group: Group) -> float:
    """The height of a group on a page, in points."""
    rows = sum(_row(row[0]) for row in group.rows)
    if group.heading is None:
        return rows
    sentence = _text(f"{group.name} {group.heading.text}", "sentence")
    return rows + GAP + sentence + _text(f"{group.heading.source}. Caveat: {group.heading.caveat}", "small")


def _row(cell: Cell) -> float:
    """The height of a row with this first cell."""
    if not isinstance(cell, Phrase):
        return ROW
    return max(ROW, SKIP + _text(words(cell.pieces), "sentence", NAMED) + _text(words(cell.remark), "small", NAMED))


def _text(text: str, font: str, width: float = WIDTH) -> float:
    """The height of a text on a page, in points."""
    return LINE[font] * math.ceil(extent(text) * DIGIT[font] / width)


def contrast(
    claim: Claim, metric: Metric, given: Mapping[str, Any], margin: float | None = None, contexts: int = 1
) -> Phrase:
    """A metric, the two sides of a claim and their claimed order: `psnr (dB): kl 0.0001 > 0.001`.

    In brackets: the `margin` of an equality, levels that both sides share, and the number of `contexts` if several. A
    claim about one treatment has its levels there: `psnr (dB) > 30 (kl 0.0001)`.
    """
    # The metric.
    details = [unit(metric), f"distance to {metric.target:g}" if claim.orders_distances(metric) else ""]
    measure = ", ".join(filter(None, details))
    start = f"{title_of(metric)} ({measure})" if measure else title_of(metric)

    # The sides.
    order = {"A above B": " > ", "A below B": " < ", "A equals B": " = ", "A differs from B": " ≠ "}[claim.direction]
    order = f"{order}…{order}" if claim.along else order
    common: Mapping[str, Any]
    if isinstance(claim.b, float | int) or claim.against:
        other = METRICS.get(claim.against, claim.against)
        pieces: Sentence = (start, order, other or Level(claim.b))
        common = {**claim.a, **given}
    else:
        shared = {path: level for path, level in claim.a.items() if path in claim.b and claim.b[path] == level}
        a, b = ({path: level for path, level in side.items() if path not in shared} for side in (claim.a, claim.b))
        second = (Level(next(iter(b.values()))),) if len(b) == 1 and a.keys() == b.keys() else _side(b)
        pieces = (f"{start}: ", *_side(a), order, *second)
        common = {**shared, **given}

    remarks: list[Sentence] = [] if claim.is_order or margin is None else [("within ", Level(margin))]
    remarks += [_side(common)] if common else []
    remarks += [(f"{contexts} contexts",)] if contexts > 1 else []
    return Phrase(pieces, tuple(piece for i, remark in enumerate(remarks) for piece in ((", ",) if i else ()) + remark))


def _side(levels: Mapping[str, Any], none: str = "baseline") -> Sentence:
    """Levels as text, with the prefixes of their paths left out: `kl 1, norm scn`; `none` if there are none."""
    short = {path: path.removeprefix("loss.").removeprefix("stages.") for path in levels}
    pieces = [piece for path, value in levels.items() for piece in (f", {short[path]} ", Level(value))]
    return (str(pieces[0])[2:], *pieces[1:]) if pieces else (none,)


def _how_to_read(study: Study, paper: Paper) -> Sentence:
    """The note that explains the table."""
    return (
        f"Claims of {paper.name} ({paper.reference}) and hypotheses of ours, judged by study {study.name} at scale "
        f"{study.scale}. A claim says at which of two levels a metric is higher (>) or lower (<), or that it is equal "
        "(=) or differs (≠) by a margin, or compares it at one level with a number; dots mean that the order also "
        "holds step by step at the levels in between. Of a metric with a target, the distance to the target is ordered "
        "where the table says so. A claim is judged in every context that the study contains, and over all of them by "
        "their differences averaged seed by seed. Δ is the metric at the first level minus the metric at the second, "
        "or minus the number, paired by seed over ", Symbol("n"),
        " seeds, with its 95 % interval by Student’s ", Symbol("t"), ". Reproduced: the interval lies on the claimed "
        "side of 0, or within the margin; opposite: on the other side of 0, or outside the margin; no effect: shown to "
        "be smaller than the smallest effect of interest (two one-sided tests at 5 %); not observed: what the claim is "
        "about is not there; inconclusive: none of these, fewer than two pairs, or a trial diverged or failed.",
    )  # fmt: skip


def _by_chance(findings: Sequence[Finding], paper: Paper) -> list[Sentence]:
    """How many verdicts chance alone would give, and what q is."""
    if not findings:
        return []
    ours = sum(finding.claim.said_by == "us" for finding in findings)
    claims = tally([finding.overall for finding in findings])
    contexts = tally([one for finding in findings for one in finding.contexts])
    numbers = f"{len(findings)} claims: {len(findings) - ours} of {paper.name}, {ours} of ours"
    expected = f"{_expected(claims, 'claims')} {_expected(contexts, 'judgements in contexts')}"
    return [
        (
            f"{numbers}; {contexts.judged} judgements in contexts. {expected} ",
            Symbol("q"), ": the expected share of false verdicts among those with a ", Symbol("q"), " as small, by "
            "Benjamini and Hochberg over claims, by Benjamini and Yekutieli over contexts, which share seeds and arms.",
        )
    ]  # fmt: skip


def _expected(counts: Tally, what: str) -> str:
    """`Of 17 claims tested, 6 are “reproduced” or “opposite”; if every difference were 0, chance would give 0.9.`"""
    return (
        f"Of {counts.tested} {what} tested, {counts.decided} are “{DECIDED[0]}” or “{DECIDED[1]}”; if every difference "
        f"were 0, chance would give {counts.by_chance:.1f}."
    )


def _reasons(findings: Sequence[Finding]) -> list[Sentence]:
    """Notes on single claims; all claims that the study cannot judge are in one note."""
    remarks: dict[str, dict[str, None]] = {}
    unobserved: dict[str, dict[str, None]] = {}
    for finding in findings:
        id = finding.claim.id
        if finding.overall.lacks:
            unobserved.setdefault(", ".join(finding.overall.lacks), {})[id] = None
        elif finding.overall.reason:
            remarks.setdefault(finding.overall.reason, {})[id] = None
        for judgement in finding.contexts:
            if judgement.reason and judgement.reason != finding.overall.reason:
                where = f"{id} ({words(_side(judgement.given, 'as in the baseline'))})"
                remarks.setdefault(judgement.reason, {})[where] = None
    notes: list[Sentence] = [(f"{', '.join(ids)}: {reason}.",) for reason, ids in remarks.items()]
    missing = "; ".join(f"{', '.join(ids)} ({lacks})" for lacks, ids in unobserved.items())
    start = "Not observed here, because no two treatments differ only in these factors, or these metrics are missing: "
    return [*notes, (f"{start}{missing}.",)] if missing else notes
