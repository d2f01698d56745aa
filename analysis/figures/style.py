"""The style of figures: as wide as a column, text of 8 pt, lines that differ in black-and-white print too."""

import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMN = 3.25
"""Width of a column of a two-column paper, inches."""

INK = "#222222"
FAINT = "#9a9a9a"


RC_PARAMS: dict[str, Any] = {
    "font.size": 8, "axes.labelsize": 8, "axes.titlesize": 8, "xtick.labelsize": 7, "ytick.labelsize": 7,
    "legend.fontsize": 7, "axes.titleweight": "bold", "axes.titlelocation": "left", "axes.linewidth": 0.6,
    "font.family": "sans-serif", "font.sans-serif": ["Helvetica", "Arial", "Liberation Sans", "DejaVu Sans"],
    "axes.spines.top": False, "axes.spines.right": False, "axes.edgecolor": INK, "axes.labelcolor": INK,
    "text.color": INK, "xtick.color": INK, "ytick.color": INK, "lines.linewidth": 1.2, "lines.markersize": 3.5,
    "axes.grid": True, "grid.alpha": 0.3, "grid.linewidth": 0.5, "legend.frameon": False, "legend.handlelength": 2.4,
    "pdf.fonttype": 42,         # conferences refuse Type 3
    "svg.fonttype": "none",     # text stays text
    "svg.hashsalt": "ablate",   # the same figure is the same file
    "text.parse_math": False,   # a dollar sign in a name is one
}  # fmt: skip


LINES = (
    "-",
    (0, (5, 2)),
    (0, (1, 1)),
    (0, (5, 1, 1, 1)),
    (0, (3, 1, 1, 1, 1, 1)),
    (0, (8, 2)),
    (0, (1, 2)),
    (0, (4, 4)),
)


MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")

LINES_PER_PANEL = len(LINES)
"""Most lines in a panel, not counting the baseline's."""

TWO_COLUMN_CHARACTERS = 36
"""Characters of two names together that fit beside each other in a legend as wide as a column."""

LEGEND_WRAP = 52
"""Characters of a single name that fit into a legend as wide as a column."""


@dataclass(frozen=True)
class Panel:
    """One pair of axes: its title, its height in inches, and the function that draws into it."""

    title: str
    height: float
    draw: Callable[["Axes"], None]


def compose(panels: Sequence[Panel], width: float = COLUMN) -> "Figure":
    """Panels below each other, `width` inches wide. Call it, and save the figure, within `figure_style`."""
    from matplotlib.figure import Figure

    heights = [panel.height for panel in panels]
    figure = Figure(figsize=(width, sum(heights)), layout="constrained")
    rows = figure.subplots(len(panels), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axes, panel in zip(rows, panels, strict=True):
        axes.set_title(panel.title)
        panel.draw(axes)
    return figure


@contextmanager
def figure_style() -> Iterator[None]:
    """A context in which figures are drawn and saved in our style, whatever the user's settings are."""
    import logging

    from matplotlib import rc_context, rcdefaults, rcParams

    logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)  # no warnings about fonts not installed
    with rc_context():
        rcdefaults()
        for key, value in RC_PARAMS.items():
            rcParams[key] = value  # type: ignore[index]
        yield


def fold(label: str, width: int) -> list[str]:
    """The lines of a treatment's name; a long one may break before the settings of a level."""
    spaced = label.replace("(", " (").replace("+ ", "+\u00a0")
    return textwrap.wrap(spaced, width) if len(label) > width else [label]


def legend_columns(names: Sequence[str]) -> int:
    """The number of columns of a legend: two if the longest names of both fit beside each other, else one."""
    half = (len(names) + 1) // 2
    longest = [max(map(len, part), default=0) for part in (names[:half], names[half:])]
    return 2 if sum(longest) <= TWO_COLUMN_CHARACTERS else 1


def legend(axes: "Axes", columns: int) -> None:
    """Draw the legend below the axes and their label, where it covers no line."""
    from matplotlib.transforms import ScaledTranslation

    figure = axes.get_figure(root=True)
    assert figure is not None
    below = axes.transAxes + ScaledTranslation(0, -0.42, figure.dpi_scale_trans)
    anchor = {"bbox_to_anchor": (0.5, 0), "bbox_transform": below, "borderaxespad": 0}
    axes.legend(loc="upper center", ncols=columns, columnspacing=1.2, **anchor)


def log_scale(axes: "Axes") -> None:
    """Make the y axis logarithmic with plain numbers; with ticks at 1, 2 and 5 if it spans less than two decades."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.set_yscale("log")
    low, high = axes.get_ylim()
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 100 * low else (1,), numticks=7))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
