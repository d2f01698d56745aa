"""YAML as people mean it, with the position of every key and value.

PyYAML reads YAML 1.1, where `1e-4` is a word, `no` is false, `010` is eight and the last of two equal keys wins.
Here scalars follow the YAML 1.2 core schema (https://yaml.org/spec/1.2.2/#103-core-schema), equal keys are errors, and
each value keeps its line and column.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from ablate.errors import KeyPath, Problem, StudyError
from ablate.slots.discover import discover
from ablate.slots.own_code import OwnCode
from ablate.study.shipped import hint, locate

LARGEST = 200_000
"""Values of a study at most. Aliases are copied, so that a short file can stand for more than fit in memory."""

DEEPEST = 50
"""Lists and mappings within each other at most; the parsers that follow give up at a few hundred."""


@dataclass(repr=False)
class Document:
    """A YAML file as plain data, with the position of every key and value. `problems`: equal keys and the like.

    `own`: the own code that goes with the file; None for a text, which is read with the code that is in effect.
    """

    file: str
    text: str
    data: Any = None
    keys: dict[KeyPath, yaml.Mark] = field(default_factory=dict)
    values: dict[KeyPath, yaml.Mark] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    own: OwnCode | None = None

    def __repr__(self) -> str:
        return f"<document {self.file}>"

    def problem(self, path: KeyPath, message: str, *, at_key: bool = False) -> Problem:
        """A problem at the value at `path`, or at that of its nearest ancestor in the file.

        `at_key`: at the key of that value, if the file has it.
        """
        known = path
        while known and known not in self.values:
            known = known[:-1]
        marks = self.keys if at_key and known == path and known in self.keys else self.values
        mark = marks.get(known)
        return self.problem_at(mark, message) if mark else Problem(self.file, 0, 0, message)

    def problem_at(self, mark: yaml.Mark, message: str) -> Problem:
        """A problem at a position of the text."""
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


def read_document(path: Path) -> Document:
    """Read a study's file, or the example study of this name, and find its own levels; see `parse`.

    Raises StudyError where there is no such file or it is no text, and as `discover` does.
    """
    path = locate(path)
    try:
        document = compose(path.read_bytes().decode("utf-8-sig"), str(path))
        document.own = discover(path.absolute().parent)
        return document
    except UnicodeDecodeError as error:
        place = f"byte {error.start + 1} is 0x{error.object[error.start]:02x}"
        reason = f"it is not UTF-8 text ({place}); a study is a YAML file, saved as UTF-8"
    except FileNotFoundError:
        reason = f"no such file{hint(path)}"
    except IsADirectoryError:
        reason = "it is a folder; name the YAML file in it"
    except OSError as error:
        reason = error.strerror or str(error)
    raise StudyError([Problem(str(path), 0, 0, f"cannot read the study: {reason}")])


def parse(text: str, file: str) -> Document:
    """Read one YAML document. Raises StudyError with every duplicate or unusable key, or the syntax error."""
    document = compose(text, file)
    if document.problems:
        raise StudyError(document.problems)
    return document


def compose(text: str, file: str) -> Document:
    """Read one YAML document as far as it can be read. Raises StudyError for a syntax error and for an empty file."""
    document = Document(file, text)
    try:
        root = _root(document)
        if root is None:
            raise StudyError([Problem(file, 0, 0, "the file is empty; ablate init writes a study to begin with")])
        document.data = _plain(root, (), document, ())
    except yaml.MarkedYAMLError as error:
        raise StudyError([_syntax_error(document, error)]) from None
    except yaml.reader.ReaderError as error:
        lines = text[: error.position].split("\n")
        source = "".join(c if c.isprintable() else "?" for c in text.split("\n")[len(lines) - 1])
        message = (
            f"not valid YAML: the character U+{ord(text[error.position]):04X} is not allowed; is this a text file?"
        )
        raise StudyError([Problem(file, len(lines), len(lines[-1]) + 1, message, source)]) from None
    except yaml.YAMLError as error:
        raise StudyError([Problem(file, 0, 0, f"not valid YAML: {error}")]) from None
    except RecursionError:
        raise StudyError([Problem(file, 0, 0, "not a study: its values are nested too deeply")]) from None
    return document


def _root(document: Document) -> yaml.Node | None:
    """The root node of the text. Raises StudyError for an escape such as `\\U00110000` that stands for no character."""
    loader = _CoreLoader(document.text)
    try:
        root: yaml.Node | None = loader.get_single_node()
    except (ValueError, OverflowError):  # of `chr`; the scanner then stands behind the backslash and the letter
        escape = loader.prefix(8)
        mark = loader.get_mark()
        mark.column = max(0, mark.column - 2)
        message = f"not valid YAML: the escape '\\U{escape}' stands for no character; the last is '\\U0010FFFF'"
        if document.text[mark.index - 1 : mark.index] != "U":  # of a number in a line such as %YAML 1.2
            message = "not valid YAML: a number is too large"
        raise StudyError([document.problem_at(mark, message)]) from None
    finally:
        loader.dispose()
    return root


def parse_value(text: str) -> Any:
    """One value as in a study file: `1e-4`, `reflect`, `[16, 32]`. Raises StudyError."""
    return parse(text, "value").data if text.strip() else ""


EXPLANATIONS = (
    ("mapping values are not allowed", "': ' is not allowed here; put a value that holds ': ' in quotes, or align the"
     " line with its neighbours"),
    ("could not find expected ':'", "expected 'key: value'"),
    ("expected <block end>", "this does not line up with the lines above: the keys of a mapping, and the items of a"
     " list, start in one column (here it is that of line {line})"),
    ("expected ',' or ']'", "expected ',' or ']': the list that begins in line {line} is not closed"),
    ("expected ',' or '}'", "expected ',' or '}}': the mapping that begins in line {line} is not closed"),
    ("unexpected end of stream", "the quote that begins in line {line} is not closed"),
    ("found undefined alias", "a value that starts with '*' refers to an anchor, and there is none of this name; put"
     " the value in quotes"),
    ("but found another document", "a second document starts here; a study is one document, without '---'"),
)  # fmt: skip
"""What PyYAML's messages hold, and what they mean. `{line}`: where that begins which PyYAML was reading."""


def _syntax_error(document: Document, error: yaml.MarkedYAMLError) -> Problem:
    """A syntax error with the way out, at the position that is to be mended."""
    reason = f"{error.problem or error.context}"
    mark = error.problem_mark or error.context_mark
    if mark is None:
        return Problem(document.file, 0, 0, f"not valid YAML: {reason}")
    problem = document.problem_at(mark, "")
    indent = problem.source[: len(problem.source) - len(problem.source.lstrip())]
    begun = error.context_mark
    if "\t" in indent:
        message, column = "a tab; YAML is indented with spaces alone", indent.index("\t") + 1
        return Problem(document.file, problem.line, column, f"not valid YAML: {message}", problem.source)
    if character := re.search(r"found character '(.+)' that cannot start", reason):
        what = (
            "a tab; put spaces in its place" if character[1] == "\\t" else f"a value cannot start with '{character[1]}'"
        )
        return document.problem_at(mark, f"not valid YAML: {what}{'' if 'tab' in what else '; put it in quotes'}")
    meaning = next((meaning for words, meaning in EXPLANATIONS if words in reason), None)
    if begun and ("unexpected end of stream" in reason or "expected ':'" in reason):
        mark = begun
    message = meaning.format(line=(begun or mark).line + 1) if meaning else reason
    return document.problem_at(mark, f"not valid YAML: {message}")


def _plain(node: yaml.Node, path: KeyPath, document: Document, above: tuple[int, ...]) -> Any:
    """Build plain data from a node and note the positions on the way. `above`: ids of the nodes that hold this one."""
    document.values[path] = node.start_mark
    if id(node) in above:
        document.problems.append(document.problem_at(node.start_mark, "an alias may not contain itself"))
        return None
    if len(document.values) > LARGEST:
        raise StudyError([document.problem_at(node.start_mark, f"a study of more than {LARGEST} values")])
    if len(above) > DEEPEST:
        message = f"nested too deeply: more than {DEEPEST} lists or mappings within each other"
        raise StudyError([document.problem_at(node.start_mark, message)])
    above = (*above, id(node))
    if not isinstance(node, yaml.ScalarNode) and node.tag.rpartition(":")[2] not in {"seq", "map"}:
        document.problems.append(document.problem_at(node.start_mark, f"the tag {node.tag} is not allowed in a study"))
    if isinstance(node, yaml.SequenceNode):
        return [_plain(child, (*path, i), document, above) for i, child in enumerate(node.value)]
    if isinstance(node, yaml.MappingNode):
        return _mapping(node, path, document, above)
    return _scalar(node, document)


def _mapping(node: yaml.MappingNode, path: KeyPath, document: Document, above: tuple[int, ...]) -> dict[str, Any]:
    data: dict[str, Any] = {}
    for key_node, value_node in node.value:
        key = key_node.value
        if not isinstance(key_node, yaml.ScalarNode):
            document.problems.append(document.problem_at(key_node.start_mark, "a key must be a word"))
            continue
        if key == "<<" and key_node.style is None:
            message = "merge keys are not supported; repeat the keys"
            document.problems.append(document.problem_at(key_node.start_mark, message))
            continue
        if _without_surrogates(key_node, document) != key:
            continue
        if key in data:
            first = document.keys[(*path, key)].line + 1
            message = f"duplicate key '{key}', first given in line {first}"
            document.problems.append(document.problem_at(key_node.start_mark, message))
            continue
        document.keys[(*path, key)] = key_node.start_mark
        data[key] = _plain(value_node, (*path, key), document, above)
    return data


def _scalar(node: yaml.Node, document: Document) -> Any:
    kind = node.tag.rpartition(":")[2]
    text = node.value
    if kind == "null":
        return None
    if kind == "bool":
        return text.lower() == "true"
    if kind == "int" and len(text) > 300:  # Python itself refuses 4300 digits, floats end at 10^308
        document.problems.append(document.problem_at(node.start_mark, f"a number of {len(text)} digits is too large"))
        return 0
    try:
        if kind == "int":
            return int(text, 8 if text.startswith("0o") else 16 if text.startswith("0x") else 10)
        if kind == "float":
            return float(re.sub(r"\.(?=inf|nan)", "", text.lower()))
    except ValueError:  # of a tag that the value does not bear out: !!int x
        document.problems.append(document.problem_at(node.start_mark, f"expected a number, found '{text}'"))
    if kind not in {"str", "int", "float"}:
        document.problems.append(document.problem_at(node.start_mark, f"the tag {node.tag} is not allowed in a study"))
    return _without_surrogates(node, document)


def _without_surrogates(node: yaml.Node, document: Document) -> str:
    """The text of a scalar, with '?' for surrogates such as `\\uD800`: half a character, which no file can hold."""
    text: str = node.value
    if surrogate := re.search("[\ud800-\udfff]", text):
        message = f"the escape '\\u{ord(surrogate[0]):04X}' is half a character; write the whole one, as '\\U0001F600'"
        document.problems.append(document.problem_at(node.start_mark, message))
    return re.sub("[\ud800-\udfff]", "?", text)
