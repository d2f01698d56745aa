"""Errors that a user can mend. Those of a study have their position in the file and are reported together."""

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ablate.redaction import redact

KeyPath = tuple[str | int, ...]
"""Keys and list positions that lead from the top of a study to one of its values, such as ("probes", 0)."""


@dataclass(frozen=True)
class Problem:
    """One error in a study. Line and column count from 1; both are 0 where the error has no position in the file.

    `file`: the study's file, or the command line's option that is wrong, such as `--set norm=snc`.
    """

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


class AblateError(Exception):
    """Base of the errors whose text says what is wrong and how to mend it; the command prints the text alone."""

    def __str__(self) -> str:
        return redact(super().__str__())


class UsageError(AblateError, ValueError):
    """An argument that does not fit, such as a metric that the study does not have."""


class StoreError(AblateError, ValueError):
    """The store cannot be used: it cannot be read or written, or a package that it needs is missing."""


class ClusterError(AblateError, RuntimeError):
    """The Ray cluster that was asked for cannot be reached."""


class ServerError(AblateError, RuntimeError):
    """MLflow cannot be used: its server did not start or ended (with the end of its log), or its database is locked."""


class StudyError(AblateError, ValueError):
    """All errors of a study, in the order of their lines; those of the command line come first."""

    def __init__(self, problems: Iterable[Problem]):
        distinct = dict.fromkeys(problems)
        self.problems = sorted(distinct, key=lambda problem: (problem.line, problem.column))
        super().__init__("\n".join(map(str, self.problems)))


MOST_NAMES = 40
"""Valid names that an error lists; of more it names the nearest alone."""


def nearest(name: str, valid: Iterable[str], synonyms: Mapping[str, str] | None = None) -> str:
    """A hint for an unknown name: the nearest valid one and, unless there are too many, all of them.

    `synonyms`: other names, as `squeeze` gives them, of valid ones; they come before names that are merely spelt alike.
    """
    names = sorted(valid)
    meant = (synonyms or {}).get(squeeze(name))
    alike = [other for other in names if squeeze(other) == squeeze(name)]
    close = [meant] if meant in names else alike or difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"; did you mean '{close[0]}'?" if close else ""
    listed = ", ".join(names) if len(names) <= MOST_NAMES else f"{len(names)} names"
    return f"{hint} (valid: {listed})" if names else hint


def squeeze(name: str) -> str:
    """A name in lower case without spaces, `-` and `_`: `Batch-Norm` and `batch_norm` are `batchnorm`."""
    return re.sub(r"[\s_-]", "", name).lower()


def show_value(value: Any) -> str:
    """A value as it is written in a study, cut after 60 characters: true, null, 'text', 3, [1, 2]."""
    if value is None or isinstance(value, bool):
        return {None: "nothing (null)", True: "true", False: "false"}[value]
    text = redact(repr(value))  # before it is cut: half an address is not known as one
    return text if len(text) <= 60 else f"{text[:59]}…"
