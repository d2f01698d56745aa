"""The table model: typed cells in rows, rows in groups. `markdown`, `latex` and `html` decide how they look."""

import math
from dataclasses import dataclass, replace
from typing import Any, Literal

from ablate.plan.labels import format_level
from ablate.slots.settings import Metric
from ablate.study.titles import title_of

MISSING = "–"

HUGE = 1e5
"""Numbers of at least this size are written with a power of ten."""


@dataclass(frozen=True)
class Level:
    """A level of a factor. `title`: the name to show it under, if it has one besides its value."""

    value: Any
    title: str = ""

    @property
    def text(self) -> str:
        """The level as text."""
        return self.title or format_level(self.value)


@dataclass(frozen=True)
class Word:
    """Plain text."""

    text: str


@dataclass(frozen=True)
class Value:
    """Mean ± sd over seeds.

    `rank`: 1 for the best of its column, 2 for the second best, else 0. `clear`: whether it clearly differs from its
    reference. `seeds`: the number of seeds, if it is not that of the row.
    """

    mean: float
    sd: float
    decimals: int
    rank: int = 0
    clear: bool = False
    seeds: int | None = None


@dataclass(frozen=True)
class Difference:
    """Mean change from a reference with its interval. `clear`: whether the verdict is that there is a difference."""

    mean: float
    low: float
    high: float
    decimals: int
    clear: bool = False


def enough_decimals(low: float, high: float, decimals: int) -> int:
    """The digits of an interval: up to two more than given where it excludes 0 and a bound would be printed as 0."""
    nearest = min(abs(low), abs(high)) if low * high > 0 else 0
    return next((digits for digits in range(decimals, decimals + 3) if round(nearest, digits)), decimals)


@dataclass(frozen=True)
class Seeds:
    """The number of seeds with results, and the status of the others: `div. 1/3`."""

    n: int
    trouble: str = ""


@dataclass(frozen=True)
class Symbol:
    """A variable in a sentence."""

    name: str


Sentence = tuple[str | Level | Symbol, ...]


@dataclass(frozen=True)
class Phrase:
    """Words and levels, with a remark in brackets."""

    pieces: Sentence
    remark: Sentence = ()


@dataclass(frozen=True)
class Check:
    """Whether a treatment has a component."""

    there: bool


Cell = Level | Word | Phrase | Value | Difference | Seeds | Check


@dataclass(frozen=True)
class Column:
    """A column. `metric`: the metric of its numbers. `level`: the level of factor `name` that a check mark means."""

    kind: Literal["level", "text", "value", "difference", "verdict", "seeds", "check"]
    name: str = ""
    metric: Metric | None = None
    level: Level | None = None


@dataclass(frozen=True)
class Heading:
    """What the rows of a group are about: a sentence, where it stands, and what speaks against it."""

    text: str
    source: str
    caveat: str


@dataclass(frozen=True)
class Group:
    """Rows that belong together.

    `name`: a design, the only factor that varies, or a claim's id; `baseline`: the factor's baseline level.
    """

    rows: tuple[tuple[Cell, ...], ...]
    name: str = ""
    baseline: Level | None = None
    heading: Heading | None = None


@dataclass(frozen=True)
class Layout:
    """A table ready to be typeset. `label`: its LaTeX label, without `tab:`.

    `caption` replaces the question and, in LaTeX, the notes, which then become comments. `ranked`: bold is the best and
    underlined the second best; otherwise the notes say what bold means.
    """

    label: str
    name: str
    question: str
    columns: tuple[Column, ...]
    groups: tuple[Group, ...]
    notes: tuple[Sentence, ...]
    warnings: tuple[str, ...]
    caption: str = ""
    ranked: bool = True
    asides: tuple[Sentence, ...] = ()
    """Further notes; comments in LaTeX."""

    @property
    def title(self) -> str:
        """The text above the table."""
        return self.caption or f"{self.name}: {self.question}"

    @property
    def marked(self) -> bool:
        """Whether any cell is marked as the best or the second best."""
        cells = [cell for group in self.groups for row in group.rows for cell in row]
        return self.ranked and any(isinstance(cell, Value) and cell.rank for cell in cells)

    def first(self, most: int) -> tuple["Layout", int]:
        """The layout with at most `most` rows, and how many it then lacks."""
        groups = []
        left = most
        for group in self.groups:
            if left > 0:
                groups.append(replace(group, rows=group.rows[:left]))
            left -= len(group.rows)
        return replace(self, groups=tuple(groups)), max(0, -left)


def words(sentence: Sentence) -> str:
    """A sentence as plain text."""
    shown = (piece.text if isinstance(piece, Level) else piece for piece in sentence)
    return "".join(piece.name if isinstance(piece, Symbol) else piece for piece in shown)


def numeral(value: float, decimals: int, *, signed: bool = False) -> str:
    """A number as readers see it: `24.31`, `−0.20`, `+1.00`, `2.5e7`, `∞`, and `–` for NaN."""
    if math.isnan(value):
        return MISSING
    if math.isinf(value):
        text = "∞"
    elif abs(value) < HUGE:
        text = f"{abs(value):.{decimals}f}"
    else:
        mantissa, exponent = f"{abs(value):.1e}".split("e")
        text = f"{mantissa}e{int(exponent)}"
    if not text.strip("0."):
        return text
    return ("−" if value < 0 else "+" if signed else "") + text


def amount(metric: Metric, value: float, *, signed: bool = False) -> str:
    """A number with the metric's decimals and unit: `0.41 dB`."""
    return f"{numeral(value, metric.decimals, signed=signed)} {unit(metric)}".rstrip()


def compared(metric: Metric) -> str:
    """What differences of a metric are about: `PSNR`, or `distance of Border error, 4 px to 0` if it has a target."""
    title = title_of(metric)
    return f"distance of {title} to {metric.target:g}" if metric.direction == "target" else title


def arrow(metric: Metric) -> str:
    """The direction that is better: `↑`, `↓`, `→0` for a target, or nothing."""
    return {"up": "↑", "down": "↓", "target": f"→{metric.target:g}", "none": ""}[metric.direction]


def unit(metric: Metric) -> str:
    """The unit; empty for pure numbers."""
    return "" if metric.unit == "1" else metric.unit
