"""Names of factors and levels, and colours of treatments, as tables and figures show them."""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from ablate.recipe.paths import full_path, words_of
from ablate.study.factors import Factor
from ablate.study.study import Study
from ablate.study.titles import titles_of_levels


def short_names(factors: tuple[Factor, ...]) -> dict[str, str]:
    """Path of a factor -> the last word of the path, or the whole path if two factors have the same last word."""
    last = [words_of(factor.path)[-1] for factor in factors]
    return {
        factor.path: name if last.count(name) == 1 else factor.path for factor, name in zip(factors, last, strict=True)
    }


class Names:
    """The names under which tables and figures show a study's factors, levels and treatments.

    They are those that the study gives, else the shipped ones, else those of the file. What is written for programs
    (CSV, JSON, records, MLflow's parameters) has the names of the file.
    """

    def __init__(self, study: Study) -> None:
        short = short_names(study.factors)
        self.factors = {path: study.labels.get(full_path(path), name) for path, name in short.items()}
        self._given = {
            (factor.path, repr(level)): label
            for factor in study.factors
            for level, label in zip(factor.levels, factor.labels, strict=False)
            if label
        }
        names = self.factors
        shown = {
            f"{short[factor.path]}={format_level(level)}": f"{names[factor.path]}={self.level(factor.path, level)}"
            for factor in study.factors
            for level in factor.levels
        }
        self._shown = {name: text for name, text in shown.items() if name != text}

    def is_short(self, path: str) -> bool:
        """Whether a factor's name is the last word of its path."""
        return self.factors[path] == words_of(path)[-1]

    def title(self, path: str, level: Any) -> str:
        """The name of a level, if the study gives one or one is shipped; else empty."""
        if given := self._given.get((path, repr(level))):
            return given
        text = format_level(level, titles_of_levels(path, level))
        return text if text != format_level(level) else ""

    def level(self, path: str, level: Any) -> str:
        """A level as text."""
        return self.title(path, level) or format_level(level)

    def treatment(self, label: str) -> str:
        """A treatment's label with the names of its factors and levels: `norm=SCN (ours)` for `norm=scn`."""
        if not self._shown:
            return label
        tokens = "|".join(map(re.escape, sorted(self._shown, key=len, reverse=True)))
        return re.sub(rf"(?<!\S)(?:{tokens})(?!\S)", lambda found: self._shown[found[0]], label)


def format_level(level: Any, titles: Mapping[str, str] = MappingProxyType({})) -> str:
    """A level as text: `0.01`, `1e-06`, `scn`, `16-32-32`, `scn(interp=bilinear)`; `–` for None, `none` for [].

    A number that needs more than six digits is written in full, so different levels never look the same. `titles`: a
    level's own name -> the one to show.
    """
    if level is None:
        return "–"
    if isinstance(level, float):
        return text if float(text := f"{level:g}") == level else repr(level)
    if isinstance(level, list | tuple):
        return "-".join(map(format_level, level)) or "none"
    if isinstance(level, dict):
        name = format_level(level.get("level", level.get("weight")), titles)
        settings = ",".join(
            f"{key}={format_level(value)}" for key, value in level.items() if key not in {"level", "weight"}
        )
        return f"{name}({settings})" if settings else name
    return titles.get(str(level), str(level))
