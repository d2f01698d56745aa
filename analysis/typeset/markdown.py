"""A layout as Markdown that is also readable in a terminal: columns are aligned, numbers at their decimal points."""

import re
from collections.abc import Mapping, Sequence

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

RANK_MARKUP = {0: "", 1: "**", 2: "_"}
LEGEND = "The best mean of a column is **bold**, the second best _emphasised_."


def markdown(layout: Layout) -> str:
    """The question, the table, notes and warnings."""
    # The columns; the names of groups are a column of their own.
    heads = [_head(column) for column in layout.columns]
    rows = [row for group in layout.groups for row in group.rows]
    columns = [_typeset(cells) for cells in zip(*rows, strict=True)]
    if named := [group for group in layout.groups if group.name]:
        heads.insert(0, _names(named))
        columns.insert(0, [name for group in layout.groups for name in [group.name, *[""] * (len(group.rows) - 1)]])

    # The table, padded to the width of its columns.
    widths = [max(map(len, [head, *cells])) for head, cells in zip(heads, columns, strict=True)]
    lines = [heads, ["-" * width for width in widths], *zip(*columns, strict=True)]
    table = "\n".join(f"| {' | '.join(map(str.ljust, line, widths))} |" for line in lines)

    headings = "\n".join(_heading(group) for group in layout.groups if group.heading)
    legend = [LEGEND] if layout.marked else []
    notes = "\n".join([*map(_sentence, layout.notes), *legend, *map(_sentence, layout.asides)])
    warnings = "\n".join(f"- Warning: {_escape(warning)}" for warning in layout.warnings)
    return "\n\n".join(filter(None, [_escape(layout.title), table, headings, notes, warnings])) + "\n"


def sections(headline: str, parts: Mapping[str, Sequence[str]]) -> str:
    """A headline, then a list of sentences under each heading."""
    lists = ["\n".join([f"{heading}:", *(f"- {_escape(one)}" for one in part)]) for heading, part in parts.items()]
    return "\n\n".join([f"Answer: {_escape(headline)}", *lists]) + "\n"


def _names(groups: Sequence[Group]) -> str:
    """The head of the column with the names of these groups."""
    if any(group.heading for group in groups):
        return "claim"
    return "factor" if all(group.baseline for group in groups) else "group"


def _heading(group: Group) -> str:
    """The heading of a group as an item of a list below the table."""
    assert group.heading
    heading = group.heading
    return _escape(f"- {group.name}: {heading.text} ({heading.source}.) Caveat: {heading.caveat}")


def _head(column: Column) -> str:
    if column.level:
        return _escape(f"{column.name} {column.level.text}")
    if column.metric is None or column.kind == "difference":
        return _escape(column.name)
    label = f"{column.name} ({unit(column.metric)})" if unit(column.metric) else column.name
    return _escape(f"{label} {arrow(column.metric)}".rstrip())


def _typeset(cells: Sequence[Cell]) -> list[str]:
    """The cells of one column, padded so that the parts of its numbers are aligned."""
    parts = [_parts(cell) for cell in cells]
    count = max(map(len, parts))
    numbers = [part for part in parts if len(part) == count]
    widths = [max(map(len, column)) for column in zip(*numbers, strict=True)]
    return ["".join(map(str.rjust, part, widths)) if count > 1 and len(part) == count else part[0] for part in parts]


def _parts(cell: Cell) -> list[str]:
    """The text of a cell in parts that are aligned with those of other cells; text has a single part."""
    match cell:
        case Level():
            return [_escape(cell.text)]
        case Word(text):
            return [_escape(text)]
        case Phrase(pieces, remark):
            return [f"{_sentence(pieces)} ({_sentence(remark)})" if remark else _sentence(pieces)]
        case Seeds(n, trouble):
            return [f"{n} ({trouble})" if trouble else str(n)]
        case Check(there):
            return ["✓" if there else ""]
        case Value(mean, sd, decimals, rank, clear, seeds):
            markup = RANK_MARKUP[rank]
            spread = [" ± ", numeral(sd, decimals)] if sd == sd else ["", ""]
            count = f" (n={seeds})" if seeds is not None else ""
            return [markup + numeral(mean, decimals), markup.ljust(2), *spread, ("*" if clear else " "), count]
        case Difference(mean, low, high, decimals, clear):
            bounds = [numeral(bound, decimals, signed=True) for bound in (low, high)]
            interval = [" [", bounds[0], ", ", bounds[1], "]"] if low == low else [""] * 5
            return [numeral(mean, decimals, signed=True), *interval, "*" if clear else " "]


def _sentence(sentence: Sentence) -> str:
    return "".join(map(_piece, sentence))


def _piece(piece: str | Level | Symbol) -> str:
    if isinstance(piece, Symbol):
        return piece.name
    return _escape(piece.text if isinstance(piece, Level) else piece)


def _escape(text: str) -> str:
    """Text that makes no markup: no table cell, emphasis, HTML tag or link, in one line."""
    text = re.sub(r"([|*\\`]|<(?=[A-Za-z/!?])|\](?=[(\[]))", r"\\\1", text)
    return re.sub(r"[\r\n\x00\x1b]+", " ", text)
