"""The step log of a stage: one JSON line for each logged step, each with a checksum that covers the line before."""

from pathlib import Path
from typing import Any

from ablate.store import checksum, damage


def read_lines(path: Path, last: str | None = None) -> list[dict[str, Any]] | None:
    """The lines of a log up to the one with checksum `last`; None if they are not all there, as they were written.

    `last` is empty for no lines. If it is None, as in stores without checksums, the lines that are sound: a damaged
    line is reported and left out, a last line that a kill cut short is left out.
    """
    if last == "":
        return []
    text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    lines: list[dict[str, Any]] = []
    before = ""
    for line in text.split("\n")[:-1]:
        if not line:
            continue
        try:
            entries, before = checksum.open_line(line, before)
        except checksum.Damaged as error:
            damage.report(path, error)
            if last is not None:
                return None
            before = line[-18:-2] if checksum.LAST in line else ""
            continue
        lines.append(entries)
        if before == last:
            return lines
    if last is not None:
        damage.report(path, "lines are missing")
        return None
    return lines
