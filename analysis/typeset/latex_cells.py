"""Cells of a table as LaTeX, a column at a time, so that the decimal points of its numbers are aligned."""

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

RANK_MARKUP = {0: "{}", 1: r"\textbf{{{}}}", 2: r"\underline{{{}}}"}

SIUNITX_RANK_MARKUP = {0: "{}", 1: r"\bfseries {}", 2: r"\itshape {}"}
"""siunitx would not recognise an underlined number."""


@dataclass(frozen=True)
class Box:
    """A cell in LaTeX: its main text `top`, and `fine` text in a smaller font after or below it.

    `top_extent` and `fine_extent` are widths in digits. `fine_pad`: a phantom that pads the fine text to the widest of
    the column. `clear`: whether the cell gets a star.
    """

    top: str = ""
    top_extent: float = 0.0
    fine: str = ""
    fine_extent: float = 0.0
    fine_pad: str = ""
    clear: bool = False


@dataclass(frozen=True)
class Stack:
    """A column of cells and its alignment. `siunitx`: the column is aligned by siunitx, so text in it needs braces."""

    column: Column
    boxes: list[Box]
    alignment: str
    siunitx: bool = False

    def head(self, text: str) -> str:
        """A text of the column's head."""
        return f"{{{text}}}" if self.siunitx and text else text


def stack(column: Column, cells: Sequence[Cell], *, siunitx: bool) -> Stack:
    """Mark up a column. `siunitx`: numbers are in a column of type S; otherwise phantoms pad them to the widest."""
    # The widest number and the widest fine text.
    plain = [_plain(cell) for cell in cells]
    numbers = [top for cell, (top, _) in zip(cells, plain, strict=True) if isinstance(cell, Value | Difference)]
    widest = max(numbers, key=len, default="")
    longest = max((fine for _, fine in plain), key=len, default="")

    # siunitx is used only if the column has plain numbers, without powers of ten.
    plain_numbers = [number for number in numbers if re.fullmatch(r"[−+]?\d+(\.\d+)?", number)]
    siunitx = siunitx and bool(plain_numbers)
    boxes = [_box(cell, *text, widest, longest, siunitx) for cell, text in zip(cells, plain, strict=True)]
    if siunitx:
        whole, decimals = (max(len(part) for part in parts) for parts in zip(*map(_parts, plain_numbers), strict=True))
        sign = max((number[0] for number in plain_numbers if number[0] in "−+"), default="").replace("−", "-")
        return Stack(column, boxes, f"S[table-format={sign}{whole}.{decimals}]", siunitx=True)
    centred = column.kind in {"value", "difference", "check"}
    return Stack(column, boxes, "c" if centred else "l")


def _parts(number: str) -> tuple[str, str]:
    """The digits before and after the decimal point."""
    whole, _, decimals = number.lstrip("−+").partition(".")
    return whole, decimals


def _plain(cell: Cell) -> tuple[str, str]:
    """The main text and the fine text of a cell, without markup."""
    match cell:
        case Level():
            return cell.text, ""
        case Word(text):
            return text, ""
        case Phrase(pieces, remark):
            return words(pieces), f"({words(remark)})" if remark else ""
        case Seeds(n, trouble):
            return str(n), trouble
        case Check(there):
            return "x" if there else "", ""
        case Value(mean, sd, decimals):
            count = f"(n={cell.seeds})" if cell.seeds is not None else ""
            spread = f"±{numeral(sd, decimals)}" if sd == sd else ""
            return numeral(mean, decimals), f"{spread} {count}".strip()
        case Difference(mean, low, high, decimals):
            bounds = ", ".join(numeral(bound, decimals, signed=True) for bound in (low, high))
            return numeral(mean, decimals, signed=True), f"[{bounds}]" if low == low else ""


def _box(cell: Cell, top: str, fine: str, widest: str, longest: str, siunitx: bool) -> Box:
    """Mark up a cell. `top`, `fine`: its plain texts; `widest`, `longest`: the widest of these in its column."""
    # Text.
    if isinstance(cell, Level):
        return Box(level(cell), extent(top) + 2)
    if isinstance(cell, Phrase):
        remark = f"({sentence(cell.remark)})" if cell.remark else ""
        return Box(sentence(cell.pieces), extent(top), remark, extent(fine))
    if isinstance(cell, Check):
        return Box(r"\ablYes" if cell.there else "", 2)
    if isinstance(cell, Word | Seeds):
        text = escape(top)
        return Box(f"{{{text}}}" if siunitx and text else text, extent(top), escape(fine), extent(fine))

    # Numbers.
    rank = cell.rank if isinstance(cell, Value) else 0
    number = RANK_MARKUP[rank].format(_number(top))
    if siunitx and re.fullmatch(r"[−+]?[\d.]+", top):
        number = SIUNITX_RANK_MARKUP[rank].format(top.replace("−", "-"))
    elif siunitx:
        number = f"{{{number}}}"
    elif top == MISSING:
        return Box(escape(top), extent(widest))
    else:
        number = _phantom(widest[: len(widest) - len(top)]) + number
    return Box(number, extent(widest), _number(fine), extent(fine), _phantom(longest[len(fine) :]), cell.clear)


def _phantom(text: str) -> str:
    return rf"\phantom{{{escape(text)}}}" if text else ""


def _number(text: str) -> str:
    """A numeral as LaTeX, with powers of ten."""
    return re.sub(r"e(\d+)", r"$\\times10^{\1}$", escape(text))
