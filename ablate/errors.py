"""Errors of a study: each with its place in the file, all reported together."""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

KeyPath = tuple[str | int, ...]


@dataclass(frozen=True)
class Problem:
    """One error in a study. Line and column count from 1; both are 0 where the error has no place in the file."""

    file: str
    line: int
    column: int
    message: str
    source: str = ""

    def __str__(self) -> str:
        if not self.line:
            return f"{self.file}: {self.message}"
        margin = f"{self.line:5d} | "
        caret = " " * (len(margin) - 2) + "| " + " " * (self.column - 1) + "^"
        return f"{self.file}:{self.line}:{self.column}: {self.message}\n{margin}{self.source}\n{caret}"


class StudyError(ValueError):
    """Everything that is wrong with a study, all at once."""

    def __init__(self, problems: Iterable[Problem]):
        self.problems = list(dict.fromkeys(problems))
        super().__init__("\n".join(map(str, self.problems)))


def nearest(name: str, valid: Iterable[str]) -> str:
    """A hint for an unknown name: the nearest valid one and all of them."""
    names = sorted(valid)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"; did you mean '{close[0]}'?" if close else ""
    return f"{hint} (valid: {', '.join(names)})" if names else hint
