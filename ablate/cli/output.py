"""What commands write to stdout: a console, or one JSON document."""

import json
import math
import sys
from typing import Any

from rich.console import Console
from rich.table import Table


def page() -> Console:
    """A console on stdout. If stdout is not a terminal, the console is 160 columns wide, so that tables fit."""
    return Console(highlight=False, markup=False, emoji=False, width=None if sys.stdout.isatty() else 160)


def plain_table() -> Table:
    """A table without lines, to add columns and rows to."""
    return Table(box=None, header_style="bold", padding=(0, 2, 0, 0))


WAY_OUT = "--metrics {names}, --format markdown, or a wider terminal."
"""How to see the metrics that do not fit on a terminal."""


def print_table(table: Any) -> None:
    """Print a table of results: on a terminal as wide as it is, elsewhere as Markdown."""
    if not sys.stdout.isatty():
        print(table.markdown())  # noqa: T201
        return
    from ablate.analysis.typeset.terminal import terminal

    out = page()
    for layout in table.layouts:
        out.print(terminal(layout, out, WAY_OUT))
        out.print()
    print_answer(table, out)


def print_answer(table: Any, out: Console) -> None:
    """Print the answer of a study, if this is the table of one."""
    from ablate.analysis.typeset.terminal import sections

    if hasattr(table, "answer"):
        out.print(sections(table.answer.headline, table.answer.parts))
        out.print()


def emit(value: Any) -> None:
    """Print one strict JSON document. NaN and infinities become null."""
    print(json.dumps(finite(value), indent=1))  # noqa: T201


def finite(value: Any) -> Any:
    """Replace NaN and infinities in a JSON value by None."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
