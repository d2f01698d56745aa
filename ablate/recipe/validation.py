"""Plain words for what pydantic finds wrong with a setting."""

import math
from collections.abc import Mapping
from typing import Any

from ablate.errors import nearest, show_value

EXPECTED = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "int_parsing": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "string_type": "text",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "greater_than": "a number above {gt:g}",
    "greater_than_equal": "a number of at least {ge:g}",
    "less_than": "a number below {lt:g}",
    "less_than_equal": "a number of at most {le:.12g}",
    "too_short": "at least {min_length} value(s)",
    "too_long": "at most {max_length} value(s)",
    "string_too_long": "at most {max_length} characters",
    "string_pattern_mismatch": "letters, digits, '.', '_' and '-', of which the first is a letter or a digit",
    "literal_error": "{expected}",
}
"""Type of a pydantic error -> what was expected, with the error's own limits filled in."""

NUMBERS = {"int_type", "int_from_float", "float_type"}


def explain(error: Mapping[str, Any]) -> str:
    """What was expected and what was found, of one of the errors that a ValidationError lists."""
    kind = error["type"]
    found = error["input"]
    if kind in {"value_error", "assertion_error"}:
        reason = error["msg"].partition(", ")[2]
        whole = isinstance(found, dict) or str(found) in reason
        return reason if whole else f"{reason}, found {show_value(found)}"
    if kind not in EXPECTED:
        return f"{error['msg'][:1].lower()}{error['msg'][1:]}, found {show_value(found)}"
    expected = EXPECTED[kind].format(**error.get("ctx", {}))
    hint = ""
    if kind == "literal_error" and isinstance(found, str):
        hint = nearest(found, expected.replace("'", "").replace(" or ", ", ").split(", ")).partition(" (valid")[0]
    return f"expected {expected}, found {show_value(found)}{hint or _rewritten(kind, found)}"


def _rewritten(kind: str, found: Any) -> str:
    """The way out where a value is only written in another form: '3', 1_000 or 1e3 for a number, x for the list [x]."""
    if kind in {"list_type", "tuple_type"} and isinstance(found, str | int | float):
        return f"; write [{found}]"
    if kind in NUMBERS and isinstance(found, float) and found.is_integer():
        return f"; write {int(found)}"
    if kind not in NUMBERS or not isinstance(found, str):
        return ""
    try:
        float(found)
    except ValueError:
        return ""
    return f"; write {found.replace('_', '')} without quotes or '_'"


def is_finite(value: Any) -> bool:
    """Whether a value holds neither NaN nor an infinity, at any depth."""
    if isinstance(value, dict):
        return all(map(is_finite, value.values()))
    if isinstance(value, list):
        return all(map(is_finite, value))
    return not isinstance(value, float) or math.isfinite(value)
