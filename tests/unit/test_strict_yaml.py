"""The YAML loader against the core schema of YAML 1.2 and against PyYAML's traps."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ablate.errors import StudyError
from ablate.study.document import parse, parse_value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4), ("1.5E+3", 1500.0), (".5", 0.5), ("3.", 3.0), ("-7", -7), ("010", 10),
        ("0o17", 15), ("0xff", 255),
        ("no", "no"), ("on", "on"), ("yes", "yes"), ("true", True), ("FALSE", False), ("~", None), ("null", None),
        ("'1e-4'", "1e-4"), ("1_000", "1_000"), ("12:30", "12:30"), ("2026-11-21", "2026-11-21"), ("-.inf", -math.inf),
        ("[16, 32]", [16, 32]), ("{level: scn}", {"level": "scn"}),
    ],
)  # fmt: skip
def test_scalars_follow_yaml_1_2(text: str, value: object) -> None:
    found = parse_value(text)
    assert found == value
    assert type(found) is type(value)


def test_nan_is_a_number() -> None:
    assert math.isnan(parse_value(".nan"))


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_float_that_python_prints_is_read_back(number: float) -> None:
    assert parse_value(repr(number)) == number


def test_marks_point_at_keys_and_values() -> None:
    document = parse("a: 1\nb:\n  - x\n  - {c: 2}\n", "f.yaml")
    problem = document.problem(("b", 1, "c"), "wrong")
    assert (problem.line, problem.column) == (4, 9)
    assert document.problem(("b", 1, "c"), "wrong", at_key=True).column == 6
    assert document.problem(("b", 1, "missing", "deeper"), "wrong").line == 4
    assert str(problem) == "f.yaml:4:9: wrong\n    4 |   - {c: 2}\n      |         ^"


def test_every_duplicate_key_is_reported() -> None:
    with pytest.raises(StudyError) as error:
        parse("a: 1\nb: {c: 1, c: 2}\na: 3\n", "f.yaml")
    messages = [(p.line, p.column, p.message) for p in error.value.problems]
    assert messages == [
        (2, 11, "duplicate key 'c', first given in line 2"),
        (3, 1, "duplicate key 'a', first given in line 1"),
    ]


@pytest.mark.parametrize(
    "text", ["", "a: [1", "a: &x [*x]", "a: !!python/object/apply:os.system [ls]", "a: 1\n---\nb: 2\n", "? [1]\n: 2"]
)
def test_what_is_not_one_plain_document_is_refused(text: str) -> None:
    with pytest.raises(StudyError) as error:
        parse(text, "f.yaml")
    assert "f.yaml" in str(error.value)


def test_aliases_are_copied() -> None:
    assert parse("a: &x {b: 1}\nc: *x\n", "f").data == {"a": {"b": 1}, "c": {"b": 1}}
