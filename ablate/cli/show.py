"""`ablate status` and `ablate show`."""

from typing import Annotated, Any

import typer
from rich.console import Console

from ablate.cli.options import STORE, Components, Json, Scale, Set, StoreOption, StudyName, find
from ablate.cli.output import emit, page


def status(
    study: StudyName,
    scale: Scale = None,
    set_: Set = None,
    components: Components = None,
    store: StoreOption = STORE,
    as_json: Json = False,
) -> None:
    """Count a study's trials by status, and those that are stale: their code or data have changed since they ran."""
    from ablate.driver import overview

    counts = overview.count_statuses(find(study, scale, set_, store))
    if as_json:
        emit(counts)
        return
    print("  ".join(f"{n} {kind}" for kind, n in counts["trials"].items()))  # noqa: T201
    for change in counts["changed"]:
        print(f"changed: {change}")  # noqa: T201
    for cause, n in counts["causes"].items():
        print(f"{cause}: {n}")  # noqa: T201
    for path in counts["damaged"]:
        print(f"damaged: {path}")  # noqa: T201


def show(
    study: StudyName,
    scale: Scale = None,
    set_: Set = None,
    components: Components = None,
    store: StoreOption = STORE,
    trial: Annotated[str | None, typer.Option(help="Show only trials whose name or signature contains this.")] = None,
    as_json: Json = False,
) -> None:
    """Show every trial of a study in full: metrics, gradient shares, time, folder."""
    from ablate.driver import overview

    rows = overview.list_trials(find(study, scale, set_, store), trial or "")
    emit(rows) if as_json else print_trials(rows, page())


def print_trials(rows: list[dict[str, Any]], out: Console) -> None:
    """Print trials as text, one block each."""
    for row in rows:
        cause = f"  ({row['cause']})" if row["cause"] else ""
        out.print(f"{row['name']}  {row['status']}  {row['reason']}{cause}", style="bold", soft_wrap=True)
        out.print(
            f"  {row['signature']} · {row['steps']} steps · {row['wall_s']:.1f} s · {row['folder']}", soft_wrap=True
        )
        if row["metrics"]:
            out.print("  " + "  ".join(f"{name} {value:.4g}" for name, value in row["metrics"].items()), soft_wrap=True)
        if row["liveness"]:
            shares = "  ".join(f"{name.removeprefix('share/')} {value:.1%}" for name, value in row["liveness"].items())
            active = f"{row['active_parameters']} of {row['parameters']} parameters active"
            out.print(
                f"  gradient shares: {shares} · {active} · {row['flops']:.3g} FLOPs to encode and decode",
                soft_wrap=True,
            )
