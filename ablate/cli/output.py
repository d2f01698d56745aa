"""What commands write to stdout: a console, or one JSON document."""

import json
import math
import sys
from typing import Any

from rich.console import Console


def page() -> Console:
    """Stdout; wide where it is not a terminal, so that a table in a file keeps its columns."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else 160)


def emit(value: Any) -> None:
    """Print one strict JSON document; numbers that JSON lacks become null."""
    print(json.dumps(finite(value), indent=1))  # noqa: T201


def finite(value: Any) -> Any:
    """The value with NaN and infinities as null."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
