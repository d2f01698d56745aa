"""`ablate studies`."""

import time
from pathlib import Path

from rich.text import Text

from ablate.cli.options import STORE, Json, StoreOption
from ablate.cli.output import emit, page, plain_table
from ablate.errors import StoreError
from ablate.store.folders import Store


def studies(store: StoreOption = STORE, as_json: Json = False) -> None:
    """List the studies of the store, the one run last first: trials done, pending and failed, scale, date, question."""
    from ablate.driver.overview import list_studies

    runs = Store(store)
    rows = list_studies(runs)
    if as_json:
        emit(rows)
        return
    if not rows:
        raise StoreError(no_studies(store))
    table = plain_table()
    for heading in ("study", "scale"):
        table.add_column(heading, no_wrap=True)
    changed = any(row["overrides"] for row in rows)
    if changed:
        table.add_column("--set")
    for heading in ("done", "pending", "failed"):
        table.add_column(heading, justify="right")
    table.add_column("last run", no_wrap=True)
    table.add_column("question")
    for row in rows:
        changes = [", ".join(row["overrides"])] if changed else []
        counts = row["trials"]
        ended = counts.get("done", 0) + counts.get("diverged", 0)
        left = counts.get("pending", 0) + counts.get("running", 0)
        date = time.strftime("%Y-%m-%d %H:%M", time.localtime(row["time"]))
        cells = [row["name"], row["scale"], *changes, ended, left, counts.get("failed", 0), date, row["question"]]
        table.add_row(*(Text(str(cell)) for cell in cells))
    page().print(table)


def no_studies(store: Path) -> str:
    """Why there is nothing to show of a store, and the way out."""
    found = "holds no study yet" if store.exists() else "is not there"
    return f"the store {store} {found}; run a study (ablate sweep STUDY.yaml), or name its store with --store"
