"""Line charts as pictures, whose colours and dashes stay distinct in grey print."""

import io
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from torch import Tensor

from ablate.components.shared.measure import Picture

STYLES = (("#0b5394", "-"), ("#cc4125", "--"), ("#555555", ":"), ("#38761d", "-."))


HEIGHT = 384
WIDTH = 512
DPI = 128


class Line(NamedTuple):
    """`x`, `y` and `spread`, the half-width of a band around `y`, `n` each; no band if `spread` is None."""

    label: str
    x: Tensor
    y: Tensor
    spread: Tensor | None = None


def chart(lines: Sequence[Line], x_label: str, y_label: str, *, log: bool = False) -> Picture:
    """Draw up to four lines with a legend, `384 512 3`, on linear or `log` axes, without values that are not finite."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    figure = Figure(figsize=(WIDTH / DPI, HEIGHT / DPI), layout="constrained")
    axes = figure.add_subplot(xlabel=x_label, ylabel=y_label)
    for (label, x, y, spread), (colour, dashes) in zip(lines, STYLES, strict=False):
        axes.plot(x.numpy(), y.numpy(), dashes, color=colour, label=label, linewidth=1.5)
        if spread is not None:
            axes.fill_between(x.numpy(), (y - spread).numpy(), (y + spread).numpy(), color=colour, alpha=0.2, lw=0)
    if log:
        axes.set(xscale="log", yscale="log")
        for axis in (axes.xaxis, axes.yaxis):  # plain numbers, few enough not to overlap
            axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axis.set_minor_formatter(NullFormatter())
    axes.grid(alpha=0.3)
    figure.legend(loc="outside upper center", fontsize="small", ncols=2)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="rgba", dpi=DPI)
    pixels: Picture = np.frombuffer(buffer.getvalue(), np.uint8).reshape(HEIGHT, WIDTH, 4)[..., :3].copy()
    return pixels
