"""Checkpoints of ended stages, reduced to what is read later. Neither torch nor the memory for the tensors is needed.

A full checkpoint holds the weights, their average, the optimiser's two moments of each, and the discriminator with its
own moments: 16 bytes a parameter, with a discriminator more. Only a stage that goes on from it needs all of that.
"""

import json
import shutil
from pathlib import Path
from typing import Any, Literal, get_args

from ablate.store.checksum import EMPTY_MARK, MARK, seal_file
from ablate.store.files import atomic_write, is_remote, is_sound
from ablate.store.record import HEADER, KEPT

Keep = Literal["weights", "all", "ema", "none"]
"""What the checkpoint of a finished trial keeps: the weights and their average, all, the average alone, or nothing."""


KEEPS = get_args(Keep)


def needed_by(keep: Keep, names: list[str]) -> list[str]:
    """Those of a checkpoint's tensors that are kept. With `ema` also weights that have no average: buffers."""
    if keep == "all":
        return names
    kept = [name for name in names if name.startswith(("model.", "ema.", "balance."))]
    if keep == "weights":
        return kept
    averaged = {name.removeprefix("ema.") for name in names if name.startswith("ema.")}
    return [name for name in kept if not name.startswith("model.") or name.removeprefix("model.") not in averaged]


def shrink(path: Path, keep: Keep, *, dry: bool = False) -> int:
    """Reduce a checkpoint to what is kept, or delete it; gives the bytes freed. `dry`: change nothing.

    A file that is damaged, that is not there, or that keeps no more already is left as it is.
    """
    if keep == "all" or is_remote(path) or not path.exists():
        return 0
    size = path.stat().st_size
    if keep == "none":
        if not dry:
            path.unlink(missing_ok=True)
        return size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        try:
            header: dict[str, Any] = json.loads(file.read(length))
            metadata = header.pop("__metadata__")
            about = json.loads(metadata[HEADER])
        except (ValueError, KeyError, MemoryError, OverflowError):
            return 0
    names = sorted(header, key=lambda name: header[name]["data_offsets"][0])
    kept = needed_by(keep, names)
    freed: int = sum(
        header[name]["data_offsets"][1] - header[name]["data_offsets"][0] for name in set(names) - set(kept)
    )
    if not freed or dry:
        return freed
    if not is_sound(path):
        return 0

    # The new header, then the tensors that are kept, one after the other
    metadata[HEADER] = json.dumps({**about, KEPT: keep})
    metadata = {key: EMPTY_MARK if value.startswith(MARK.decode()) else value for key, value in metadata.items()}
    entries: dict[str, Any] = {"__metadata__": metadata}
    place = 0
    for name in kept:
        begin, end = header[name]["data_offsets"]
        entries[name] = {**header[name], "data_offsets": [place, place + end - begin]}
        place += end - begin
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # tensors begin at a multiple of 8 bytes
    with atomic_write(path) as temporary:
        with path.open("rb") as source, temporary.open("wb") as target:
            target.write(len(text).to_bytes(8, "little") + text)
            for name in kept:
                begin, end = header[name]["data_offsets"]
                source.seek(8 + length + begin)
                _copy(source, target, end - begin)
        if any(value == EMPTY_MARK for value in metadata.values()):
            seal_file(temporary)
        shutil.copymode(path, temporary)
    return size - path.stat().st_size


def _copy(source: Any, target: Any, count: int) -> None:
    """Copy `count` bytes from one open file to another."""
    while count:
        chunk = source.read(min(count, 1 << 24))
        if not chunk:
            raise OSError("the checkpoint ended before its last tensor")
        target.write(chunk)
        count -= len(chunk)
