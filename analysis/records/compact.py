"""A copy of a study's records in one Parquet file, so that a table need not open thousands of record files.

A record always takes precedence over the copy. Each row holds the modification time and the size of the record's file
and is used only while both are unchanged. A record is read from its own file if it is new, if it has changed, or if it
was written so shortly before the copy that a later change could have gone unnoticed. A copy that is missing, damaged or
of another format is rebuilt.
"""

import json
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablate.store import damage
from ablate.store.checksum import EMPTY_MARK, Damaged, seal_file, verify_file
from ablate.store.files import atomic_write, local
from ablate.store.folders import Store
from ablate.store.record import Record
from ablate.store.stage import Stamp

if TYPE_CHECKING:
    import pandas as pd

FORMAT = b"ablate records 3"

LEAST = 250
"""With fewer records no copy is written: reading them takes a fraction of a second."""

SETTLED_S = 2.0
"""A record is copied only if it is at least this old, in seconds: the clocks of file systems are coarse."""

METRIC = "metrics/"
"""Prefix of the columns of metrics of the averaged weights."""

RAW = "raw/"
"""Prefix of the columns of metrics of the raw weights, as the optimiser left them."""


def read_records(signatures: Sequence[str], store: Store, copy: Path | None = None) -> "pd.DataFrame":
    """One row for each of these signatures that has a record; the index is the signature.

    Columns: `status`, `reason`, `cause`, `steps`, `wall_s`, `parts`, `probes`, `code` and `content` as JSON,
    `metrics/<name>`, `raw/<name>` and the entries of `liveness`; NaN where a record lacks a number. `copy` is the file
    that holds the copy; None for no copy.
    """
    import pandas as pd

    # The rows of the copy whose records have not changed since.
    stamps = {
        signature: stamp for signature in dict.fromkeys(signatures) if (stamp := store.stage(signature).record_stamp())
    }
    copied = _read(copy) if copy else None
    if copied is not None:
        copied_stamps = zip(copied["time"].tolist(), copied["size"].tolist(), strict=True)
        current = [stamps.get(name) == stamp for name, stamp in zip(copied.index, copied_stamps, strict=True)]
        copied = copied[current]

    # All other records, from their own files.
    missing = stamps.keys() - set(copied.index if copied is not None else ())
    read = [(name, record) for name in stamps if name in missing and (record := store.stage(name).record())]
    rows = pd.DataFrame([_row(record, stamps[name]) for name, record in read], [name for name, _ in read])
    records = rows if copied is None else copied if rows.empty else pd.concat([copied, rows])

    if copy and read and len(records) >= LEAST:
        with suppress(OSError):  # a read-only store gets no copy
            _write(records, copy)
    return records


def _row(record: Record, stamp: Stamp) -> dict[str, Any]:
    return {
        "time": stamp[0], "size": stamp[1], "status": record.status, "reason": record.reason, "cause": record.cause,
        "steps": record.steps, "wall_s": record.wall_s, "parts": record.parts, "probes": json.dumps(record.probes),
        "code": json.dumps(record.code.get("components", {})), "content": json.dumps(record.content),
        **{f"{METRIC}{name}": float(value) for name, value in record.metrics.items()},
        **{f"{RAW}{name}": float(value) for name, value in record.raw.items()},
        **record.liveness,
    }  # fmt: skip


def _read(copy: Path) -> "pd.DataFrame | None":
    """The copy as it was written; None if it is missing, unreadable or of another format."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        found = verify_file(local(copy)) if copy.exists() else ""
        with copy.open("rb") as file:
            table = pq.read_table(file)
        metadata = table.schema.metadata or {}
        if metadata.get(b"format") == FORMAT and not found:
            raise Damaged("its checksum is missing")
    except Damaged as error:
        damage.report(copy, error)
        return None
    except pa.ArrowException as error:
        damage.report(copy, f"it is no Parquet file ({error})")
        return None
    except OSError:
        return None
    if metadata.get(b"format") != FORMAT:
        return None
    records: pd.DataFrame = table.to_pandas()
    return records


def _write(records: "pd.DataFrame", copy: Path) -> None:
    """Write the records that are older than `SETTLED_S`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    settled = records[records["time"] < time.time_ns() - SETTLED_S * 1e9]
    table = pa.Table.from_pandas(settled)
    metadata = {**(table.schema.metadata or {}), b"format": FORMAT, b"checksum": EMPTY_MARK}
    with atomic_write(copy) as temporary:
        with temporary.open("wb") as file:
            pq.write_table(table.replace_schema_metadata(metadata), file)
        seal_file(temporary)
