"""The records of a study copied into one columnar file, so that a table need not open thousands of them.

The copy is never trusted over a record. Each row bears the time and the size of the record's file, and is used only
while these are still so; a record that is new, that has changed, or that was written so shortly before the copy that it
may have changed since without a trace, is read itself. A copy that is lost, damaged or of another format is made anew.
"""

import json
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablate.store.files import atomic_write
from ablate.store.folders import Store
from ablate.store.record import Record

if TYPE_CHECKING:
    import pandas as pd

FORMAT = b"ablate records 1"


LEAST = 250
"""Records that are worth a copy; fewer are read in a fraction of a second."""


SETTLED_S = 2.0
"""How long a record must have been there before it is copied: clocks of file systems are coarse."""


METRIC, RAW = "metrics/", "raw/"


Stamp = tuple[int, int]


def read_records(marks: Sequence[str], store: Store, copy: Path | None = None) -> "pd.DataFrame":
    """A row for each of these signatures that has a record, under its signature.

    Columns: `status`, `reason`, `steps`, `wall_s`, `parts`, `probes` and `code` as JSON, `metrics/<name>`,
    `raw/<name>` and the entries of `liveness`; NaN where a record lacks a number. `copy` is where the copy is kept;
    None for no copy.
    """
    import pandas as pd

    stamps = {mark: stamp for mark in dict.fromkeys(marks) if (stamp := store.stage(mark).record_stamp())}
    known = _read(copy) if copy else None
    if known is not None:
        seen = zip(known["time"].tolist(), known["size"].tolist(), strict=True)
        known = known[[stamps.get(mark) == stamp for mark, stamp in zip(known.index, seen, strict=True)]]
    fresh = stamps.keys() - set(known.index if known is not None else ())
    read = [(mark, record) for mark in stamps if mark in fresh and (record := store.stage(mark).record())]
    rows = pd.DataFrame([_row(record, stamps[mark]) for mark, record in read], [mark for mark, _ in read])
    found = rows if known is None else known if rows.empty else pd.concat([known, rows])
    if copy and read and len(found) >= LEAST:
        with suppress(OSError):  # a store that may only be read has no copy
            _write(found, copy)
    return found


def _row(record: Record, stamp: Stamp) -> dict[str, Any]:
    return {
        "time": stamp[0], "size": stamp[1], "status": record.status, "reason": record.reason, "steps": record.steps,
        "wall_s": record.wall_s, "parts": record.parts, "probes": json.dumps(record.probes),
        "code": json.dumps(record.code.get("components", {})),
        **{f"{METRIC}{name}": float(value) for name, value in record.metrics.items()},
        **{f"{RAW}{name}": float(value) for name, value in record.raw.items()},
        **record.liveness,
    }  # fmt: skip


def _read(copy: Path) -> "pd.DataFrame | None":
    """The copy as it was written; None if there is none that can be read."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with copy.open("rb") as file:
            table = pq.read_table(file)
    except (OSError, pa.ArrowException):
        return None
    if (table.schema.metadata or {}).get(b"format") != FORMAT:
        return None
    found: pd.DataFrame = table.to_pandas()
    return found


def _write(found: "pd.DataFrame", copy: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    settled = found[found["time"] < time.time_ns() - SETTLED_S * 1e9]
    table = pa.Table.from_pandas(settled)
    marked = table.replace_schema_metadata({**(table.schema.metadata or {}), b"format": FORMAT})
    with atomic_write(copy) as temporary, temporary.open("wb") as file:
        pq.write_table(marked, file)
