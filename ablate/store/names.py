"""File names made of other names, such as those that a probe gives its pictures."""

import re

from ablate.identity import signature

PLAIN = re.compile(r"[\w+=,() -][\w.+=,() -]{0,99}")
"""A name that every file system takes as that of one file."""


def file_name(name: str) -> str:
    """A name as that of a file in one folder: '/' becomes '_'; any other that is no plain name ends in its hash."""
    flat = name.replace("/", "_")
    if PLAIN.fullmatch(flat) and flat.isascii():
        return flat
    return f"{re.sub(r'[^A-Za-z0-9_-]', '_', flat)[:80]}-{signature(name)[:8]}"
