"""The record of a finished trial, and the header of a checkpoint."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from ablate.store.checksum import Damaged

KINDS: dict[str, tuple[type, ...]] = {
    "int": (int,), "float": (int, float), "str": (str,), "Literal": (str,), "dict": (dict,),
}  # fmt: skip
"""Type of a record's field -> the types of its JSON value."""


def _is_number(value: Any) -> bool:
    """Whether a value is a number that a float can hold."""
    return isinstance(value, float) or (type(value) is int and value.bit_length() < 1024)


INNER: dict[str, Callable[[Any], bool]] = {
    "metrics": _is_number, "raw": _is_number, "liveness": _is_number,
    "probes": lambda value: isinstance(value, str), "info": lambda value: isinstance(value, dict),
}  # fmt: skip
"""Entry of a record that is a mapping -> what each of its values must be."""


HEADER = "ablate"
"""The key in a checkpoint's metadata under which its settings and step are stored, as JSON."""


KEPT = "kept"
"""The entry in a checkpoint's header that says what it keeps (`ablate.store.shrink`); absent where that is all."""

LONGEST = 100_000_000
"""Bytes of the header of a safetensors file at most (https://github.com/huggingface/safetensors)."""


@dataclass
class Record:
    """The results of one finished trial.

    `metrics`: of the averaged weights; NaN and inf are possible. `raw`: the same metrics of the weights without
    averaging. `info`: unit, direction, decimals and target of each metric. `probes`: probe -> content hash of its
    settings. `protocol`: how they measured, see `ablate.engine.examine`. `liveness`: mean gradient share of each loss
    term in the last stage. `flops`: of encoding and decoding one held-out picture or clip; a multiply-add counts as
    two. `parts`: the number of micro-batches that a batch was split into for lack of memory, in the stage that needed
    most. `data`: the corpus's fingerprint. `role`: what the trial was first run for. `cause`: why it diverged, or ended
    without learning, in one of the phrases of `ablate.engine.causes`; empty if none of them applies.
    """

    signature: str
    seed: int
    status: Literal["done", "diverged"]
    reason: str
    steps: int
    metrics: dict[str, float] = field(default_factory=dict)
    raw: dict[str, float] = field(default_factory=dict)
    info: dict[str, dict[str, Any]] = field(default_factory=dict)
    probes: dict[str, str] = field(default_factory=dict)
    liveness: dict[str, float] = field(default_factory=dict)
    parameters: int = 0
    active_parameters: int = 0
    flops: int = 0
    parts: int = 1
    train_s: float = 0.0
    probe_s: float = 0.0
    data: str = ""
    content: dict[str, str] = field(default_factory=dict)
    code: dict[str, Any] = field(default_factory=dict)
    machine: dict[str, Any] = field(default_factory=dict)
    role: Literal["trial", "tuning"] = "trial"
    cause: str = ""
    protocol: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, value: Any, signature: str) -> "Record":
        """The record of a stage from its JSON value. Raises Damaged if it is not one, or that of another stage."""
        if not isinstance(value, dict):
            raise Damaged("it holds no JSON object")
        kinds = {each.name: KINDS[str(getattr(each.type, "__name__", each.type))] for each in fields(cls)}
        if wrong := [name for name, entry in value.items() if not isinstance(entry, kinds.get(name, ()))]:
            raise Damaged(f"its entry '{wrong[0]}' is not one of a record")
        if wrong := [name for name, inner in INNER.items() if not all(map(inner, value.get(name, {}).values()))]:
            raise Damaged(f"its entry '{wrong[0]}' holds something that is not one of a record")
        components = value.get("code", {}).get("components", {})
        if not isinstance(components, dict) or not all(isinstance(one, str) for one in components.values()):
            raise Damaged("its entry 'code' holds something that is not one of a record")
        if value.get("status") not in {"done", "diverged"} or value.get("role", "trial") not in {"trial", "tuning"}:
            raise Damaged("its status or its role is not one of a record")
        try:
            record = cls(**value)
        except TypeError as error:
            raise Damaged(f"it is no record ({error})") from None
        if record.signature != signature:
            raise Damaged(f"it is the record of {record.signature}")
        return record

    @property
    def wall_s(self) -> float:
        """Seconds of training and probing."""
        return self.train_s + self.probe_s


def read_header(checkpoint: Path) -> dict[str, Any] | None:
    """The header of a checkpoint, read without its weights and without torch; None if there is no such file.

    Whether the file is as it was written is not known from its header: see `checksum.verify_file`.

    A safetensors file begins with the length of its header (8 bytes), then the header as JSON. Raises ValueError for a
    file that ablate did not write.
    """
    try:
        with checkpoint.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            text = json.loads(file.read(min(length, LONGEST)))["__metadata__"][HEADER]
        return parse_header(text)
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, MemoryError, OverflowError, RecursionError):
        raise ValueError(f"{checkpoint} is not a checkpoint of ablate: its header lacks '{HEADER}'") from None


def parse_header(text: Any) -> dict[str, Any]:
    """The header of a checkpoint from its text. Raises ValueError unless it is a JSON object."""
    header = json.loads(text) if isinstance(text, str) else None
    if not isinstance(header, dict):
        raise ValueError("the header is no JSON object")
    return header
