"""Metrics that a command writes while it trains, JSON lines or CSV with a column `step`, as the log of its stage."""

import csv
import json
import time
from pathlib import Path
from typing import Any

from ablate.store.checksum import seal_line
from ablate.store.files import atomic_write
from ablate.store.stage import StageFolder


class MetricsFile:
    """Reads the lines of a metrics file as they are written, and keeps the log of the stage.

    Names without `/` get the prefix `train/`; what is no number is left out. A line that cannot be read does not end
    the stage, whose training it would cost: it is left out too, and `finish` says so.
    """

    def __init__(self, path: Path | None, folder: StageFolder, steps: int):
        self.path = path
        self.folder = folder
        self.steps = steps
        self.lines: list[dict[str, float]] = []
        self.step = 0
        self.bad: list[str] = []
        self.last = ""
        """The checksum of the log's last line; empty if there is none."""
        self._begun = time.monotonic()
        self._read = 0
        self._columns: list[str] | None = None
        self._write([])
        if path:  # of an attempt that was interrupted; a command that goes on writes it anew, or adds to it
            self.read()

    def read(self) -> list[dict[str, float]]:
        """The complete lines that were added since the last time."""
        if self.path is None or not self.path.is_file():
            return []
        if self.path.stat().st_size < self._read:  # the command began anew
            self._read, self._columns, self.lines, self.bad = 0, None, [], []
            self._write([])
        with self.path.open("rb") as file:
            file.seek(self._read)
            content = file.read()
        complete = content[: content.rfind(b"\n") + 1]
        self._read += len(complete)
        rows = complete.decode("utf-8", "replace").splitlines()
        added = [line for row in rows if row.strip() and (line := self._parsed(row))]
        self.lines += added
        if added:
            self.step = min(int(added[-1]["step"]), self.steps)
            with self.folder.steps.open("a", encoding="utf-8") as log:
                log.write(self._sealed(added))
        return added

    def finish(self, seconds: float) -> str:
        """Write the log with all lines and the speed over `seconds`; gives what was wrong with the file, in words."""
        if self.path and self.path.is_file() and not self.path.read_bytes().endswith(b"\n"):
            with self.path.open("ab") as file:
                file.write(b"\n")
        self.read()
        last = max([line["step"] for line in self.lines], default=0)
        if last < self.steps:
            self.lines.append({"step": self.steps})
        rate = max(last, self.steps) / max(seconds, 1e-9)
        self._write([{**line, "train/steps_per_s": rate} for line in sorted(self.lines, key=lambda line: line["step"])])
        if self.path and not self.path.is_file():
            return f"the command did not write {self.path.name}, its metrics"
        if self.bad:
            count = f"{len(self.bad)} line{'s' * (len(self.bad) > 1)} of {self.path and self.path.name}"
            return f"{count} cannot be read, the first is {self.bad[0]:.60}"
        if last > self.steps:
            return f"the command logged {last:g} steps, but the stage says {self.steps}; write steps: {last:g}"
        return ""

    def _parsed(self, row: str) -> dict[str, float] | None:
        """The numbers of a line; None for a line without any, such as the head of a CSV."""
        values: Any
        try:
            if row.lstrip().startswith("{"):
                values = json.loads(row)
            else:
                cells = [cell.strip() for cell in next(csv.reader([row]))]
                if self._columns is None:
                    self._columns = cells
                    return None
                values = {name: _number(cell) for name, cell in zip(self._columns, cells, strict=True)}
            step = int(values["step"])
        except (ValueError, KeyError, TypeError, StopIteration):
            self.bad.append(repr(row))
            return None
        numbers = {
            name if "/" in name else f"train/{name}": float(value)
            for name, value in values.items()
            if name != "step" and isinstance(value, int | float) and not isinstance(value, bool)
        }
        return {"step": step, **numbers}

    def _write(self, lines: list[dict[str, float]]) -> None:
        """Write the log anew."""
        self.last = ""
        with atomic_write(self.folder.steps) as file:
            file.write_text(self._sealed(lines), encoding="utf-8")

    def _sealed(self, lines: list[dict[str, float]]) -> str:
        """Lines that follow the last one of the log, as text."""
        texts = []
        for line in lines:
            text, self.last = seal_line(line, self.last)
            texts.append(text)
        return "".join(texts)


def _number(cell: str) -> float | str:
    try:
        return float(cell)
    except ValueError:
        return cell
