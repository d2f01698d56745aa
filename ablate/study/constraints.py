"""Constraints on treatments, such as `not (norm == 'scn' and padding == 'zeros')` and `loss.kl >= 1e-4`.

They are Python expressions of a small kind, which are read as syntax trees and never run as code: factors by their
dotted paths, constants, lists of these, comparisons, `in`, `and`, `or`, `not`.
"""

import ast
import operator
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ablate.errors import Problem, nearest
from ablate.study.document import Document
from ablate.study.factors import Factor
from ablate.study.schema import StudyFile

Levels = Mapping[str, Any]


Term = Callable[[Levels], Any]


COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda a, b: a in b,
    ast.NotIn: lambda a, b: a not in b,
}


ORDER = (ast.Lt, ast.LtE, ast.Gt, ast.GtE)


WORDS = {"true": True, "false": False, "null": None}
"""Constants as YAML writes them; Python's are known too."""


GRAMMAR = "factors, constants, lists, comparisons, in, and, or, not"


class ConstraintError(ValueError):
    """An expression that cannot be read. `offset`: characters before the fault."""

    def __init__(self, message: str, offset: int):
        super().__init__(message)
        self.offset = offset


@dataclass(frozen=True)
class Constraint:
    """A condition that treatments must meet.

    `holds` takes the level of every factor. A setting that does not exist is None: it equals nothing else, and no order
    comparison with it is true.
    """

    text: str
    holds: Term


def read_constraint(text: str, factors: Mapping[str, Iterable[Any]]) -> Constraint:
    """Read an expression over factors, which are given with their levels. Raises ConstraintError."""
    levels = {path: [plain(level) for level in known] for path, known in factors.items()}
    if number := re.search(r"[0-9]{301,}", text):  # as in other values of a study
        raise ConstraintError(f"a number of {len(number[0])} digits is too large", number.start())
    try:
        return Constraint(text, _truth(ast.parse(text.replace("\n", " "), mode="eval").body, levels))
    except SyntaxError as error:
        assignment = re.search(r"(?<![=<>!:])=(?!=)", text)
        if assignment:
            raise ConstraintError("not an expression: write == to compare, not =", assignment.start()) from None
        raise ConstraintError(f"not an expression: {error.msg}", max(0, (error.offset or 1) - 1)) from None
    except ConstraintError:
        raise
    except ValueError as error:  # of a character that Python allows nowhere
        raise ConstraintError(f"not an expression: {error}", 0) from None
    except (RecursionError, MemoryError):
        raise ConstraintError("not an expression: nested too deeply", 0) from None


def read_constraints(
    document: Document, file: StudyFile, factors: tuple[Factor, ...]
) -> tuple[tuple[Constraint, ...], list[Problem]]:
    """The constraints of a study, and what is wrong with them."""
    levels = {factor.path: factor.levels for factor in factors}
    constraints: list[Constraint] = []
    problems: list[Problem] = []
    for i, text in enumerate(file.where):
        try:
            constraints.append(read_constraint(text, levels))
        except ConstraintError as error:
            problems.append(_inside(document.problem(("where", i), f"where: {error}"), text, error.offset))
    first = {factor.path: factor.levels[0] for factor in factors}
    for i, constraint in enumerate(constraints):
        if len(constraints) == len(file.where) and not constraint.holds(first):
            message = f"where: the baseline itself is left out by '{constraint.text}'"
            problems.append(document.problem(("where", i), message))
    return tuple(constraints), problems


def _inside(problem: Problem, text: str, offset: int) -> Problem:
    """A problem with a text, moved `offset` characters into it if the line of the file holds the text as it is."""
    start = problem.source.find(text, problem.column - 1)
    return problem if start < 0 else replace(problem, column=start + 1 + offset)


def plain(level: Any) -> Any:
    """The value that stands for a level in comparisons: name or weight of one with settings, a list for a sequence."""
    if isinstance(level, dict):
        return level.get("level", level.get("weight"))
    return list(level) if isinstance(level, tuple) else level


def _truth(node: ast.expr, factors: Mapping[str, list[Any]]) -> Term:
    match node:
        case ast.BoolOp(op=ast.And(), values=values):
            all_of = [_truth(value, factors) for value in values]
            return lambda levels: all(term(levels) for term in all_of)
        case ast.BoolOp(values=values):
            any_of = [_truth(value, factors) for value in values]
            return lambda levels: any(term(levels) for term in any_of)
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            denied = _truth(operand, factors)
            return lambda levels: not denied(levels)
        case ast.Compare(left=left, ops=ops, comparators=comparators):
            sides = [left, *comparators]
            pairs = [_comparison(a, op, b, factors) for a, op, b in zip(sides, ops, comparators, strict=False)]
            return pairs[0] if len(pairs) == 1 else lambda levels: all(pair(levels) for pair in pairs)
        case ast.Name() | ast.Attribute() | ast.Subscript():
            path = _path(node, factors)
            if all(isinstance(level, bool | None) for level in factors[path]):
                return lambda levels: levels[path]
            raise ConstraintError(f"'{path}' is compared with nothing", node.col_offset)
    raise ConstraintError(f"'{ast.unparse(node)}' is no condition; known are {GRAMMAR}", node.col_offset)


def _comparison(left: ast.expr, op: ast.cmpop, right: ast.expr, factors: Mapping[str, list[Any]]) -> Term:
    if type(op) not in COMPARISONS:
        raise ConstraintError("compare with == or !=, not with 'is'", left.col_offset)
    (a, known_a), (b, known_b) = _value(left, factors), _value(right, factors)
    compare = COMPARISONS[type(op)]
    if isinstance(op, (ast.In, ast.NotIn)):
        if not all(isinstance(values, list) for values in known_b):
            raise ConstraintError("'in' needs a list on its right, such as ['group', 'scn']", right.col_offset)
        _check_names(known_a, [value for values in known_b for value in values], left, right)
    elif isinstance(op, ORDER):
        _check_order(known_a, left)
        _check_order(known_b, right)
        return lambda levels: (x := a(levels)) is not None and (y := b(levels)) is not None and compare(x, y)
    else:
        _check_names(known_a, known_b, left, right)
        _check_names(known_b, known_a, right, left)
    return lambda levels: compare(a(levels), b(levels))


def _check_names(levels: list[Any], wanted: list[Any], factor: ast.expr, constant: ast.expr) -> None:
    """Raise ConstraintError for a name that is no level of the factor: the comparison could never be true."""
    if isinstance(constant, ast.Constant | ast.List | ast.Tuple) and not isinstance(factor, ast.Constant):
        names = [level for level in levels if isinstance(level, str)]
        for value in wanted:
            if isinstance(value, str) and value not in names:
                message = f"'{ast.unparse(factor)}' has no level '{value}' in this study{nearest(value, names)}"
                raise ConstraintError(message, constant.col_offset)


def _check_order(values: list[Any], node: ast.expr) -> None:
    for value in values:
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise ConstraintError(f"<, <=, > and >= compare numbers, found {value!r}", node.col_offset)


def _value(node: ast.expr, factors: Mapping[str, list[Any]]) -> tuple[Term, list[Any]]:
    """A factor or a constant as a term, and all values that it can have."""
    if isinstance(node, ast.Name) and node.id in WORDS:
        word = WORDS[node.id]
        return lambda levels: word, [word]
    if isinstance(node, ast.Name | ast.Attribute | ast.Subscript):
        path = _path(node, factors)
        return lambda levels: plain(levels[path]), factors[path]
    value = _constant(node)
    return lambda levels: value, [value]


def _constant(node: ast.expr) -> Any:
    match node:
        case ast.Constant(value=str() | int() | float() | None as value):
            return value
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as number)):
            return -number
        case ast.List(elts=items) | ast.Tuple(elts=items):
            return [_constant(item) for item in items]
    raise ConstraintError(f"'{ast.unparse(node)}' is neither a factor nor a constant; known are {GRAMMAR}",
                          node.col_offset)  # fmt: skip


def _path(node: ast.expr, factors: Mapping[str, list[Any]]) -> str:
    """`loss.kl` of an attribute; a word that is no Python name goes in brackets: `stages['fine-tune'].lr`."""
    words: list[str] = []
    inner = node
    while not isinstance(inner, ast.Name):
        match inner:
            case (
                ast.Attribute(value=owner, attr=word) | ast.Subscript(value=owner, slice=ast.Constant(value=str(word)))
            ):
                words.append(word)
                inner = owner
            case _:
                raise ConstraintError(f"'{ast.unparse(node)}' is no factor's path", node.col_offset)
    path = ".".join([inner.id, *reversed(words)])
    if path not in factors:
        names = {level for levels in factors.values() for level in levels if isinstance(level, str)}
        ends = [factor for factor in factors if factor.endswith(f".{path}")]
        hint = f"; did you mean '{ends[0]}'?" if len(ends) == 1 else nearest(path, factors)
        hint = f"; write a level in quotes: '{path}'" if path in names else hint
        raise ConstraintError(f"unknown factor '{path}'{hint}", node.col_offset)
    return path
