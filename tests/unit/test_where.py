"""Constraints: what they mean, what they refuse, which treatments they leave out."""

import itertools

import pytest

from ablate.errors import StudyError
from ablate.plan.estimable import describe_contrasts
from ablate.plan.treatments import list_rows, treatments
from ablate.study.constraints import ConstraintError, read_constraint
from ablate.study.study import load_study
from tests.support.studies import Write

FACTORS = {
    "norm": ["group", "scn"], "loss.kl": [1e-4, 1.0], "model.channels": [(8, 8), (8, 16)],
    "model.mid_attention": [False, True], "stages.fine-tune.steps": [0, 6],
    "norm.interp": [None, "nearest", "bilinear"],
}  # fmt: skip


@pytest.mark.parametrize(
    "text",
    [
        "norm == 'scn'",
        "not (norm == 'scn' and loss.kl >= 1e-4)",
        "norm != 'scn' or loss.kl < 1",
        "1e-5 < loss.kl <= 1e-4 or model.mid_attention",
        "norm in ['group'] and norm not in ('scn',)",
        "model.channels == [8, 16] or model.mid_attention == True",
        "stages['fine-tune'].steps > -1 and norm.interp != 'bilinear'",
    ],
)
def test_constraints_mean_what_python_means(text: str) -> None:
    constraint = read_constraint(text, FACTORS)
    plain = text.replace("norm.interp", "interp").replace("loss.kl", "kl").replace("model.channels", "channels")
    plain = plain.replace("model.mid_attention", "attention").replace("stages['fine-tune'].steps", "steps")
    code = compile(plain, "truth", "eval")
    names = ["norm", "kl", "channels", "attention", "steps", "interp"]
    verdicts = []
    for values in itertools.product(*FACTORS.values()):
        given = dict(zip(names, values, strict=True)) | {"channels": list(values[2])}
        truth = eval(code, {}, given)
        verdicts.append(truth)
        assert bool(constraint.holds(dict(zip(FACTORS, values, strict=True)))) is bool(truth), given
    assert len(set(verdicts)) == 2


def test_what_does_not_exist_is_in_no_order_and_levels_with_settings_go_by_name() -> None:
    assert not read_constraint("a.b < 3", {"a.b": [None, 1, 2]}).holds({"a.b": None})
    assert not read_constraint("a.b >= 3", {"a.b": [None, 1, 2]}).holds({"a.b": None})
    known = {"norm": ["group", {"level": "scn", "interp": "bilinear"}]}
    assert read_constraint("norm == 'scn'", known).holds({"norm": {"level": "scn", "interp": "bilinear"}})
    assert read_constraint("x == null or x == true", {"x": [None, True, False]}).holds({"x": None})


@pytest.mark.parametrize(
    ("text", "offset", "words"),
    [
        ("nrom == 'scn'", 0, "unknown factor 'nrom'; did you mean 'norm'?"),
        ("norm == scn", 8, "unknown factor 'scn'; write a level in quotes: 'scn'"),
        ("norm == 'snc'", 8, "'norm' has no level 'snc' in this study; did you mean 'scn'? (valid: group, scn)"),
        ("norm in ['scn', 'gruop']", 8, "no level 'gruop' in this study; did you mean 'group'?"),
        ("norm == 'scn' and loss.lk > 1", 18, "unknown factor 'loss.lk'; did you mean 'loss.kl'?"),
        ("norm > 3", 0, "compare numbers, found 'group'"),
        ("loss.kl + 1 > 3", 0, "'loss.kl + 1' is neither a factor nor a constant"),
        ("__import__('os').system('true')", 0, "is no condition"),
        ("norm.__class__ == 'scn'", 0, "unknown factor 'norm.__class__'"),
        ("(lambda: 1)() == 1", 0, "neither a factor nor a constant"),
        ("norm", 0, "'norm' is compared with nothing"),
        ("norm is 'scn'", 0, "compare with == or !="),
        ("norm in 'scn'", 8, "'in' needs a list on its right"),
        ("norm == 'scn' and", 0, "not an expression: invalid syntax"),
        ("norm = 'scn'", 5, "not an expression"),
        ("not " * 5000 + "norm == 'scn'", 0, "nested too deeply"),
    ],
)
def test_what_is_refused(text: str, offset: int, words: str) -> None:
    with pytest.raises(ConstraintError) as caught:
        read_constraint(text, FACTORS)
    assert words in str(caught.value)
    assert caught.value.offset == offset


def study_text(design: str, *where: str) -> list[tuple[str, str]]:
    factors = "loss.kl: [1, 1e-4]\n  norm: [group, scn]\n  padding: [reflect, zeros]"
    lines = "".join(f"  - {text}\n" for text in where)
    return [("loss.kl: [1, 1e-4]", factors), ("seeds: 2\n", f"design: {design}\nwhere:\n{lines}seeds: 2\n")]


def test_treatments_that_fail_are_left_out(write_study: Write) -> None:
    study = load_study(write_study(*study_text("grid", "not (norm == 'scn' and padding == 'zeros')", "loss.kl <= 1")))
    labels = [row.label for row in treatments(study)]
    assert labels == ["baseline", "padding=zeros", "norm=scn", "kl=1", "kl=1 padding=zeros", "kl=1 norm=scn"]
    said = [text for text in describe_contrasts(study, list_rows(study)) if "leaves out" in text]
    assert said[0].startswith("'not (norm == 'scn' and padding == 'zeros')' leaves out 2: ")
    assert len(said) == 1


@pytest.mark.parametrize(
    ("design", "where", "place", "words"),
    [
        ("grid", "norm == 'snc'", "15:13", "where: 'norm' has no level 'snc'"),
        ("grid", "\"nrom == 'scn'\"", "15:6", "unknown factor 'nrom'; did you mean 'norm'?"),
        ("grid", "norm == 'scn'", "15:5", "where: the baseline itself is left out by 'norm == 'scn''"),
        ("one_at_a_time", "loss.kl < 1 and norm == 'group' and padding != 'zeros'", "15:5",
         "nothing is left but the baseline"),
        ("ladder", "not (norm == 'scn' and padding == 'reflect')", "15:5",
         "design 'ladder' needs the treatment '+ norm=scn'"),
        ("leave_one_out", "not (norm == 'scn' and padding == 'zeros')", "15:5",
         "design 'leave_one_out' needs the treatment 'all'"),
        ("fraction\nfraction: {runs: 4}", "not (norm == 'scn' and loss.kl == 1)", "16:5",
         "design 'fraction' needs the treatment 'kl=1 norm=scn'"),
    ],
)  # fmt: skip
def test_constraints_that_leave_no_design(write_study: Write, design: str, where: str, place: str, words: str) -> None:
    with pytest.raises(StudyError) as caught:
        treatments(load_study(write_study(*study_text(design, where))))
    (problem,) = caught.value.problems
    assert f"{problem.line}:{problem.column}" == place
    assert words in problem.message
    assert problem.source.strip().startswith("- ")


def test_two_constraints_that_contradict_each_other_name_the_one_that_takes_most(write_study: Write) -> None:
    path = write_study(*study_text("one_at_a_time", "loss.kl < 1", "norm == 'group' and padding == 'reflect'"))
    with pytest.raises(StudyError, match="nothing is left but the baseline; 2 treatments are left out by 'norm == "):
        treatments(load_study(path))


def test_a_missing_removal_is_only_left_out(write_study: Write) -> None:
    rows = treatments(load_study(write_study(*study_text("leave_one_out", "loss.kl == 1 or norm == 'group'"))))
    assert [row.label for row in rows] == ["baseline", "all", "w/o norm=scn", "w/o padding=zeros"]
