"""Checksums of the store's files: the 128 bits of XXH3 (xxhash.com), which takes 0.1 ms a megabyte.

A JSON file has its format version as its first entry and the checksum of all bytes before it as its last. The checksum
is keyed by the names of the file and its folder, so that the file of another trial does not pass. Either entry without
the other is damage: no flipped bit turns a file with a checksum into one without. A binary file (safetensors, Parquet)
has the checksum in its metadata, in place of zeros of the same length, and its format version beside it. A line of a
log has the checksum of itself and of the line before.

Files without any of this are from a store that is older than checksums: they are read, and count as unverified.
"""

import json
import mmap
from pathlib import Path
from typing import Any

FORMAT = 1
"""The version of these formats. A file with a higher one is from a later version of ablate."""


FIRST = "_format"


LAST = "_checksum"


VALUE = "_value"
"""The entry that holds a JSON value which is not an object."""


MARK = b"ablate-xxh3-128:"
"""Stands before the checksum in a binary file."""


DIGITS = 32
"""Hexadecimal digits of a checksum."""


EMPTY_MARK = MARK.decode() + "0" * DIGITS
"""What a binary file holds until `seal_file` writes its checksum."""


class Damaged(ValueError):
    """A file is not as it was written. The text says how that is known."""


class TooNew(ValueError):
    """A file was written by a later version of ablate."""


def key_of(path: Path) -> str:
    """What the checksum of a JSON file is keyed by: its place among the studies, or its folder's and its own name."""
    parts = path.parts
    if "studies" in parts[-5:]:
        return "/".join(parts[len(parts) - parts[::-1].index("studies") :])
    return "/".join(parts[-2:])


def seal_json(value: Any, key: str) -> str:
    """A JSON value as text with format version and checksum."""
    entries = value if isinstance(value, dict) else {VALUE: value}
    entries = {name: entry for name, entry in entries.items() if name not in {FIRST, LAST}}
    text = json.dumps({FIRST: FORMAT, **entries}, indent=1).removesuffix("\n}") + f',\n "{LAST}": "'
    return f'{text}{_digest(key, text.encode())}"\n}}'


def open_json(content: bytes, key: str) -> tuple[Any, bool]:
    """The value of `seal_json`, and whether it has a checksum. Raises Damaged and TooNew."""
    start = f',\n "{LAST}": "'.encode()
    text, sealed, end = content.rpartition(start)
    if sealed and end.decode(errors="replace") != f'{_digest(key, text + start)}"\n}}':
        raise Damaged(_why(content) or "the content does not match its checksum")
    try:
        value = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise Damaged(_why(content) or f"it is no JSON ({error})") from None
    if not isinstance(value, dict):
        return value, False
    version = value.pop(FIRST, None)
    if isinstance(version, int) and version > FORMAT:
        raise TooNew(f"it has format {version}, and this version of ablate reads up to {FORMAT}: update ablate")
    if bool(sealed) != (version == FORMAT) or (value.pop(LAST, None) is not None) != bool(sealed):
        raise Damaged("its format version or its checksum is missing")
    return value.get(VALUE, value), bool(sealed)


def seal_line(entries: dict[str, Any], before: str) -> tuple[str, str]:
    """A line of a log with its checksum, and that checksum; `before`: of the line before, empty for the first."""
    text = json.dumps(entries)
    checksum = _digest(before, text.encode())[:16]
    return f'{text[:-1]}, "{LAST}": "{checksum}"}}\n', checksum


def open_line(line: str, before: str) -> tuple[dict[str, Any], str]:
    """A line of a log and its checksum, which is empty for a line without. Raises Damaged."""
    text, sealed, end = line.rpartition(f', "{LAST}": "')
    if (sealed or before) and end != f'{_digest(before, f"{text}}}".encode())[:16]}"}}':
        raise Damaged("a line does not match its checksum")
    try:
        entries = json.loads(line)
    except (ValueError, RecursionError):
        raise Damaged("a line is no JSON") from None
    if not isinstance(entries, dict):
        raise Damaged("a line is no JSON object")
    return entries, str(entries.pop(LAST, ""))


def seal_file(path: Path) -> None:
    """Write the checksum of a file that holds `EMPTY_MARK` into it."""
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as content:
        place = content.find(EMPTY_MARK.encode()) + len(MARK)
        content[place : place + DIGITS] = _digest_of(content, place).encode()


def verify_file(path: Path) -> str:
    """The checksum of a binary file, after its content was compared with it; empty for one without. Raises Damaged."""
    with path.open("rb") as file:
        try:
            content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except ValueError:
            raise Damaged("it is empty") from None
        with content:
            found = content.rfind(MARK) if path.suffix == ".parquet" else content.find(MARK, 0, _header_end(content))
            if found < 0:
                return ""
            place = found + len(MARK)
            expected = content[place : place + DIGITS].decode(errors="replace")
            if _digest_of(content, place) != expected:
                raise Damaged("the content does not match its checksum")
            return expected


def _header_end(content: mmap.mmap) -> int:
    """Where the header of a safetensors file ends: it begins with the header's length in 8 bytes."""
    return min(len(content), 8 + int.from_bytes(content[:8], "little"))


def _digest_of(content: mmap.mmap, place: int) -> str:
    """The checksum of a file whose checksum at `place` counts as zeros."""
    import xxhash

    digest = xxhash.xxh3_128()
    with memoryview(content) as view:
        digest.update(view[:place])
        digest.update(b"0" * DIGITS)
        digest.update(view[place + DIGITS :])
    return digest.hexdigest()


def _digest(key: str, content: bytes) -> str:
    import xxhash

    return xxhash.xxh3_128_hexdigest(key.encode() + b"\0" + content)


def _why(content: bytes) -> str:
    """How a file is damaged, where that is plain to see."""
    if not content:
        return "it is empty"
    if not content.strip(b"\0"):
        return "it holds nothing but zeros"
    return "" if content.rstrip().endswith((b"}", b"]")) else "it is cut short"
