"""What objects print: lines without colour, as wide as most windows."""

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

WIDTH = 120
"""Characters of a line."""


def printed(draw: "Callable[[Console], None]") -> str:
    """The text that a function prints to a console."""
    from rich.console import Console

    console = Console(
        width=WIDTH, force_jupyter=False, force_terminal=False, highlight=False, markup=False, emoji=False
    )
    with console.capture() as captured:
        draw(console)
    return "\n".join(line.rstrip() for line in captured.get().rstrip().splitlines())
