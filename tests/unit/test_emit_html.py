"""HTML tables read back by a parser: their cells, their escapes, and that they need no network."""

import math
from html.parser import HTMLParser

from ablate.analysis.typeset.cells import (
    Cell,
    Column,
    Difference,
    Group,
    Layout,
    Level,
    Phrase,
    Seeds,
    Symbol,
    Value,
    Word,
)
from ablate.analysis.typeset.html import html, page
from ablate.slots.settings import Metric

PSNR = Metric("psnr", "dB", "up")


COLUMNS = (
    Column("level", "level"),
    Column("value", "psnr", PSNR),
    Column("difference", "Δ [95 % CI]", PSNR),
    Column("seeds", "n"),
)


FIRST: tuple[Cell, ...] = (Word("<baseline> & co"), Value(24.5, 0.4, 2, rank=1), Word(""), Seeds(3))


SECOND: tuple[Cell, ...] = (
    Level(0.01),
    Value(23.25, math.nan, 2, rank=2, clear=True, seeds=1),
    Difference(-1.25, -2, -0.5, 2, clear=True),
    Seeds(1, "div. 2/3"),
)


LAYOUT = Layout(
    "tiny", "tiny", "Is 1 < 2?", COLUMNS, (Group((FIRST,)), Group((SECOND,), "kl", Level(1))),
    (("Mean over ", Symbol("n"), " & so on."),), ("a <b>",),
)  # fmt: skip


class Reader(HTMLParser):
    """The text of each row's cells; every tag must be closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag != "meta":
            self.open.append(tag)
        assert not {"src", "href"} & {name for name, _ in attrs}
        if tag == "tr":
            self.rows.append([])
        if tag in {"td", "th"}:
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data


def test_cells_are_those_of_the_layout() -> None:
    assert Reader(html(LAYOUT)).rows == [
        ["level", "psnr (dB) ↑", "Δ [95 % CI]", "n"],
        ["<baseline> & co", "24.50 ± 0.40", "", "3"],
        ["kl (baseline 1)"],
        ["0.01", "23.25* (n=1)", "−1.25 [−2.00, −0.50]*", "1 (div. 2/3)"],
    ]
    assert "<b>24.50</b>" in html(LAYOUT)
    assert "<u>23.25</u>" in html(LAYOUT)
    assert 'data-value="-1.25"' in html(LAYOUT)


def test_a_page_is_whole_and_runs_nothing() -> None:
    text = page([LAYOUT, LAYOUT])
    assert text.startswith("<!DOCTYPE html>")
    found = Reader(text)
    assert len(found.rows) == 8
    assert "script" not in found.tags
    assert "Mean over <i>n</i> &amp; so on." in text
    assert "Warning: a &lt;b&gt;" in text


def test_remarks_are_set_small() -> None:
    row = (Phrase(("+ kl ", Level(0.5)), ("all",)),)
    layout = Layout("x", "x", "?", (Column("level"),), (Group((row,)),), (), ())
    assert "<td>+ kl 0.5 <small>(all)</small></td>" in html(layout)
