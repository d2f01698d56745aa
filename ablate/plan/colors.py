"""The colour of each treatment, the same in figures, the report and MLflow."""

from collections.abc import Iterable

from ablate.plan.treatments import Treatment

BASELINE_COLOR = "#3b3b3b"


COLORS = (
    "#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9", "#882255", "#999933",
    "#332288", "#44aa99", "#aa4499", "#661100", "#6699cc", "#117733", "#ddcc77", "#cc6677",
)  # fmt: skip
"""Distinct to the colour-blind: Okabe & Ito, jfly.uni-koeln.de/color, 2008; then Tol, SRON/EPS/TN/09-002, "muted"."""


def colors(treatments: Iterable[Treatment]) -> dict[str, str]:
    """Treatment -> its colour. The baseline is dark grey; colours repeat after 16."""
    others = [treatment.label for treatment in treatments if not treatment.is_baseline]
    return {"baseline": BASELINE_COLOR} | {label: COLORS[i % len(COLORS)] for i, label in enumerate(others)}
