"""`ablate components` and `ablate schema`."""

import json
from collections.abc import Iterable
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from ablate.cli.options import Components, Json, use_own_levels
from ablate.cli.output import emit, page, plain_table
from ablate.errors import UsageError, nearest
from ablate.slots import registry


def components(
    slot: Annotated[str | None, typer.Argument(help="Show only this slot, or stages: those of training.")] = None,
    level: Annotated[str | None, typer.Argument(help="Show only this level, with what its settings mean.")] = None,
    components: Components = None,
    as_json: Json = False,
) -> None:
    """List the levels of every slot with their settings; of one level all that can be set, and what a probe reports."""
    from ablate.driver import catalogue

    use_own_levels()
    if slot and "/" in slot and level is None:
        slot, _, level = slot.partition("/")
    valid = [*registry.SLOTS, catalogue.STAGES]
    if slot is not None and slot not in valid:
        raise UsageError(f"unknown slot '{slot}'{nearest(slot, valid)}")
    found = catalogue.catalogue([slot] if slot else valid)
    if slot == catalogue.STAGES:
        level = level or next(iter(found[slot]))
    if slot and level:
        if level not in found[slot]:
            raise UsageError(f"unknown level '{level}' of {slot}{nearest(level, found[slot])}")
        found = {slot: {level: found[slot][level]}}
    if as_json:
        emit(found)
    elif slot and level:
        print_level(f"{slot}/{level}", found[slot][level], page())
    else:
        print_catalogue(found, page())


def schema(components: Components = None) -> None:
    """Print the JSON schema of study files, for editors."""
    from ablate.driver import catalogue

    use_own_levels()
    emit(catalogue.schema())


def print_catalogue(found: dict[str, Any], out: Console) -> None:
    """Print the catalogue as text."""
    for slot, names in found.items():
        about = registry.SLOTS.get(slot, "the stages of training")
        out.print(Text.assemble((slot, "bold"), f"  {about}"), soft_wrap=True)
        for name, level in names.items():
            settings = ", ".join(
                f"{field}={item['default']}" if item["default"] is not None else field
                for field, item in level["settings"].items()
            )
            summary = f"cannot be used: {level['error']}" if "error" in level else level["doc"]
            out.print(f"  {name:16} {summary}", soft_wrap=True)
            if "file" in level:
                out.print(f"  {'':16} own level: {level['file']}", soft_wrap=True)
            if settings:
                out.print(f"  {'':16} settings: {settings}", soft_wrap=True)
    out.print("What the settings of one level mean: ablate components SLOT LEVEL", soft_wrap=True)


def print_level(name: str, level: dict[str, Any], out: Console) -> None:
    """Print one level as text: its settings, and the metrics of a probe."""
    out.print(Text(name, "bold"))
    out.print(Text(f"cannot be used: {level['error']}" if "error" in level else level["doc"]))
    if level["settings"]:
        rows = [(field, item["type"], _default(item), item["meaning"]) for field, item in level["settings"].items()]
        _print_rows(("setting", "type", "default", "meaning"), rows, out)
    else:
        out.print("\nno settings" if "error" not in level else "")
    if metrics := level.get("metrics"):
        measured = [
            (field, item["unit"], item["better"], _number(item["interest"]), _meaning(item))
            for field, item in metrics.items()
        ]
        _print_rows(("metric", "unit", "better", "of interest", "meaning"), measured, out)
        out.print("\nof interest: the smallest difference worth knowing; a study may set another one under `interest`")


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:g}"


def _default(setting: dict[str, Any]) -> str:
    """A default as it is written in a study."""
    value = setting["default"]
    if setting["required"]:
        return "required"
    return str(value).lower() if isinstance(value, bool) else "null" if value is None else json.dumps(value).strip('"')


def _meaning(metric: dict[str, Any]) -> str:
    """What a metric means, and what it needs."""
    needs = metric["needs"] or ("clips whose motion is known" if metric["known_motion"] else "")
    return f"{metric['meaning']}; needs {needs}" if needs else str(metric["meaning"])


def _print_rows(headings: tuple[str, ...], rows: Iterable[tuple[str, ...]], out: Console) -> None:
    table = plain_table()
    for heading in headings:
        wraps = heading in {"meaning", "type"}
        table.add_column(heading, no_wrap=not wraps, ratio={"meaning": 3, "type": 1}.get(heading))
    for row in rows:
        table.add_row(*map(Text, row))
    out.print()
    out.print(table)
