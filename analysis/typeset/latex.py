"""A layout as LaTeX in ASCII with booktabs, compact enough for the width of a page or a column.

Of four styles, the most spacious one whose estimated width fits is used. The last two put standard deviations and
intervals on a second line.
"""

import itertools
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from ablate.analysis.typeset.cells import Column, Group, Layout, Sentence, arrow, unit, words
from ablate.analysis.typeset.latex_cells import Box, Stack, stack
from ablate.analysis.typeset.latex_text import escape, extent, level, sentence
from ablate.slots.settings import Metric
from ablate.study.titles import title_of

PACKAGES = ("multirow", "siunitx")
"""Packages that a table can use besides booktabs: for group names beside their rows, and for columns of type S."""

WIDTHS = {1: (("table", 345.0),), 2: (("table", 234.8), ("table*", 487.8))}
"""Number of columns of the paper -> environments, and the width of a table that each holds, in points.

One column is that of the `article` class at 10 pt. Two columns are those of ICML's style, which are narrower than
CVPR's.
"""

LEGEND = "The best mean of a column is bold, the second best {}."

SHORT = 7.0
"""Width in digits of a metric's name that stays on one line."""

CAPTION_LINES = 3
"""Most lines of a caption; what it has no room for stands in a note below the table."""

CAPTION_DIGIT = 4.9
"""Width of a digit in a caption, in points; a line is seldom full to the end."""

NOTE = r"\par\smallskip\begin{{minipage}}{{\linewidth}}\footnotesize {}\end{{minipage}}"

CHECK = r"\providecommand{\ablYes}{\ensuremath{\checkmark}}"
"""Precedes a table with check marks; a paper may define another check mark before it."""


@dataclass(frozen=True)
class Style:
    """A font, the width of its digits and the gap between columns in points, and whether cells have two lines.

    `wrapped`: rows have as many lines as the text in their first cell.
    """

    font: str
    digit: float
    gap: float
    stacked: bool
    wrapped: bool = False


STYLES = (
    Style(r"\small", 4.7, 5, stacked=False),
    Style(r"\footnotesize", 4.3, 4, stacked=False),
    Style(r"\footnotesize", 4.3, 4, stacked=True),
    Style(r"\scriptsize", 4.0, 2.5, stacked=True),
)

FINE = 4.0
"""Width in points of a digit in `\\scriptsize`, in which standard deviations, intervals and units are set."""


def latex(layout: Layout, paper_columns: int = 1, packages: Collection[str] = ()) -> str:
    """A table environment with caption and label, after comments: required packages, the question, warnings.

    In a paper of two columns, a table that does not fit into one column spans both. `packages`: any of `PACKAGES`.
    """
    # Mark up the columns; verdicts are left out.
    chosen = [i for i, column in enumerate(layout.columns) if column.kind != "verdict"]
    rows = [[row[i] for i in chosen] for group in layout.groups for row in group.rows]
    stacks = [
        stack(layout.columns[i], cells, siunitx="siunitx" in packages)
        for i, cells in zip(chosen, zip(*rows, strict=True), strict=True)
    ]

    # Choose the environment and the style. siunitx leaves no room beside a number, so sd and interval go below it.
    headed = any(group.heading for group in layout.groups)
    beside = "multirow" in packages and not headed and any(group.name for group in layout.groups)
    names = max((extent(group.name) for group in layout.groups), default=0.0) if beside else 0.0
    styles = [style for style in STYLES if style.stacked or not (headed or "siunitx" in packages)]
    if headed:
        environment, style, stacks[0] = _wrap(stacks, replace(styles[0], wrapped=True), paper_columns)
        advice: list[str] = []
    else:
        environment, style, advice = _fit(stacks, names, styles, paper_columns)

    # Comments and caption.
    checks = any(each.column.kind == "check" for each in stacks)
    required = ["booktabs", *(["amssymb"] if checks else []), *sorted(packages)]
    comments = [escape(text) for text in (layout.question, *(f"warning: {text}" for text in layout.warnings), *advice)]
    second = "in italics" if "siunitx" in packages else "underlined"
    notes = [*layout.notes, *([(LEGEND.format(second),)] if layout.marked else [])]
    said = 0 if layout.caption else _fitting(notes, dict(WIDTHS[paper_columns])[environment])
    caption = escape(layout.caption) or " ".join(map(sentence, notes[:said])) or escape(layout.question)
    left_out = [*map(sentence, notes)] if layout.caption else []
    below = " ".join(map(sentence, notes[said:])) if not layout.caption else ""

    body = _beside if beside else _headed
    lines = [
        rf"% needs \usepackage{{{','.join(required)}}}",
        *(f"% {text}" for text in [*comments, *left_out, *map(sentence, layout.asides)]),
        *([CHECK] if checks else []),
        rf"\begin{{{environment}}}[t]",
        r"\centering",
        rf"\caption{{{caption}}}",
        rf"\label{{tab:{layout.label}}}",
        rf"{style.font}\setlength{{\tabcolsep}}{{{style.gap:g}pt}}\setlength{{\abovetopsep}}{{6pt}}",
        rf"\begin{{tabular}}{{@{{}}{'l' * beside}{''.join(each.alignment for each in stacks)}@{{}}}}",
        r"\toprule",
        *_header(stacks, [""] * beside),
        *body(layout.groups, list(zip(*(each.boxes for each in stacks), strict=True)), style),
        r"\bottomrule",
        r"\end{tabular}",
        *([NOTE.format(below)] if below else []),
        rf"\end{{{environment}}}",
    ]
    return "\n".join(lines) + "\n"


def _fitting(notes: Sequence[Sentence], width: float) -> int:
    """How many of the first notes fit into the lines of a caption; `width` of the table in points."""
    room = CAPTION_LINES * width / CAPTION_DIGIT - extent("Table 10: ")
    lengths = itertools.accumulate(extent(words(note) + " ") for note in notes)
    return sum(1 for length in lengths if length <= room)


def _fit(
    stacks: Sequence[Stack], names: float, styles: Sequence[Style], paper_columns: int
) -> tuple[str, Style, list[str]]:
    """The first environment and style that hold the table, and advice if there is none or another paper needs more."""
    advice = []
    for (environment, limit), style in itertools.product(WIDTHS[paper_columns], styles):
        if _width(stacks, names, style) <= limit:
            if paper_columns == 1 and _width(stacks, names, style) > WIDTHS[2][0][1]:
                advice = ["too wide for one column of a two-column paper: use --columns 2 there"]
            return environment, style, advice
    more = "choose fewer metrics" + (", or --columns 2 in a paper of two columns" if paper_columns == 1 else "")
    return WIDTHS[paper_columns][-1][0], styles[-1], [f"wider than a page: {more}"]


def _wrap(stacks: Sequence[Stack], style: Style, paper_columns: int) -> tuple[str, Style, Stack]:
    """The widest environment, the style, and the first column in lines that fill what the others leave of the width."""
    environment, limit = WIDTHS[paper_columns][-1]
    first = stacks[0]
    rest = limit - _width(stacks[1:], 0, style) - 2 * style.gap
    boxes = [replace(box, top=rf"\raggedright {box.top}") for box in first.boxes]
    return environment, style, replace(first, boxes=boxes, alignment=rf"p{{{rest:.0f}pt}}")


def _header(stacks: Sequence[Stack], beside: list[str]) -> list[str]:
    """The head in up to three rows: families of metrics, their names, their units with the direction that is better.

    `beside`: an empty cell, if the names of groups have a column.
    """
    columns = [each.column for each in stacks]
    primary = next((column.metric for column in columns if column.kind == "difference"), None)

    # A family spans its columns, with a rule below.
    column_families = [*beside, *(_family(column, primary) for column in columns)]
    families = []
    rules = []
    first = 1
    for family, members in itertools.groupby(column_families):
        span = len(list(members))
        families += [rf"\multicolumn{{{span}}}{{c}}{{{escape(family)}}}"] if family else [""] * span
        rules += [rf"\cmidrule(lr){{{first}-{first + span - 1}}}"] if family and span > 1 else []
        first += span
    above = [_row(families), *filter(None, [" ".join(rules)])] if any(column_families) else []

    names = [each.head(_name(each.column, primary)) for each in stacks]
    units = [each.head(_fine(_unit(each.column))) for each in stacks]
    return [*above, _row([*beside, *names]), _row([*beside, *units])]


def _family(column: Column, primary: Metric | None) -> str:
    """The first row of a column's head: what its name begins with (`_halves`), or the primary metric's name."""
    if column.metric is None:
        return ""
    return _halves(column)[0] if column.metric != primary else title_of(column.metric)


def _halves(column: Column) -> tuple[str, str]:
    """A column's name in two lines; the first is empty for a short one.

    That of a metric is divided between two words, any other before its last `/`.
    """
    if column.metric is None or column.name != title_of(column.metric) or " " not in column.name:
        family, _, name = column.name.rpartition("/")
        return family, name
    parts = column.name.split(" ")
    cuts = [(" ".join(parts[:i]), " ".join(parts[i:])) for i in range(len(parts))]
    return cuts[0] if extent(column.name) < SHORT else min(cuts, key=lambda halves: max(map(extent, halves)))


def _name(column: Column, primary: Metric | None) -> str:
    """The second row of a column's head."""
    if column.kind == "difference":
        return r"$\Delta$"
    if column.metric and column.metric == primary:
        return "mean"
    return "$n$" if column.kind == "seeds" else escape(_halves(column)[1])


def _unit(column: Column) -> str:
    """The third row of a column's head."""
    if column.level:
        return level(column.level)
    if column.kind == "difference":
        return r"[95\,\% CI]"
    if column.metric is None:
        return ""
    measure = escape(f"({unit(column.metric)})") if unit(column.metric) else ""
    return f"{measure} {escape(arrow(column.metric))}".strip()


def _headed(groups: Sequence[Group], rows: Sequence[Sequence[Box]], style: Style) -> list[str]:
    """The lines of the body, with the name or the heading of each group above its rows."""
    lines = []
    remaining = iter(rows)
    for i, group in enumerate(groups):
        lines.append(_rule(groups, i))
        if group.heading:
            lines.append(rf"\multicolumn{{{len(rows[0])}}}{{@{{}}p{{\linewidth}}@{{}}}}{{{_heading(group)}}} \\[0.8ex]")
        elif group.name:
            baseline = rf" {{\scriptsize (baseline {level(group.baseline)})}}" if group.baseline else ""
            title = rf"\emph{{{escape(group.name)}}}{baseline}"
            lines.append(rf"\multicolumn{{{len(rows[0])}}}{{@{{}}l}}{{{title}}} \\")
        for row in itertools.islice(remaining, len(group.rows)):
            if style.wrapped:
                lines.append(_wrapped(row))
                continue
            first = replace(row[0], top=rf"\enspace {row[0].top}") if group.name else row[0]
            lines += _lines([first, *row[1:]], style)
    return lines


def _heading(group: Group) -> str:
    """The heading of a group as a paragraph: the sentence, then source and caveat in small type."""
    assert group.heading
    heading = group.heading
    small = escape(f"{heading.source}. Caveat: {heading.caveat}")
    return rf"\raggedright\textbf{{{escape(group.name)}}}\enspace {escape(heading.text)} {{\scriptsize {small}}}"


def _beside(groups: Sequence[Group], rows: Sequence[Sequence[Box]], style: Style) -> list[str]:
    """The lines of the body, with the name of each group in a column beside its rows."""
    lines = []
    remaining = iter(rows)
    for i, group in enumerate(groups):
        own = [line for row in itertools.islice(remaining, len(group.rows)) for line in _lines(row, style)]
        name = rf"\multirow[t]{{{len(own)}}}{{*}}{{\emph{{{escape(group.name)}}}}}" if group.name else ""
        lines += [_rule(groups, i), f"{name} & {own[0]}", *(f" & {line}" for line in own[1:])]
    return lines


def _rule(groups: Sequence[Group], i: int) -> str:
    """What separates group `i` from what is above it: a rule below the head and below a baseline, else a gap."""
    return r"\addlinespace" if i > (not groups[0].name) else r"\midrule"


def _wrapped(row: Sequence[Box]) -> str:
    """A row whose first cell has several lines; other cells have their fine text below the main text."""
    first, *others = row
    cells = [rf"{first.top}\newline {_fine(first.fine)}" if first.fine else first.top]
    for box in others:
        two = rf"\begin{{tabular}}[t]{{@{{}}c@{{}}}}{box.top}\\ {_fine(box.fine)}\end{{tabular}}"
        cells.append(two if box.fine else box.top)
    return _row(cells, skip="0.6ex")


def _lines(row: Sequence[Box], style: Style) -> list[str]:
    """A row of the table as one line, or as two in a stacked style."""
    stars = [r"\rlap{$^{*}$}" if box.clear else "" for box in row]
    if style.stacked:
        top = _row([box.top + star for box, star in zip(row, stars, strict=True)], skip="0.2ex")
        return [top, _row([_fine(box.fine) for box in row], skip="0.8ex")]
    fine = [_fine(box.fine + star + box.fine_pad) for box, star in zip(row, stars, strict=True)]
    return [_row([f"{box.top}~{text}" if text else box.top for box, text in zip(row, fine, strict=True)])]


def _fine(text: str) -> str:
    return rf"{{\scriptsize {text}}}" if text else ""


def _row(cells: Sequence[str], skip: str = "") -> str:
    return " & ".join(cells) + (rf" \\[{skip}]" if skip else r" \\")


def _width(stacks: Sequence[Stack], names: float, style: Style) -> float:
    """Estimated width of the table in points. `names`: width of the column of group names in digits, 0 for none."""
    total = 2 * style.gap * (len(stacks) - 1) + (names * style.digit + 2 * style.gap if names else 0)
    for each in stacks:
        column = each.column
        # The head: name, and level or unit below it.
        name = 0.0 if column.kind in {"difference", "seeds"} else max(map(extent, _halves(column))) * style.digit
        below = column.level.text if column.level else f"({unit(column.metric)}) ↑" if column.metric else ""
        # The cells.
        widths = [(box.top_extent * style.digit, box.fine_extent * FINE) for box in each.boxes]
        space = style.digit / 2
        cells = [max(top, fine) if style.stacked else top + fine + space * (fine > 0) for top, fine in widths]
        total += max([name, extent(below) * FINE, *cells])
    return total
