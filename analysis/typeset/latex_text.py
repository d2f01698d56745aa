"""Text, levels and sentences as LaTeX in ASCII, using only macros that every LaTeX has."""

import math
import re
import unicodedata
from typing import Any

from ablate.analysis.typeset.cells import Level, Sentence, Symbol
from ablate.plan.labels import format_level

SPECIAL = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": "$<$", ">": "$>$", "|": "$|$", '"': "''",
    "−": "$-$", "±": r"$\pm$", "×": r"$\times$", "·": r"$\cdot$", "∞": r"$\infty$", "≤": r"$\leq$", "≥": r"$\geq$",
    "≠": r"$\neq$", "→": r"$\rightarrow$", "↑": r"$\uparrow$", "↓": r"$\downarrow$", "°": r"$^{\circ}$",
    "²": "$^{2}$", "–": "--", "—": "---", "…": r"\dots{}", "‘": "`", "’": "'", "“": "``", "”": "''",
    "µ": r"$\mu$", "Δ": r"$\Delta$",
}  # fmt: skip

WIDE = 1.6
"""Width of a wide character of TeX's fonts, in digits."""

NARROW = 0.65
"""Width of a narrow character, in digits."""

GREEK = set(
    re.findall("[A-Z]+", "ALPHA BETA GAMMA DELTA EPSILON ETA THETA KAPPA MU NU PI RHO SIGMA TAU PHI CHI PSI OMEGA")
)

ACCENTS = dict(
    zip("\u0300\u0301\u0302\u0303\u0308\u030a\u0327", (r"\`", r"\'", r"\^", r"\~", r"\"", r"\r", r"\c"), strict=True)
)


def extent(text: str) -> float:
    """Approximate width of a text without markup, in digits."""
    return sum(WIDE if c in "+−±×→∞ΔmwMW" else NARROW if c in " .,:;'|![]()ijlt" else 1.0 for c in text)


def level(one: Level) -> str:
    """A level; small and large floats, and powers of ten, are written with a power of ten."""
    value: Any = one.value
    if one.title:
        return escape(one.title)
    if not isinstance(value, float) or not math.isfinite(value) or value == 0:
        return escape(format_level(value))
    mantissa, exponent = f"{value:.5e}".split("e")
    digits = f"{float(mantissa):g}".replace("-", "−")
    power = int(exponent)
    if -3 <= power < 5 and not (digits in {"1", "−1"} and not -1 <= power < 4):
        return escape(format_level(value))
    if digits in {"1", "−1"}:
        return f"${'-' if value < 0 else ''}10^{{{power}}}$"
    return rf"{escape(digits)}$\times10^{{{power}}}$"


def sentence(pieces: Sentence) -> str:
    """A sentence of words, levels and symbols."""
    return "".join(map(_piece, pieces))


def _piece(piece: str | Level | Symbol) -> str:
    if isinstance(piece, str):
        return escape(piece).replace(r" \%", r"\,\%")
    return f"${piece.name}$" if isinstance(piece, Symbol) else level(piece)


def escape(text: str) -> str:
    """Text as LaTeX in ASCII: special characters, signs and accents as macros, all others by their code point."""
    return "".join(map(_escape_character, unicodedata.normalize("NFC", text)))


def _escape_character(character: str) -> str:
    if character in SPECIAL:
        return SPECIAL[character]
    if character.isascii():
        return character if character.isprintable() else " "
    name = unicodedata.name(character, "")
    if name.startswith("GREEK SMALL LETTER ") and name.split()[-1] in GREEK:
        return rf"$\{name.split()[-1].lower()}$"
    parts = unicodedata.normalize("NFD", character)
    if parts[0].isascii() and parts[1:] in ACCENTS:
        return rf"{ACCENTS[parts[1:]]}{{{parts[0]}}}"
    return f"[U+{ord(character):04X}]"
