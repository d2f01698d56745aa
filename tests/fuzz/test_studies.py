"""Every shipped study, changed: whatever comes of it is a plan, or an error that says where."""

import re
from pathlib import Path
from typing import Any

import yaml
from hypothesis import strategies as st

from ablate.driver.preflight import validate
from ablate.errors import AblateError, StudyError
from ablate.plan.treatments import list_rows
from ablate.plan.tree import stage_tree
from ablate.plan.trials import expand
from ablate.study.constraints import ConstraintError, read_constraint
from ablate.study.document import compose
from ablate.study.shipped import shipped
from ablate.study.study import read_study
from tests.support.fuzzing import changed, fuzzed
from tests.support.studies import TINY

FILES = sorted((Path(__file__).parents[2] / "search_spaces").glob("*.yaml"))

TEXTS = [TINY, *(path.read_text(encoding="utf-8") for path in FILES)]

STUDIES = [compose(text, "study.yaml").data for text in TEXTS]

SNIPPETS = [
    "!!int foo", "!!float x", "!!bool 3", "!!python/object/apply:os.getcwd []", "!!binary x", "!!set {a}",
    "!!null x", "&a [*a]", "&b {x: *b}", "*nope", '"\\ud800"', '"\\U00110000"', "9" * 5000, "-" + "9" * 400,
    "1e400", "1e-400", ".inf", "-.inf", ".nan", "0x", "0o9", "0x" + "f" * 500, "? [1]", "[", "{", "'", '"', "|",
    ">", "\t", "---", "...", "- - - -", "\x85", "\ufeff", "%YAML 3.0", "[" * 300 + "]" * 300,
    "{a: " * 100 + "1" + "}" * 100, "[x], data.crop: 24", "<<: {a: 1}",
    "&a [x, x, x, x], b: &b [*a, *a, *a, *a], c: &c [*b, *b, *b, *b], d: [*c, *c, *c, *c]", "1_000", "12:30", "# x",
    "",
]  # fmt: skip


@st.composite
def texts(draw: Any, count: int = len(TEXTS)) -> str:
    """The text of one of the first `count` studies, changed as data, as text or as both."""
    if draw(st.booleans()):
        text = yaml.safe_dump(draw(changed(STUDIES[:count])), sort_keys=False, allow_unicode=draw(st.booleans()))
    else:
        text = draw(st.sampled_from(TEXTS[:count]))
    lines = text.splitlines()
    for _ in range(draw(st.integers(0, 2))):
        i = draw(st.integers(0, max(0, len(lines) - 1)))
        line = lines[i] if lines else ""
        snippet = draw(st.sampled_from(SNIPPETS))
        match draw(st.sampled_from(["value", "insert", "delete", "repeat", "indent", "cut"])):
            case "value":
                lines[i : i + 1] = [re.sub(r"([:-] ).*", lambda found, new=snippet: found[1] + new, line, count=1)]
            case "insert":
                lines.insert(i, snippet)
            case "delete":
                del lines[i : i + 1]
            case "repeat":
                lines.insert(i, line)
            case "indent":
                lines[i : i + 1] = [f" {line}"]
            case "cut":
                place = draw(st.integers(0, len(line)))
                lines[i : i + 1] = [line[:place], line[place:]]
    return "\n".join(lines)


def check_error(error: AblateError) -> None:
    """An error of a study has a text, and each of its problems one, and a place in the file unless it has none."""
    assert str(error).strip()
    if isinstance(error, StudyError):
        assert error.problems
        for problem in error.problems:
            assert problem.message and problem.line >= 0 and problem.column >= 0
            assert "validation error" not in problem.message, problem.message


@fuzzed(0.5, texts())
def test_a_changed_study_is_planned_or_refused(text: str) -> None:
    try:
        study = read_study(compose(text, "study.yaml"), None, (), gpu=False)
        if len(list_rows(study).rows) * len(study.seeds) < 3000:
            stage_tree(expand(study))
    except AblateError as error:
        check_error(error)


@fuzzed(0.04, texts(1))
def test_a_changed_study_is_checked_with_its_models_or_refused(text: str) -> None:
    try:
        validate(compose(text, "study.yaml"), None, (), gpu=False)
    except AblateError as error:
        check_error(error)


OVERRIDES = st.tuples(
    st.sampled_from(["seeds", "loss.kl", "loss", "norm", "norm.groups", "stages.train.steps", "stages.train",
                     "stages", "data.crop", "data", "probes.reconstruction.x", "probes", "base", "", ".", "..",
                     "model.channels.0", "loss.kl.weight", "x.y.z", "norm.", ".norm", "loss.lpips.net", "study",
                     "scales", "é", "a:b.c"]),
    st.sampled_from(["=", "==", "", " = ", "=="]),
    st.one_of(st.sampled_from([*SNIPPETS, "3", "1e-3", "[1, 2]", "{level: scn}", "scn", "null", "true", "../x",
                               "x" * 9000, "[" * 60 + "]" * 60, "{a: {b: {c: 1}}}", "{level: {level: scn}}"]),
              st.text(max_size=12)),
)  # fmt: skip


@fuzzed(0.1, st.lists(OVERRIDES, min_size=1, max_size=3), st.sampled_from([TINY, *TEXTS[:6]]))
def test_a_change_by_set_is_applied_or_refused(overrides: list[tuple[str, str, str]], text: str) -> None:
    try:
        study = read_study(compose(text, "study.yaml"), None, tuple(map("".join, overrides)), gpu=False)
        assert study.variant
    except AblateError as error:
        check_error(error)


FACTORS = {"norm": ["group", "scn"], "loss.kl": [1, 1e-4, None], "model.channels": [[8, 8], [16]], "padding": ["zeros"]}

TOKENS = st.sampled_from(
    ["norm", "loss.kl", "model.channels", "padding", "loss", "nothing", "'scn'", "\"x\"", "1", "1e-4", "1e400",
     "9" * 400, "None", "null", "true", "[", "]", "(", ")", "[1, 'a']", "==", "!=", "<", "<=", ">", ">=", "in",
     "not", "and", "or", "=", ":=", "+", "-", "*", "**", "lambda: 1", "f'{norm}'", "norm()", "norm['x']", "norm[0]",
     "__import__('os')", "if", "else", "for", "x for x in", "await", "yield", "...", "\x00", "\n", "\ud800", ",",
     ".", "(" * 250, "not " * 3000, "-" * 4000, "b'x'", "1j", "0x1F", "1_0", "'" * 3, "#", "\\", "{}", "{1: 2}",
     "*norm", "norm.a.b.c", "é"]
)  # fmt: skip


@fuzzed(0.12, st.lists(TOKENS, max_size=9).map(" ".join) | st.text(max_size=30))
def test_an_expression_is_read_or_refused(text: str) -> None:
    try:
        constraint = read_constraint(text, FACTORS)
    except ConstraintError as error:
        assert str(error) and 0 <= error.offset <= len(text) + 1
        return
    for norm in ("group", "scn"):
        for kl in (1, 1e-4, None):
            levels = {"norm": norm, "loss.kl": kl, "model.channels": (8, 8), "padding": "zeros"}
            assert constraint.holds(levels) in {True, False}


def test_the_shipped_studies_themselves_are_planned() -> None:
    assert len(TEXTS) > 20 and shipped()
    for text in TEXTS:
        assert expand(read_study(compose(text, "study.yaml"), "cpu" if "\n  cpu:" in text else None, (), gpu=False))
