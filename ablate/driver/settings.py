"""The settings of a level or a stage as a person reads them: type, default and meaning."""

import re
from typing import Any

from ablate.slots.settings import Settings

DEFINITION = re.compile(r"((?:`\w+`(?:, | and )?)+): ")
"""Begins what a docstring says of one or several settings: `` `a`, `b`: ``."""

WORD = re.compile(r"`(\w+)`")

TYPES = {
    "object": "mapping",
    "integer": "integer",
    "number": "number",
    "string": "text",
    "boolean": "true or false",
    "null": "null",
}


def describe_settings(config: type[Settings]) -> dict[str, dict[str, Any]]:
    """Setting -> `type`, `default`, `required` and `meaning`, in the order of the class."""
    properties = config.model_json_schema().get("properties", {})
    meanings = read_meanings(config)
    return {
        name: {
            "type": describe_type(properties[name]),
            "default": None if info.is_required() else info.default,
            "required": info.is_required(),
            "meaning": info.description or meanings.get(name, ""),
        }
        for name, info in config.model_fields.items()
    }


def read_meanings(config: type[Settings]) -> dict[str, str]:
    """Setting -> what the docstrings of a class and of its bases say of it after its name and a colon."""
    found: dict[str, str] = {}
    for base in reversed(config.__mro__):
        text = " ".join((base.__dict__.get("__doc__") or "").split())
        begins = [match for match in DEFINITION.finditer(text) if {*WORD.findall(match[1])} <= {*config.model_fields}]
        bounds = [*(match.start() for match in begins), len(text)]
        for match, end in zip(begins, bounds[1:], strict=True):
            found |= dict.fromkeys(WORD.findall(match[1]), text[match.end() : end].strip())
    return found


def describe_type(schema: dict[str, Any]) -> str:
    """The type that a JSON schema asks for, in words: `integer > 0`, `none, nearest or area`, `list of number`."""
    if "anyOf" in schema:
        return " or ".join(describe_type(option) for option in schema["anyOf"])
    if "enum" in schema or "const" in schema:
        *most, last = map(str, schema.get("enum") or [schema["const"]])
        return f"{', '.join(most)} or {last}" if most else last
    if schema.get("type") == "array":
        if "prefixItems" in schema:
            return f"list of {len(schema['prefixItems'])}: {describe_type(schema['prefixItems'][0])}"
        return f"list of {describe_type(schema['items'])}"
    bounds = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    limits = [f"{sign} {schema[key]:g}" for key, sign in bounds.items() if key in schema and abs(schema[key]) < 10**9]
    return f"{TYPES.get(schema.get('type', ''), 'any value')} {', '.join(limits)}".rstrip()
