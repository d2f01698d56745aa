"""YAML as people mean it, with a place for every value.

PyYAML reads YAML 1.1, where `1e-4` is a word, `no` is false, `010` is eight and the last of two equal keys wins.
Here scalars follow the YAML 1.2 core schema (https://yaml.org/spec/1.2.2/#103-core-schema), equal keys are errors, and
each value keeps its line and column.
"""

import re
from dataclasses import dataclass, field
from typing import Any

import yaml

from ablate.errors import KeyPath, Problem, StudyError


@dataclass
class Document:
    """Plain data with the mark of every key and value."""

    file: str
    text: str
    data: Any = None
    keys: dict[KeyPath, yaml.Mark] = field(default_factory=dict)
    values: dict[KeyPath, yaml.Mark] = field(default_factory=dict)

    def problem(self, path: KeyPath, message: str, *, at_key: bool = False) -> Problem:
        """A problem at `path`, or at its nearest ancestor that the file has."""
        known = path
        while known and known not in self.values:
            known = known[:-1]
        marks = self.keys if at_key and known in self.keys and known == path else self.values
        mark = marks.get(known)
        return self._at(mark, message) if mark else Problem(self.file, 0, 0, message)

    def _at(self, mark: yaml.Mark, message: str) -> Problem:
        lines = self.text.splitlines()
        source = lines[mark.line] if mark.line < len(lines) else ""
        return Problem(self.file, mark.line + 1, mark.column + 1, message, source)


class _CoreLoader(yaml.SafeLoader):
    """SafeLoader with the scalar rules of YAML 1.2."""


_CoreLoader.yaml_implicit_resolvers = {}


for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
):
    _CoreLoader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), _first)


def parse(text: str, file: str) -> Document:
    """Read one YAML document. Raises StudyError with every duplicate or unusable key, or the syntax error."""
    document = Document(file, text)
    try:
        root = yaml.compose(text, Loader=_CoreLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        message = f"not valid YAML: {error.problem or error.context}"
        raise StudyError([document._at(mark, message) if mark else Problem(file, 0, 0, message)]) from None
    except yaml.YAMLError as error:
        raise StudyError([Problem(file, 0, 0, f"not valid YAML: {error}")]) from None
    if root is None:
        raise StudyError([Problem(file, 0, 0, "the file is empty")])
    problems: list[Problem] = []
    document.data = _plain(root, (), document, problems, ())
    if problems:
        raise StudyError(problems)
    return document


def parse_value(text: str) -> Any:
    """One value as in a study file: `1e-4`, `reflect`, `[16, 32]`. Raises StudyError."""
    return parse(text, "value").data if text.strip() else ""


def _plain(node: yaml.Node, path: KeyPath, document: Document, problems: list[Problem], above: tuple[int, ...]) -> Any:
    """Build plain data from a node and note the marks on the way. `above` holds the nodes that we are inside of."""
    document.values[path] = node.start_mark
    if id(node) in above:
        problems.append(document._at(node.start_mark, "an alias may not contain itself"))
        return None
    above = (*above, id(node))
    if not isinstance(node, yaml.ScalarNode) and node.tag.rpartition(":")[2] not in {"seq", "map"}:
        problems.append(document._at(node.start_mark, f"the tag {node.tag} is not allowed in a study"))
    if isinstance(node, yaml.SequenceNode):
        return [_plain(child, (*path, i), document, problems, above) for i, child in enumerate(node.value)]
    if isinstance(node, yaml.MappingNode):
        return _mapping(node, path, document, problems, above)
    return _scalar(node, document, problems)


def _mapping(
    node: yaml.MappingNode, path: KeyPath, document: Document, problems: list[Problem], above: tuple[int, ...]
) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key_node, value_node in node.value:
        key = key_node.value
        if not isinstance(key_node, yaml.ScalarNode):
            problems.append(document._at(key_node.start_mark, "a key must be a word"))
            continue
        if key in found:
            first = document.keys[(*path, key)].line + 1
            problems.append(document._at(key_node.start_mark, f"duplicate key '{key}', first given in line {first}"))
            continue
        document.keys[(*path, key)] = key_node.start_mark
        found[key] = _plain(value_node, (*path, key), document, problems, above)
    return found


def _scalar(node: yaml.Node, document: Document, problems: list[Problem]) -> Any:
    kind, text = node.tag.rpartition(":")[2], node.value
    if kind == "null":
        return None
    if kind == "bool":
        return text.lower() == "true"
    if kind == "int":
        return int(text, 8 if text.startswith("0o") else 16 if text.startswith("0x") else 10)
    if kind == "float":
        return float(re.sub(r"\.(?=inf|nan)", "", text.lower()))
    if kind != "str":
        problems.append(document._at(node.start_mark, f"the tag {node.tag} is not allowed in a study"))
    return text
