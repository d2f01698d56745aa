"""The names that a study gives: its own, and those of its scales and stages."""

import re

from ablate.errors import show_value

NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"
"""The name of a study."""

PART_NAME = r"[A-Za-z0-9][A-Za-z0-9_-]*"
"""The name of a scale or a stage: as that of a study, without dots, which separate the words of a path."""

RESERVED = re.compile(r"(?:CON|PRN|AUX|NUL|COM[0-9]|LPT[0-9])(?:\..*)?|.*\.", re.IGNORECASE)
"""Names that Windows allows no folder to have: a store may be on a shared disk."""

LONGEST_NAME = 64
"""Characters of the name of a study, a scale or a stage at most: it is part of the names of folders."""


def name_fault(what: str, name: str) -> str:
    """Why a study, a scale or a stage cannot have this name; empty if it can."""
    if len(name) > LONGEST_NAME:
        return f"the name of a {what} has at most {LONGEST_NAME} characters, found {len(name)}"
    if RESERVED.fullmatch(name):
        return f"the name of a {what}: '{name}' is the name of a device, or ends in a dot, so no folder can have it"
    if re.fullmatch(PART_NAME, name) or (what == "study" and re.match(NAME, name)):
        return ""
    expected = "letters, digits, '_' and '-', of which the first is a letter or a digit"
    return f"the name of a {what}: expected {expected}, found {show_value(name)}"
