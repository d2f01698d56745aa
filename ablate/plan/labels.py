"""Names of factors and levels, and colours of treatments, as tables and figures show them."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from ablate.study.factors import Factor

if TYPE_CHECKING:
    from ablate.plan.treatments import Treatment


def short_names(factors: tuple[Factor, ...]) -> dict[str, str]:
    """Path of a factor -> the last word of the path, or the whole path if two factors have the same last word."""
    last = [factor.path.split(".")[-1] for factor in factors]
    return {
        factor.path: name if last.count(name) == 1 else factor.path for factor, name in zip(factors, last, strict=True)
    }


def format_level(level: Any) -> str:
    """A level as text: `0.01`, `1e-06`, `scn`, `16-32-32`, `scn(interp=bilinear)`; `–` for None.

    A number that needs more than six digits is written in full, so different levels never look the same.
    """
    if level is None:
        return "–"
    if isinstance(level, float):
        return text if float(text := f"{level:g}") == level else repr(level)
    if isinstance(level, list | tuple):
        return "-".join(map(format_level, level))
    if isinstance(level, dict):
        name = format_level(level.get("level", level.get("weight")))
        settings = ",".join(
            f"{key}={format_level(value)}" for key, value in level.items() if key not in {"level", "weight"}
        )
        return f"{name}({settings})" if settings else name
    return str(level)


BASELINE_COLOR = "#3b3b3b"


COLORS = (
    "#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9", "#882255", "#999933",
    "#332288", "#44aa99", "#aa4499", "#661100", "#6699cc", "#117733", "#ddcc77", "#cc6677",
)  # fmt: skip
"""Distinct to the colour-blind: Okabe & Ito, jfly.uni-koeln.de/color, 2008; then Tol, SRON/EPS/TN/09-002, "muted"."""


def colors(treatments: "Iterable[Treatment]") -> dict[str, str]:
    """Treatment -> its colour. The baseline is dark grey; colours repeat after 16."""
    others = [treatment.label for treatment in treatments if not treatment.is_baseline]
    return {"baseline": BASELINE_COLOR} | {label: COLORS[i % len(COLORS)] for i, label in enumerate(others)}
