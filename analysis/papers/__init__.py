"""Papers: their claims and published values. A paper is named after its file: `vivat` is `analysis/papers/vivat.py`.

Such a file defines `PAPER`; parts of it may be in files beside it whose names start with an underscore.
"""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass

from ablate.analysis.statistics.claims import Claim
from ablate.errors import nearest
from ablate.slots import registry


@dataclass(frozen=True)
class Published:
    """A table as a paper prints it.

    `rows`: name -> values in the order of `columns`; None where the paper has no value. `source`: its place in the
    paper. `note`: what a reader should know about it.
    """

    title: str
    source: str
    columns: tuple[str, ...]
    rows: Mapping[str, tuple[float | str | None, ...]]
    note: str = ""


@dataclass(frozen=True)
class Paper:
    """A paper with its tables, by number or name, and its claims."""

    name: str
    reference: str
    tables: Mapping[str, Published]
    claims: tuple[Claim, ...]


def load(name: str) -> Paper:
    """The paper of this name. Raises ValueError, with the nearest name, if there is none."""
    if name not in registry.papers():
        raise ValueError(f"unknown paper '{name}'{nearest(name, registry.papers())}")
    paper: Paper = importlib.import_module(f"ablate.analysis.papers.{name}").PAPER
    return paper
