"""A layout as HTML: a fragment for a page, or a self-contained page."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape

from ablate.analysis.typeset.cells import (
    Cell,
    Check,
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
    arrow,
    numeral,
    unit,
)

LEGEND = "The best mean of a column is bold, the second best underlined."
RANK_MARKUP = {0: "{}", 1: "<b>{}</b>", 2: "<u>{}</u>"}
NUMBERS = {"value", "difference", "seeds"}


STYLE = """
table.ablation {border-collapse: collapse; border: solid; border-width: 2px 0; font-variant-numeric: tabular-nums}
table.ablation caption {text-align: left; font-weight: bold; padding-bottom: .5em}
table.ablation th, table.ablation td {text-align: left; padding: .15em .7em; vertical-align: baseline}
table.ablation .number {text-align: right; white-space: nowrap}
table.ablation tbody {border-top: 1px solid}
table.ablation tbody th {font-weight: normal; font-style: italic}
table.ablation small {opacity: .75}
table.ablation th.claim {font-style: normal; max-width: 60em; padding-top: .8em}
table.ablation th.claim small {display: block}
table.ablation td:last-child {white-space: nowrap}
.notes {max-width: 60em; font-size: 90%}
.warning {color: #a00}
.answer {max-width: 60em}
.answer .first {font-weight: bold}
.answer h3 {font-size: 100%; margin: .8em 0 .2em}
.answer ul {margin: 0; padding-left: 1.3em}
"""


def page(layouts: Iterable[Layout], below: str = "") -> str:
    """A complete HTML document of tables. `below`: markup after them."""
    layouts = list(layouts)
    body = "\n".join([*map(html, layouts), below])
    head = f'<meta charset="utf-8">\n<title>{escape(layouts[0].name)}</title>\n<style>{STYLE}</style>'
    return f'<!DOCTYPE html>\n<html lang="en">\n<head>\n{head}\n</head>\n<body>\n{body}\n</body>\n</html>\n'


def sections(headline: str, parts: Mapping[str, Sequence[str]]) -> str:
    """A headline, then a list of sentences under each heading."""
    lists = [
        f"<h3>{escape(heading)}</h3>\n<ul>{''.join(f'<li>{escape(one)}</li>' for one in part)}</ul>"
        for heading, part in parts.items()
    ]
    return "\n".join(['<div class="answer">', f'<p class="first">{escape(headline)}</p>', *lists, "</div>"])


def html(layout: Layout) -> str:
    """The table, captioned with its question, then notes and warnings."""
    return f"{table(layout)}\n{notes(layout)}"


def table(layout: Layout) -> str:
    """The `table` element. Cells with numbers carry the full value as `data-value`, for scripts that sort."""
    heads = "".join(f"<th{_kind(column)}>{_heading(column)}</th>" for column in layout.columns)
    return "\n".join(
        [
            f'<table class="ablation" id="tab-{escape(layout.label)}">',
            f"<caption>{escape(layout.title)}</caption>",
            f"<thead><tr>{heads}</tr></thead>",
            *(_group(group, layout.columns) for group in layout.groups),
            "</table>",
        ]
    )


def notes(layout: Layout) -> str:
    """The notes and warnings of a table, a paragraph each."""
    legend = [LEGEND] if layout.marked else []
    sentences = [*map(_sentence, layout.notes), *legend, *map(_sentence, layout.asides)]
    paragraphs = "".join(f"<p>{sentence}</p>\n" for sentence in sentences)
    warnings = "".join(f'<p class="warning">Warning: {escape(warning)}</p>\n' for warning in layout.warnings)
    return f'<div class="notes">\n{paragraphs}{warnings}</div>'


def _group(group: Group, columns: Sequence[Column]) -> str:
    """A `tbody`: the name of the group and its rows."""
    lines = []
    if group.heading:
        heading = group.heading
        text = f"<b>{escape(group.name)}</b> {escape(heading.text)}"
        small = f"<small>{escape(heading.source)}. Caveat: {escape(heading.caveat)}</small>"
        lines.append(f'<tr><th colspan="{len(columns)}" scope="rowgroup" class="claim">{text} {small}</th></tr>')
    elif group.name:
        baseline = f" <small>(baseline {escape(group.baseline.text)})</small>" if group.baseline else ""
        lines.append(f'<tr><th colspan="{len(columns)}" scope="rowgroup">{escape(group.name)}{baseline}</th></tr>')
    for row in group.rows:
        cells = zip(row, columns, strict=True)
        shown = "".join(f"<td{_kind(column)}{_data(cell)}>{_cell(cell)}</td>" for cell, column in cells)
        lines.append(f"<tr>{shown}</tr>")
    return "\n".join(["<tbody>", *lines, "</tbody>"])


def _kind(column: Column) -> str:
    """The class attribute of a column's cells."""
    return ' class="number"' if column.kind in NUMBERS else ""


def _heading(column: Column) -> str:
    if column.level:
        return escape(f"{column.name} {column.level.text}")
    if column.metric is None or column.kind == "difference":
        return escape(column.name)
    measure = f" <small>({escape(unit(column.metric))})</small>" if unit(column.metric) else ""
    return f"{escape(column.name)}{measure} {arrow(column.metric)}".rstrip()


def _data(cell: Cell) -> str:
    if isinstance(cell, Value | Difference):
        return f' data-value="{cell.mean!r}"'
    return f' data-value="{cell.n}"' if isinstance(cell, Seeds) else ""


def _cell(cell: Cell) -> str:
    match cell:
        case Level():
            return escape(cell.text)
        case Word(text):
            return escape(text)
        case Phrase(pieces, remark):
            return _sentence(pieces) + (f" <small>({_sentence(remark)})</small>" if remark else "")
        case Seeds(n, trouble):
            return f"{n} <small>({escape(trouble)})</small>" if trouble else str(n)
        case Check(there):
            return "✓" if there else ""
        case Value(mean, sd, decimals, rank, clear, seeds):
            spread = f" <small>± {numeral(sd, decimals)}</small>" if sd == sd else ""
            count = f" <small>(n={seeds})</small>" if seeds is not None else ""
            return (
                RANK_MARKUP[rank].format(numeral(mean, decimals)) + spread + ("<sup>*</sup>" if clear else "") + count
            )
        case Difference(mean, low, high, decimals, clear):
            bounds = ", ".join(numeral(bound, decimals, signed=True) for bound in (low, high))
            interval = f" <small>[{bounds}]</small>" if low == low else ""
            return numeral(mean, decimals, signed=True) + interval + ("<sup>*</sup>" if clear else "")


def _sentence(sentence: Sentence) -> str:
    return "".join(map(_piece, sentence))


def _piece(piece: str | Level | Symbol) -> str:
    if isinstance(piece, Symbol):
        return f"<i>{escape(piece.name)}</i>"
    return escape(piece.text if isinstance(piece, Level) else piece)
