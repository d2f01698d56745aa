"""Tables and figures that show themselves in a notebook and are short when printed."""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablate.analysis.figures import panels, save_figure
from ablate.analysis.figures.style import compose, figure_style
from ablate.analysis.study_results import StudyResults
from ablate.analysis.tables.table import Table
from ablate.analysis.typeset import html
from ablate.api.printed import printed
from ablate.errors import UsageError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_ROWS = 40
"""Rows of a table that a notebook or a terminal shows."""

DPI = 160
"""Resolution of a figure in a notebook."""


@dataclass(frozen=True, repr=False)
class ResultTable:
    """The table of a study in every format. A notebook shows its first rows; printed, it is as wide as a terminal."""

    table: Table

    def to_latex(self, columns: int = 1, packages: tuple[str, ...] = ()) -> str:
        """LaTeX tables that need booktabs and `packages` (multirow, siunitx); `columns` of the paper: 1 or 2."""
        return self.table.latex(columns, packages)

    def to_markdown(self) -> str:
        """Pipe tables with aligned columns, and notes."""
        return self.table.markdown()

    def to_html(self) -> str:
        """A self-contained HTML page."""
        return self.table.html()

    def to_csv(self) -> str:
        """One row per treatment at full precision."""
        return self.table.csv()

    def to_dict(self) -> dict[str, Any]:
        """What `ablate table --json` prints."""
        return self.table.json()

    def _repr_html_(self) -> str:
        layout, left_out = self.table.layout.first(MOST_ROWS)
        more = f'<p class="notes">{left_out} more rows: to_html(), to_markdown()</p>' if left_out else ""
        return f"<style>{html.STYLE}</style>\n{html.html(layout)}{more}"

    def __repr__(self) -> str:
        from ablate.analysis.typeset.terminal import terminal

        layout, left_out = self.table.layout.first(MOST_ROWS)
        way_out = "table(metrics=…), to_markdown()"
        text = printed(lambda console: console.print(terminal(layout, console, way_out, notes=False)))
        return f"{text}\n… {left_out} more rows: to_html(), to_markdown()" if left_out else text


@dataclass(frozen=True, repr=False)
class Drawing:
    """A figure of a study. A notebook shows it; `figure` is matplotlib's own."""

    results: StudyResults
    kind: str
    metrics: tuple[str, ...]

    @property
    def figure(self) -> "Figure":
        """The figure as an object of matplotlib, drawn anew."""
        with figure_style():
            return compose(panels(self.results, self.kind, self.metrics))

    def save(self, path: str | Path) -> Path:
        """Write the figure into a file, by its suffix, and give the path. Raises UsageError for another suffix."""
        target = Path(path).expanduser()
        if not target.parent.is_dir():
            raise UsageError(f"there is no folder {target.parent}")
        try:
            save_figure(self.results, self.kind, self.metrics, target)
        except ValueError as error:
            raise UsageError(str(error)) from None
        return target

    def _repr_png_(self) -> bytes:
        data = io.BytesIO()
        with figure_style():
            self.figure.savefig(data, format="png", dpi=DPI)
        return data.getvalue()

    def __repr__(self) -> str:
        of = f" of {', '.join(self.metrics)}" if self.metrics else ""
        return f"figure '{self.kind}'{of}: {self.results.study.name} at scale {self.results.study.scale}"
