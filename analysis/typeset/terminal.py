"""A layout for a terminal: as wide as it is, without the metrics that do not fit."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from rich.console import Console, Group, RenderableType
from rich.measure import Measurement
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from ablate.analysis.typeset.cells import (
    Cell,
    Check,
    Column,
    Difference,
    Layout,
    Level,
    Phrase,
    Seeds,
    Value,
    Word,
    arrow,
    numeral,
    unit,
    words,
)

RANK_STYLE = {0: "", 1: "bold", 2: "underline"}

LEGEND = "The best mean of a column is bold, the second best underlined."

NAME_SHARE = 3
"""A column of names is at most a third of the terminal wide; longer names are wrapped."""

LEAST_NAME = 8
"""Characters of a column of names, however narrow the terminal."""

UNLIMITED = 100_000
"""Columns of a terminal on which everything fits."""


@dataclass(frozen=True)
class Fitted:
    """A layout without the metrics that are `hidden`, as they do not fit. `wraps`: numbers must be wrapped, too."""

    layout: Layout
    hidden: tuple[str, ...]
    wraps: bool = False


def terminal(layout: Layout, console: Console, way_out: str, *, notes: bool = True) -> RenderableType:
    """The question, the table, what it hides, its notes if they are wanted, and its warnings.

    `way_out`: how to see the metrics that do not fit; `{names}` stands for their names with commas.
    """
    fitted = fit(layout, console)
    parts: list[RenderableType] = [Text(layout.title, "bold"), _table(fitted, console.width)]
    if fitted.hidden:
        names = ",".join(fitted.hidden)
        lacking = f"{len(fitted.hidden)} metrics do" if len(fitted.hidden) > 1 else "1 metric does"
        text = f"{lacking} not fit: {', '.join(fitted.hidden)}. To see them: {way_out.format(names=names)}"
        parts.append(Text(text, "yellow"))
    if notes:
        legend = [LEGEND] if layout.marked else []
        sentences = [*map(words, layout.notes), *legend, *map(words, layout.asides)]
        parts += [Padding(Text(sentence, "dim"), (1, 0, 0, 0)) for sentence in sentences]
    parts += [Text(f"Warning: {warning}", "yellow") for warning in layout.warnings]
    return Group(*parts)


def sections(headline: str, parts: Mapping[str, Sequence[str]]) -> RenderableType:
    """A headline, then a list of sentences under each heading."""
    lines: list[RenderableType] = [Text(headline, "bold")]
    for heading, part in parts.items():
        lines.append(Text(heading, "bold"))
        lines += [Padding(Text(sentence), (0, 0, 0, 2)) for sentence in part]
    return Group(*lines)


def fit(layout: Layout, console: Console) -> Fitted:
    """The layout without its last metrics, as many as do not fit; the first metric always stays."""
    metrics = list(dict.fromkeys(column.metric.name for column in layout.columns if column.metric))
    for count in range(len(metrics), 0, -1):
        fitted = Fitted(_without(layout, metrics[count:]), tuple(metrics[count:]))
        table = _table(fitted, console.width)
        if Measurement.get(console, console.options.update(width=UNLIMITED), table).maximum <= console.width:
            return fitted
    return Fitted(_without(layout, metrics[1:]), tuple(metrics[1:]), wraps=True)


def _without(layout: Layout, metrics: Sequence[str]) -> Layout:
    """The layout without the columns of these metrics; a verdict is that of the metric before it."""
    kept: list[int] = []
    last = ""
    for index, column in enumerate(layout.columns):
        last = column.metric.name if column.metric else last
        belongs = column.metric is not None or column.kind == "verdict"
        if not belongs or last not in metrics:
            kept.append(index)
    groups = tuple(
        replace(group, rows=tuple(tuple(row[i] for i in kept) for row in group.rows)) for group in layout.groups
    )
    return replace(layout, columns=tuple(layout.columns[i] for i in kept), groups=groups)


def _table(fitted: Fitted, width: int) -> Table:
    layout = fitted.layout
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    named = any(group.name for group in layout.groups)
    if named:
        table.add_column("factor" if all(group.baseline for group in layout.groups if group.name) else "group")
    for column in layout.columns:
        if column.kind in {"value", "difference", "seeds"}:
            table.add_column(_heading(column), justify="right", no_wrap=not fitted.wraps)
        elif column.kind == "verdict":
            table.add_column(_heading(column), no_wrap=not fitted.wraps)
        else:
            most = max(12, width // NAME_SHARE)
            table.add_column(_heading(column), min_width=LEAST_NAME, max_width=most, overflow="fold")
    for group in layout.groups:
        for index, row in enumerate(group.rows):
            name = [group.name if index == 0 else ""] if named else []
            table.add_row(*name, *map(_cell, row))
    return table


def _heading(column: Column) -> Text:
    if column.level:
        return Text(f"{column.name} {column.level.text}")
    if column.metric is None or column.kind == "difference":
        return Text(column.name)
    label = f"{column.name} ({unit(column.metric)})" if unit(column.metric) else column.name
    return Text(f"{label} {arrow(column.metric)}".rstrip())


def _cell(cell: Cell) -> Text:
    match cell:
        case Level():
            return Text(cell.text)
        case Word(text):
            return Text(text)
        case Phrase(pieces, remark):
            return Text(f"{words(pieces)} ({words(remark)})" if remark else words(pieces))
        case Seeds(n, trouble):
            return Text(f"{n} ({trouble})" if trouble else str(n))
        case Check(there):
            return Text("✓" if there else "")
        case Value(mean, sd, decimals, rank, clear, seeds):
            spread = f" ± {numeral(sd, decimals)}" if sd == sd else ""
            count = f" (n={seeds})" if seeds is not None else ""
            return Text.assemble((numeral(mean, decimals), RANK_STYLE[rank]), f"{spread}{'*' if clear else ' '}{count}")
        case Difference(mean, low, high, decimals, clear):
            bounds = ", ".join(numeral(bound, decimals, signed=True) for bound in (low, high))
            interval = f" [{bounds}]" if low == low else ""
            return Text(f"{numeral(mean, decimals, signed=True)}{interval}{'*' if clear else ' '}")
