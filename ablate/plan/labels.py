"""Names of factors and levels, and colours of treatments, as tables and figures show them."""

from typing import Any

from ablate.recipe.paths import words_of
from ablate.study.factors import Factor


def short_names(factors: tuple[Factor, ...]) -> dict[str, str]:
    """Path of a factor -> the last word of the path, or the whole path if two factors have the same last word."""
    last = [words_of(factor.path)[-1] for factor in factors]
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
