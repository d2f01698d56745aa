"""The data and the figure of `docs/calibration.md`.

`python -m tests.support.calibration_figure` measures the matrix and writes docs/calibration.json and .svg.
"""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.support.calibration import MATRIX, METRICS, numbers, reported, tolerance, without

DOCS = Path(__file__).parents[2] / "docs"


DATA = DOCS / "calibration.json"


FIGURE = DOCS / "calibration.svg"


def measure() -> dict[str, Any]:
    """The matrix as JSON values: the metrics with unit, tolerance and value without defect; the values with each."""
    names = reported()
    return {
        "metrics": {
            name: {
                "unit": METRICS[name].unit,
                "tolerance": _rounded(tolerance(name)),
                "without": _rounded(without()[name]),
            }
            for name in names
        },
        "defects": {
            row.name: {
                "strengths": row.strengths,
                "unit": row.unit,
                "own": row.own,
                "besides": row.reasons,
                "values": {name: [_rounded(numbers(row.defect, s)[name]) for s in row.strengths] for name in names},
            }
            for row in MATRIX
        },
    }


def as_text(data: dict[str, Any]) -> str:
    """The matrix as JSON with a line per metric, and per metric of a defect."""
    innermost = r"\[[^][{}]*\]|\{[^][{}]*\}"
    return re.sub(innermost, lambda found: json.dumps(json.loads(found[0])), json.dumps(data, indent=1)) + "\n"


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")


def draw(data: dict[str, Any], path: Path) -> None:
    """The matrix as an SVG: a row per metric, three columns per defect, changes in tolerances as colours."""
    import matplotlib as mpl
    from matplotlib.colors import ListedColormap
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    # changes in tolerances: white up to 1, then darker by the logarithm up to 100
    metrics = data["metrics"]
    defects = data["defects"]
    changes = np.array([
        [(value - about["without"]) / about["tolerance"] for d in defects.values() for value in d["values"][name]]
        for name, about in metrics.items()
    ])  # fmt: skip
    shown = np.sign(changes) * np.log10(np.abs(changes).clip(1, 100))

    mpl.rcParams["svg.hashsalt"] = "calibration"
    figure = Figure(figsize=(13, 0.19 * len(metrics) + 2.3), layout="constrained")
    axes = figure.subplots()
    blues = mpl.colormaps["Blues_r"](np.linspace(0.1, 0.75, 64))
    reds = mpl.colormaps["Reds"](np.linspace(0.25, 0.9, 64))
    image = axes.imshow(
        shown, cmap=ListedColormap([*blues, *[(1, 1, 1, 1)] * 2, *reds]), vmin=-2, vmax=2, aspect="auto",
        interpolation="nearest",
    )  # fmt: skip

    # frames about its own metrics, dots in those that move besides
    for column, defect in enumerate(defects.values()):
        for row, name in enumerate(metrics):
            if name in defect["own"]:
                corner = (3 * column - 0.5, row - 0.5)
                axes.add_patch(Rectangle(corner, 3, 1, fill=False, edgecolor="black", linewidth=1.1))
            elif name in defect["besides"]:
                axes.plot(3 * column + 1, row, ".", color="black", markersize=3)
    for column in range(1, len(defects)):
        axes.axvline(3 * column - 0.5, color="0.75", linewidth=0.6, zorder=0.5)
    probes = [name.split("/")[0] for name in metrics]
    for row in range(1, len(probes)):
        if probes[row] != probes[row - 1]:
            axes.axhline(row - 0.5, color="0.4", linewidth=0.8)
    axes.set_yticks(range(len(metrics)), metrics, fontsize=7.5)
    axes.set_xticks(
        [3 * column + 1 for column in range(len(defects))],
        ["\n".join((name, ", ".join(f"{s:g}" for s in d["strengths"]), d["unit"])) for name, d in defects.items()],
        fontsize=7,
    )
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    bar = figure.colorbar(image, ax=axes, shrink=0.35, ticks=[-2, -1, 0, 1, 2])
    bar.ax.set_yticklabels(["−100 or less", "−10", "within 1", "+10", "+100 or more"], fontsize=7)
    bar.set_label("change in tolerances", fontsize=7.5)
    figure.savefig(path, metadata={"Date": None})


if __name__ == "__main__":
    torch.set_num_threads(1)
    matrix = measure()
    DATA.write_text(as_text(matrix))
    draw(matrix, FIGURE)
