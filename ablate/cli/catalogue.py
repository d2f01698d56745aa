"""`ablate components` and `ablate schema`."""

from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from ablate.cli.options import Json
from ablate.cli.output import emit, page
from ablate.errors import nearest
from ablate.slots import registry


def components(
    slot: Annotated[str | None, typer.Argument(help="Show only this slot.")] = None, as_json: Json = False
) -> None:
    """List the levels of every slot with their settings."""
    from ablate.driver import catalogue

    if slot is not None and slot not in registry.SLOTS:
        head = slot.partition("/")[0]
        hint = (
            f"; ablate components {head} lists its levels" if head in registry.SLOTS else nearest(head, registry.SLOTS)
        )
        raise typer.BadParameter(f"unknown slot '{slot}'{hint}")
    found = catalogue.catalogue([slot] if slot else list(registry.SLOTS))
    emit(found) if as_json else print_catalogue(found, page())


def schema() -> None:
    """Print the JSON schema of study files, for editors."""
    from ablate.driver import catalogue

    emit(catalogue.schema())


def print_catalogue(found: dict[str, Any], out: Console) -> None:
    """Print the catalogue as text."""
    for slot, names in found.items():
        out.print(Text.assemble((slot, "bold"), f"  {registry.SLOTS[slot]}"))
        for name, level in names.items():
            settings = ", ".join(
                f"{field}={item['default']}" if item["default"] is not None else field
                for field, item in level["settings"].items()
            )
            summary = f"cannot be used: {level['error']}" if "error" in level else level["doc"]
            out.print(f"  {name:16} {summary}", soft_wrap=True)
            if settings:
                out.print(f"  {'':16} settings: {settings}", soft_wrap=True)
