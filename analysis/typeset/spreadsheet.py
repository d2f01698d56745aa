"""Tables as CSV, as spreadsheets open them: a text that would be run as a formula is shown as text instead."""

import csv
import io
import re
from collections.abc import Iterable
from typing import Any

FORMULA = re.compile(r"[=+\-@\t]")
"""How a text begins that a spreadsheet runs (https://owasp.org/www-community/attacks/CSV_Injection)."""

NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|[+-]?inf|nan")


def write_csv(rows: Iterable[Iterable[Any]]) -> str:
    """Rows of cells as CSV. An apostrophe, which spreadsheets do not show, comes before a text like `=1+1`."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([list(map(harmless, row)) for row in rows])
    return text.getvalue()


def harmless(cell: Any) -> Any:
    """A cell that no spreadsheet takes for a formula; numbers, also as text, stay as they are."""
    if not isinstance(cell, str):
        return cell
    text = cell.replace("\r", " ")  # which `csv` would leave without quotes
    return f"'{text}" if FORMULA.match(text) and not NUMBER.fullmatch(text) else text
