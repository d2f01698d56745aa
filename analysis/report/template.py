"""The templates of pages."""

import json
import re
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

from ablate.analysis.report.pictures import Sheet

BOUND = re.compile(r"(?<=\d) (?=[%×\w])|(?<=\+) (?=\w)")
"""Spaces at which a line does not break: between a number and its unit, and after a sign."""


def render(name: str, shown: Sequence[Sheet], **parts: Any) -> str:
    """A page as text. `shown`: the pictures under its divider, none or at least two."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("ablate.analysis.report", "."),
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters["unbroken"] = lambda text: BOUND.sub("\u00a0", text)
    sources = json.dumps([vars(one) for one in shown]).replace("<", "\\u003c")
    return environment.get_template(name).render(
        shown=shown, sources=sources, css=_part("page.css"), js=_part("page.js"), **parts
    )


def _part(name: str) -> str:
    return files("ablate.analysis.report").joinpath(name).read_text(encoding="utf-8")
