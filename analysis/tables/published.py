"""Tables that are no study's, in all output formats; a paper's table as published."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from ablate.analysis.papers import Paper, Published
from ablate.analysis.typeset import html, latex, markdown
from ablate.analysis.typeset.cells import MISSING, Cell, Column, Group, Layout, Level, Sentence, Word
from ablate.analysis.typeset.spreadsheet import write_csv


@dataclass(frozen=True)
class ListedTable:
    """A table of records. `latex`, `markdown` and `html` show the layouts; `csv` and `json` hold the records.

    All records have the same keys. `about`: what the JSON says before the records.
    """

    about: Mapping[str, Any]
    layouts: tuple[Layout, ...]
    records: tuple[Mapping[str, Any], ...]

    def latex(self, paper_columns: int = 1, packages: Collection[str] = ()) -> str:
        """A LaTeX table for each layout. They need booktabs and `packages`, no other package."""
        return "\n".join(latex.latex(layout, paper_columns, packages) for layout in self.layouts)

    def markdown(self) -> str:
        """Pipe tables with aligned columns, and notes."""
        return "\n".join(map(markdown.markdown, self.layouts))

    def html(self) -> str:
        """A self-contained HTML page with the tables."""
        return html.page(self.layouts)

    def csv(self) -> str:
        """A line per record; missing values are empty."""
        names = list(self.records[0])
        return write_csv([names, *([record.get(name, "") for name in names] for record in self.records)])

    def json(self) -> dict[str, Any]:
        """What `--json` prints. Missing values are None."""
        return {**self.about, "rows": [dict(record) for record in self.records]}


def of_paper(
    paper: Paper, number: str, layouts: tuple[Layout, ...], records: tuple[Mapping[str, Any], ...]
) -> ListedTable:
    """A table of a paper."""
    return ListedTable({"paper": paper.name, "reference": paper.reference, "table": number}, layouts, records)


def parts_of(paper: Paper, number: str) -> dict[str, Published]:
    """The parts of a paper's table with this number; most have one. Raises ValueError if there is none."""
    parts = {key: table for key, table in paper.tables.items() if number in {key, key.split()[0]}}
    if not parts:
        numbers = ", ".join(dict.fromkeys(key.split()[0] for key in paper.tables))
        raise ValueError(f"{paper.name} has no table '{number}' here (valid: {numbers})")
    return parts


def as_published(paper: Paper, number: str) -> ListedTable:
    """A paper's table without any measurement of ours. Raises ValueError if there is none with this number."""
    parts = parts_of(paper, number)
    layouts = tuple(_layout(paper, key, table) for key, table in parts.items())
    records = tuple(
        {"part": key, "row": row, "column": column, "value": value}
        for key, table in parts.items()
        for row, values in table.rows.items()
        for column, value in zip(table.columns, values, strict=True)
    )
    return of_paper(paper, number, layouts, records)


def provenance(paper: Paper, table: Published) -> Sentence:
    """A note: what a table shows, where its published values come from, and the table's own note."""
    return (f"{table.title}. Published: {paper.reference}, {table.source}. {table.note}".rstrip(),)


def label(paper: Paper, key: str) -> str:
    """The LaTeX label of a table: `vivat-1-psnr`."""
    return f"{paper.name}-{key}".lower().replace(" ", "-")


def _layout(paper: Paper, key: str, table: Published) -> Layout:
    columns = (Column("text"), *(Column("level", name) for name in table.columns))
    rows = tuple((Word(row), *map(_cell, values)) for row, values in table.rows.items())
    notes = (provenance(paper, table),)
    return Layout(label(paper, key), paper.name, table.source, columns, (Group(rows),), notes, ())


def _cell(value: float | str | None) -> Cell:
    return Word(MISSING) if value is None else Word(value) if isinstance(value, str) else Level(value)
