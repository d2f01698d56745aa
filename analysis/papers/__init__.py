"""Papers: their claims and published figures. A paper is found by its path: `vivat` is `analysis/papers/vivat.py`.

Such a file holds one public thing, `PAPER`; parts of it may stand beside it in files that start with an underscore.
"""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass

from ablate.analysis.statistics.claims import Claim
from ablate.errors import nearest
from ablate.slots import registry


@dataclass(frozen=True)
class Published:
    """A table as a paper prints it: row -> its values in the order of `columns`; None where the paper has none."""

    title: str
    source: str
    columns: tuple[str, ...]
    rows: Mapping[str, tuple[float | str | None, ...]]
    note: str = ""


@dataclass(frozen=True)
class Paper:
    """A source, its tables by their number or name, and what it claims."""

    name: str
    reference: str
    tables: Mapping[str, Published]
    claims: tuple[Claim, ...]


def load(name: str) -> Paper:
    """A paper by name. Raises ValueError, with the nearest name, where there is none."""
    if name not in registry.papers():
        raise ValueError(f"unknown paper '{name}'{nearest(name, registry.papers())}")
    paper: Paper = importlib.import_module(f"ablate.analysis.papers.{name}").PAPER
    return paper
