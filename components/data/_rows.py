"""Pictures in the rows of Parquet and Arrow files, each read without the rows of other groups."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablate.components.shared.released import unreadable
from ablate.slots.data import Misfit

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Row:
    """A picture file in a row of `path`: the row `index` of a row group or record batch."""

    path: Path
    column: str
    group: int
    index: int

    def read(self) -> BytesIO:
        """The picture file. Raises Misfit if the row holds none."""
        cell = _group(self.path, self.path.stat().st_mtime_ns, self.column, self.group)[self.index].as_py()
        content = cell.get("bytes") if isinstance(cell, dict) else cell
        if not content:
            raise Misfit("not in the file, whose rows hold nothing or a path to elsewhere; write the bytes into it")
        return BytesIO(content)


def pictures_of(path: Path, column: str | None, level: str) -> list[Row]:
    """The rows of a file. `column`: of the pictures; by default the only one that can hold any.

    Raises ValueError for a file that cannot be read, and naming the columns if there is none of that name, or not one.
    """
    try:
        schema, lengths = _layout(path, path.stat().st_mtime_ns)
    except (OSError, ValueError) as error:  # pyarrow's own are both
        reason = unreadable(path) or str(error).partition("\n")[0]
        raise ValueError(f"data/{level}: {path} is not readable as {path.suffix[1:]} ({reason})") from None
    able = [field.name for field in schema if _can_hold_pictures(field.type)]
    if column is None and len(able) != 1:
        found = (
            f"its columns {', '.join(able)} can hold pictures; choose one with `column`" if able else "no column can"
        )
        raise ValueError(f"data/{level}: {path} has not one column of pictures: {found}")
    if column is not None and column not in able:
        raise ValueError(
            f"data/{level}: {path} has no column of pictures named {column}; those that can hold pictures: "
            f"{', '.join(able) or 'none'}"
        )
    return [
        Row(path, column or able[0], group, index) for group, length in enumerate(lengths) for index in range(length)
    ]


def _can_hold_pictures(kind: "pa.DataType") -> bool:
    """Whether values are bytes, or structs with bytes, as Hugging Face's feature `Image` is stored."""
    import pyarrow.types as types

    if types.is_struct(kind):
        index = kind.get_field_index("bytes")
        return bool(index >= 0) and _can_hold_pictures(kind.field(index).type)
    return bool(types.is_binary(kind) or types.is_large_binary(kind))


@lru_cache(maxsize=4096)
def _layout(path: Path, changed: int) -> tuple["pa.Schema", Sequence[int]]:
    """The columns of a file, and the number of rows of each group. `changed`: of the file, for the memory."""
    if path.suffix == ".parquet":
        import pyarrow.parquet

        with pyarrow.parquet.ParquetFile(path) as file:
            groups = range(file.metadata.num_row_groups)
            return file.schema_arrow, [file.metadata.row_group(group).num_rows for group in groups]
    batches = _batches(path, changed)
    return batches.schema, [len(batch) for batch in batches.to_batches()]


@lru_cache(maxsize=4)
def _group(path: Path, changed: int, column: str, group: int) -> Any:
    """A column of a group of rows."""
    if path.suffix == ".parquet":
        import pyarrow.parquet

        with pyarrow.parquet.ParquetFile(path) as file:
            return file.read_row_group(group, columns=[column]).column(column)
    return _batches(path, changed).to_batches()[group].column(column)


@lru_cache(maxsize=64)
def _batches(path: Path, changed: int) -> "pa.Table":
    """An Arrow file as it lies in memory that is mapped to it: a stream, as `datasets` writes, or a file."""
    import pyarrow as pa

    mapped = pa.memory_map(str(path))
    try:
        return pa.ipc.open_stream(mapped).read_all()
    except pa.ArrowInvalid:
        return pa.ipc.open_file(mapped).read_all()
