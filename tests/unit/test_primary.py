"""A metric for each factor: reading it, errors with their place, and the comparisons that it plans."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from ablate.adaptive.recall import plan_study
from ablate.analysis.statistics.effects import holm
from ablate.analysis.tables.build import build_table
from ablate.errors import StudyError
from ablate.plan.planned import judged_by
from ablate.plan.treatments import treatments
from ablate.plan.trials import expand
from ablate.store.folders import Store
from ablate.study.study import Study, load_study
from tests.support.command import ablate
from tests.support.finished import finish
from tests.support.studies import Write

FACTORS = ("factors:\n", "factors:\n  padding: [reflect, zeros]\n  norm: [group, scn]\n")

PROBES = ("probes: [reconstruction]", "probes: [reconstruction, grid, border]")

EACH = "primary: {padding: border/excess_b4, loss.kl: psnr, norm: grid/nat_fold}"

REST = "primary: {padding: border/excess_b4, default: psnr}"


def study(write_study: Write, primary: str, design: str = "one_at_a_time", *more: tuple[str, str]) -> Study:
    return load_study(write_study(FACTORS, PROBES, ("primary: psnr", f"{primary}\ndesign: {design}"), *more))


def test_one_metric_is_the_old_form_and_a_mapping_of_the_default_is_the_same(write_study: Write) -> None:
    plain, mapped = study(write_study, "primary: psnr"), study(write_study, "primary: {default: psnr}")
    assert (plain.primary, plain.primary_of) == (mapped.primary, mapped.primary_of) == ("psnr", {})


@pytest.mark.parametrize(
    ("primary", "design", "expected"),
    [
        (EACH, "one_at_a_time", {"padding=zeros": "border/excess_b4", "norm=scn": "grid/nat_fold", "kl=1": "psnr"}),
        (REST, "one_at_a_time", {"padding=zeros": "border/excess_b4", "norm=scn": "psnr", "kl=1": "psnr"}),
        (EACH, "ladder", {"+ padding=zeros": "border/excess_b4", "+ norm=scn": "grid/nat_fold", "+ kl=1": "psnr"}),
        (REST, "leave_one_out", {"all": "psnr", "w/o padding=zeros": "border/excess_b4", "w/o norm=scn": "psnr",
                                 "w/o kl=1": "psnr"}),
        (REST, "grid", {"padding=zeros": "border/excess_b4", "padding=zeros norm=scn": "psnr", "norm=scn": "psnr"}),
    ],
)  # fmt: skip
def test_a_treatment_is_judged_by_the_metric_of_the_factor_that_changes(
    write_study: Write, primary: str, design: str, expected: dict[str, str]
) -> None:
    read = study(write_study, primary, design)
    found = judged_by(read, treatments(read))
    assert {label: found[label] for label in expected} == expected
    assert set(found.values()) <= {*read.primary_of.values(), read.primary}


@pytest.mark.parametrize(
    ("primary", "design", "words"),
    [
        ("primary: {padding: psnr, nrm: psnr, default: psnr}", "ladder",
         "26: primary: the study does not vary 'nrm'; did you mean 'norm'?"),
        ("primary: {data.crop: psnr, default: psnr}", "ladder", "11: primary: the study does not vary 'data.crop'"),
        ("primary: {padding: psrn, default: psnr}", "ladder",
         "20: primary.padding: none of the probes reports 'psrn'; did you mean 'psnr'?"),
        ("primary: {padding: psnr}", "ladder",
         "1: primary: the key 'default' is missing; it is the metric of norm, loss.kl, without one of their own"),
        (EACH, "grid", "1: primary: the key 'default' is missing; it is the metric of treatments in which several"),
        ("primary: {loss.kl: psnr, loss.kl.weight: ssim, default: psnr}", "ladder",
         "26: primary: 'loss.kl.weight' is 'loss.kl', which has a metric already"),
        ("primary: {}", "ladder", "10: primary: expected a metric, or a mapping"),
        ("primary: {padding: 3, default: psnr}", "ladder", "20: primary.padding: expected text, found 3"),
        ("primary: [psnr]", "ladder", "10: primary: expected text, found ['psnr']"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_at_its_place(write_study: Write, primary: str, design: str, words: str) -> None:
    with pytest.raises(StudyError) as caught:
        study(write_study, primary, design)
    (problem,) = caught.value.problems
    assert f"{problem.column}: {problem.message}".startswith(words)


def test_the_schema_knows_both_forms() -> None:
    done = ablate("schema")
    forms = json.loads(done.stdout)["properties"]["primary"]
    assert {one["type"] for one in forms.get("oneOf", forms.get("anyOf"))} == {"string", "object"}


def fill(read: Study, store: Store) -> None:
    """Each factor moves its own metric; each trial has its own noise in each metric."""
    for trial in expand(read):
        rng = np.random.default_rng([trial.seed, sum(map(ord, trial.treatment.label))])
        levels = trial.treatment.levels
        a, b, c = rng.normal(0, 0.1, 3)
        border = 0.1 + (levels["padding"] == "zeros") * 4
        metrics = {"psnr": 20 - 3 * (levels["loss.kl"] == 1) + a, "border/excess_b4": border + b}
        finish(store, trial, {**metrics, "grid/nat_fold": 0.5 + c, "ssim": 0.5})


def test_each_row_is_tested_in_its_metric_and_all_are_corrected_together(write_study: Write, tmp_path: Path) -> None:
    read, store = study(write_study, EACH, "one_at_a_time", ("seeds: 2", "seeds: 3")), Store(tmp_path / "store")
    fill(read, store)
    table = build_table(plan_study(read, store))
    found = {row["label"]: row for row in table.json()["rows"][1:]}
    planned = {label: row["cells"][row["judged_by"]] for label, row in found.items()}
    assert {label: row["judged_by"] for label, row in found.items()} == {
        "padding=zeros": "border/excess_b4", "norm=scn": "grid/nat_fold", "kl=1": "psnr"
    }  # fmt: skip
    assert [cell["p_holm"] for cell in planned.values()] == pytest.approx(
        holm([cell["p"] for cell in planned.values()])
    )
    others = [cell for row in found.values() for name, cell in row["cells"].items() if name != row["judged_by"]]
    assert {cell["p_holm"] for cell in others} == {None}
    assert (planned["padding=zeros"]["verdict"], planned["kl=1"]["verdict"]) == ("worse", "worse")
    text = table.markdown()
    for words in ("judged by", "Border error 4 px (gl)", "Grid (gl)",
                  "Holm’s correction for 3 comparisons", "In Border error 4 px, 3 paired seeds detect"):  # fmt: skip
        assert words in text
    assert "distance to the target" in table.html() and r"Delta" in table.latex()


def test_main_effects_of_a_grid_are_planned_in_the_metric_of_their_factor(write_study: Write, tmp_path: Path) -> None:
    read, store = study(write_study, REST, "grid", ("seeds: 2", "seeds: 3")), Store(tmp_path / "store")
    fill(read, store)
    table = build_table(plan_study(read, store))
    terms = {
        (metric, *term["factors"]): term
        for metric, found in table.json()["factorial"].items()
        for term in found["terms"]
    }
    corrected = {key for key, term in terms.items() if term["p_holm"] is not None}
    pairs = {("psnr", "padding", "norm"), ("psnr", "padding", "loss.kl"), ("psnr", "norm", "loss.kl")}
    assert corrected == {("border/excess_b4", "padding"), ("psnr", "norm"), ("psnr", "loss.kl"), *pairs}
    adjusted = holm([terms[key]["p"] for key in sorted(corrected)])
    assert [terms[key]["p_holm"] for key in sorted(corrected)] == pytest.approx(adjusted)
    assert not any(math.isnan(p) for p in adjusted)
    text = table.markdown()
    assert "(not planned)" in text and "corrected for 6 tests by Holm’s method, the main effect of each factor" in text
    only = build_table(plan_study(read, store), ["psnr"]).json()["factorial"]
    assert list(only) == ["psnr"] and only["psnr"] == table.json()["factorial"]["psnr"], "whichever metric is shown"
    with pytest.raises(ValueError, match="names several: border/excess_b4, psnr"):
        build_table(plan_study(read, store), unpaired=True)
