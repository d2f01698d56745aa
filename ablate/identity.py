"""Identity by content: signatures and derived seeds, both sha256 over canonical JSON.

A signature covers resolved settings, defaults included, so it changes if a default is edited. The seed of a random draw
is derived from the trial's seed and the purpose of the draw. So treatments with the same seed draw the same batches,
and a resumed run draws what an uninterrupted one would have drawn.
"""

import hashlib
import json
from typing import Any

SIGNATURE_LENGTH = 16
"""Hex digits of a signature: 64 bits, so the probability of a collision among a million stages is about 3e-8."""


class Canonical(str):
    """Text that is canonical JSON already. `canonical` leaves it as it is, alone or as an item of a list."""

    __slots__ = ()


_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode


def canonical(value: Any) -> str:
    """JSON with sorted keys and no spaces. Raises TypeError for a value that JSON cannot represent."""
    if isinstance(value, Canonical):
        return value
    if value is None or type(value) is int:  # as `_encode` would, ten times faster
        return "null" if value is None else str(value)
    if isinstance(value, list):
        return "[" + ",".join(map(canonical, value)) + "]"
    return _encode(value)


def signature(value: Any) -> str:
    """Content hash of a JSON value."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()[:SIGNATURE_LENGTH]


def derive(seed: int, *purpose: str | int) -> int:
    """A 63-bit seed for one purpose, for instance `derive(0, "train", 17, "batch")`."""
    digest = hashlib.sha256(canonical([seed, *purpose]).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
