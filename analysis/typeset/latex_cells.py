"""Cells of a table as LaTeX, a column at a time, so that numbers stand with their points below each other."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from ablate.analysis.typeset.cells import (
    MISSING,
    Cell,
    Check,
    Column,
    Difference,
    Level,
    Phrase,
    Seeds,
    Value,
    Word,
    numeral,
    words,
)
from ablate.analysis.typeset.latex_text import escape, extent, level, sentence
from ablate.plan.labels import show

MARKS = {0: "{}", 1: r"\textbf{{{}}}", 2: r"\underline{{{}}}"}


SIUNITX_MARKS = {0: "{}", 1: r"\bfseries {}", 2: r"\itshape {}"}
"""A line under a number would hide it from siunitx."""


@dataclass(frozen=True)
class Box:
    """A cell in LaTeX: a number and what is set in a finer font after or below it. `extent`s are in digits."""

    top: str = ""
    top_extent: float = 0.0
    fine: str = ""
    fine_extent: float = 0.0
    fine_pad: str = ""
    clear: bool = False


@dataclass(frozen=True)
class Stack:
    """A column of cells, its alignment, and whether siunitx aligns it, so that its text needs braces."""

    column: Column
    boxes: list[Box]
    alignment: str
    siunitx: bool = False

    def head(self, text: str) -> str:
        """What stands above the column."""
        return f"{{{text}}}" if self.siunitx and text else text


def stack(column: Column, cells: Sequence[Cell], *, siunitx: bool) -> Stack:
    """Mark up a column. With `siunitx` its numbers get a column of type S, else phantoms pad them to the widest."""
    plain = [_plain(cell) for cell in cells]
    numbers = [top for cell, (top, _) in zip(cells, plain, strict=True) if isinstance(cell, Value | Difference)]
    widest = max(numbers, key=len, default="")
    longest = max((fine for _, fine in plain), key=len, default="")
    fits = [number for number in numbers if re.fullmatch(r"[−+]?\d+(\.\d+)?", number)]
    siunitx = siunitx and bool(fits)
    boxes = [_box(cell, *text, widest, longest, siunitx) for cell, text in zip(cells, plain, strict=True)]
    if siunitx:
        whole, decimals = (max(len(part) for part in parts) for parts in zip(*map(_parts, fits), strict=True))
        sign = max((number[0] for number in fits if number[0] in "−+"), default="").replace("−", "-")
        return Stack(column, boxes, f"S[table-format={sign}{whole}.{decimals}]", siunitx=True)
    centred = column.kind in {"value", "difference", "check"}
    return Stack(column, boxes, "c" if centred else "l")


def _parts(number: str) -> tuple[str, str]:
    whole, _, decimals = number.lstrip("−+").partition(".")
    return whole, decimals


def _plain(cell: Cell) -> tuple[str, str]:
    """What a cell shows, without markup: its main text and its finer text."""
    match cell:
        case Level(value):
            return show(value), ""
        case Word(text):
            return text, ""
        case Phrase(pieces, remark):
            return words(pieces), f"({words(remark)})" if remark else ""
        case Seeds(n, trouble):
            return str(n), trouble
        case Check(there):
            return "x" if there else "", ""
        case Value(mean, sd, decimals):
            few = f"(n={cell.seeds})" if cell.seeds is not None else ""
            spread = f"±{numeral(sd, decimals)}" if sd == sd else ""
            return numeral(mean, decimals), f"{spread} {few}".strip()
        case Difference(mean, low, high, decimals):
            bounds = ", ".join(numeral(bound, decimals, signed=True) for bound in (low, high))
            return numeral(mean, decimals, signed=True), f"[{bounds}]" if low == low else ""


def _box(cell: Cell, top: str, fine: str, widest: str, longest: str, siunitx: bool) -> Box:
    """Mark up a cell."""
    if isinstance(cell, Level):
        return Box(level(cell.value), extent(top) + 2)
    if isinstance(cell, Phrase):
        remark = f"({sentence(cell.remark)})" if cell.remark else ""
        return Box(sentence(cell.pieces), extent(top), remark, extent(fine))
    if isinstance(cell, Check):
        return Box(r"\ablYes" if cell.there else "", 2)
    if isinstance(cell, Word | Seeds):
        text = escape(top)
        return Box(f"{{{text}}}" if siunitx and text else text, extent(top), escape(fine), extent(fine))
    rank = cell.rank if isinstance(cell, Value) else 0
    pad, number = _phantom(widest[: len(widest) - len(top)]), MARKS[rank].format(_number(top))
    if siunitx and re.fullmatch(r"[−+]?[\d.]+", top):
        pad, number = "", SIUNITX_MARKS[rank].format(top.replace("−", "-"))
    elif siunitx:
        pad, number = "", f"{{{number}}}"
    elif top == MISSING:
        return Box(escape(top), extent(widest))
    return Box(pad + number, extent(widest), _number(fine), extent(fine), _phantom(longest[len(fine) :]), cell.clear)


def _phantom(text: str) -> str:
    return rf"\phantom{{{escape(text)}}}" if text else ""


def _number(text: str) -> str:
    return re.sub(r"e(\d+)", r"$\\times10^{\1}$", escape(text))
