"""The templates of pages."""

import json
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

from ablate.analysis.report.pictures import Sheet


def render(name: str, shown: Sequence[Sheet], **parts: Any) -> str:
    """A page as text. `shown`: the pictures under its divider, none or at least two."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("ablate.analysis.report", "."),
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    sources = json.dumps([vars(one) for one in shown]).replace("<", "\\u003c")
    return environment.get_template(name).render(
        shown=shown, sources=sources, css=_part("page.css"), js=_part("page.js"), **parts
    )


def _part(name: str) -> str:
    return files("ablate.analysis.report").joinpath(name).read_text(encoding="utf-8")
