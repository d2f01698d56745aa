"""The page of `ablate compare`: its tables, and the pictures under a divider."""

from pathlib import Path

import numpy as np

from ablate.analysis.report.pictures import Sheet, squared, uri
from ablate.analysis.report.template import render
from ablate.analysis.tables.compared import Results
from ablate.analysis.tables.published import ListedTable
from ablate.analysis.typeset import html
from ablate.slots.data import Pixels
from ablate.store.files import atomic_write


def write_page(table: ListedTable, results: Results, path: Path) -> None:
    """Write the page. The pictures are those of the first size."""
    by_name = next(iter(results.values()))
    first = next(iter(by_name.values()))
    shown = [Sheet("original", "", uri(_laid_out(first.originals)))]
    shown += [Sheet(name, one.model, uri(_laid_out(one.shown))) for name, one in by_name.items()]
    text = render(
        "compared.html.j2", shown,
        title=f"{', '.join(by_name)} on {table.about['images']}",
        tables=[(html.table(layout), html.notes(layout)) for layout in table.layouts],
    )  # fmt: skip
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _laid_out(pictures: Pixels) -> Pixels:
    """Pictures `n 3 s s` in rows: `h w 3`."""
    return squared(np.concatenate(list(pictures.transpose(0, 2, 3, 1))))
