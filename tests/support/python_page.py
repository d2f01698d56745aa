"""The code of docs/python.md, block by block."""

import re

from tests.support.studies import ROOT

PAGE = ROOT / "docs" / "python.md"


def blocks(kind: str) -> list[str]:
    """The texts of the page's blocks of this kind: `yaml`, `python`, or "" for what code prints."""
    found = re.findall(r"^```(\w*)\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.M | re.S)
    return [text for name, text in found if name == kind]
