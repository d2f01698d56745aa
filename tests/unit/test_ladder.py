"""Ladder and leave-one-out, from the study to the table: rows, references, effects that were planted, what is said."""

import csv
import io
import json
import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from scipy import stats

from ablate.adaptive.recall import plan_study
from ablate.analysis.statistics.chance import expected_best, expected_best_change
from ablate.analysis.statistics.effects import analyse, holm
from ablate.analysis.tables.build import build_table
from ablate.analysis.tables.table import Table
from ablate.driver.overview import summarise
from ablate.driver.plan_text import print_plan
from ablate.plan.estimable import describe_contrasts
from ablate.plan.treatments import Treatment, list_rows, treatments
from ablate.plan.trials import expand
from ablate.slots.settings import Metric
from ablate.store.folders import Store
from ablate.study.study import Study, load_study
from tests.support.finished import finish
from tests.support.simulated import compare, noise_of
from tests.support.studies import Write
from tests.support.typeset import compiled, lint

Designed = Callable[[str, int], Study]


PSNR = Metric("psnr", "dB", "up")


BIAS = Metric("bias", "gl", "target", target=0.0)


FACTORS = (
    "loss.kl: [1e-4, 1]", "norm: [group, scn]", "padding: [zeros, reflect]", "loss.l2: [1, 2]",
    "stages.train.lr: [1e-3, 3e-3]",
)  # fmt: skip


BOTH = "[ladder, leave_one_out]"


@pytest.fixture
def designed(write_study: Write) -> Designed:
    """A study of the first `k` factors with a design and three seeds."""

    def read(design: str, k: int) -> Study:
        factors = "".join(f"  {factor}\n" for factor in FACTORS[:k])
        old = "factors:\n  loss.kl: [1, 1e-4]\nseeds: 2\n"
        return load_study(write_study((old, f"design: {design}\nfactors:\n{factors}seeds: 3\n")))

    return read


def test_each_rung_of_a_ladder_adds_to_the_one_before(designed: Designed) -> None:
    rows = treatments(designed("ladder", 3))
    assert [(row.label, row.reference, row.design) for row in rows] == [
        ("baseline", None, None),
        ("+ kl=1", "baseline", "ladder"),
        ("+ norm=scn", "+ kl=1", "ladder"),
        ("+ padding=zeros", "+ norm=scn", "ladder"),
    ]
    assert rows[2].changed == {"loss.kl": 1, "norm": "scn"}
    assert rows[2].levels == {"loss.kl": 1, "norm": "scn", "padding": "reflect"}
    assert rows[3].recipe.value("padding") == "zeros"


def test_leave_one_out_takes_each_factor_back_from_all(designed: Designed) -> None:
    rows = treatments(designed("leave_one_out", 3))
    assert [(row.label, row.reference, list(row.changed)) for row in rows] == [
        ("baseline", None, []),
        ("all", "baseline", ["loss.kl", "norm", "padding"]),
        ("w/o kl=1", "all", ["norm", "padding"]),
        ("w/o norm=scn", "all", ["loss.kl", "padding"]),
        ("w/o padding=zeros", "all", ["loss.kl", "norm"]),
    ]


@pytest.mark.parametrize("k", [1, 2, 3, 4, 5])
def test_rows_that_two_designs_share_appear_once(designed: Designed, k: int) -> None:
    designs = ["ladder", "leave_one_out", BOTH, "[leave_one_out, ladder]"]
    assert [len(treatments(designed(design, k))) for design in designs] == [k + 1, k + 2 if k > 1 else 2, 2 * k, 2 * k]
    rows = treatments(designed(BOTH, k))
    assert len({row.label for row in rows}) == len({str(row.recipe.plain()) for row in rows}) == 2 * k
    assert rows[k].aliases == ("all",)
    assert rows[k - 1].aliases == (f"w/o {rows[k].label.removeprefix('+ ')}",)  # all less the last is the rung before
    assert [row.reference for row in rows[1 : k + 1]] == [row.label for row in rows[:k]]
    assert {row.reference for row in rows[k + 1 :]} <= {rows[k].label}


def test_the_first_design_keeps_the_row_and_its_reference(designed: Designed) -> None:
    found = {row.label: row for row in treatments(designed("[one_at_a_time, leave_one_out]", 2))}
    assert {row.reference for row in found.values()} == {None, "baseline"}
    assert list(found) == ["baseline", "kl=1", "norm=scn", "all"]
    assert (found["kl=1"].design, found["kl=1"].aliases) == ("one_at_a_time", ("w/o norm=scn",))


@pytest.mark.parametrize("design", ["one_at_a_time", "grid"])
def test_other_designs_measure_against_the_baseline(designed: Designed, design: str) -> None:
    assert {(row.reference, row.aliases) for row in treatments(designed(design, 3))[1:]} == {("baseline", ())}


def test_a_design_changes_no_signature(designed: Designed) -> None:
    known = {trial.signature for trial in expand(designed("grid", 3))}
    assert {trial.signature for trial in expand(designed(BOTH, 3))} < known


def test_a_design_is_a_list_of_one(designed: Designed) -> None:
    assert designed("ladder", 2).designs == designed("[ladder]", 2).designs == ("ladder",)


def test_a_ladder_need_not_name_the_level_of_the_baseline(write_study: Write) -> None:
    study = load_study(write_study(("loss.kl: [1, 1e-4]", "loss.kl: [1]"), ("factors:", "design: ladder\nfactors:")))
    assert [row.label for row in treatments(study)] == ["baseline", "+ kl=1"]


def test_first_seeds_of_all_references_come_early(designed: Designed) -> None:
    names = [trial.name for trial in expand(designed("leave_one_out", 2))]
    assert names[:6] == ["baseline s0", "baseline s1", "baseline s2", "all s0", "w/o kl=1 s0", "w/o norm=scn s0"]


def contrasts_of(study: Study) -> list[str]:
    return describe_contrasts(study, list_rows(study))


def test_contrasts_say_what_cannot_be_told(designed: Designed) -> None:
    ladder, out, hint, lost = contrasts_of(designed(BOTH, 3))
    assert ladder.endswith("given those before it; not what another order shows, no interactions")
    assert out == "effect of each removal from the full recipe; not of a factor alone, no interactions"
    assert hint == "a factor whose effect differs in size between these designs interacts with others"
    assert lost == "no comparison of '+ padding=zeros' with 'baseline': it is compared with '+ norm=scn' instead"
    assert contrasts_of(designed("ladder", 3)) == [ladder]
    assert contrasts_of(designed("leave_one_out", 3)) == [out]
    assert contrasts_of(designed("[leave_one_out, ladder]", 3))[3:] == [
        "no comparison of 'w/o padding=zeros' with '+ kl=1': it is compared with 'all' instead"
    ]


def test_the_plan_names_references_where_not_all_are_the_baseline(designed: Designed, tmp_path: Path) -> None:
    def shown(design: str) -> list[list[str]]:
        study, text = designed(design, 2), io.StringIO()
        plan = plan_study(study, Store(tmp_path))
        print_plan(plan, summarise(plan), Console(width=120, file=text))
        return [re.split(" {2,}", line.strip()) for line in text.getvalue().splitlines()]

    both = shown(BOTH)
    assert ["treatment", "against", "loss.kl", "norm"] in both
    assert ["+ norm=scn (all)", "+ kl=1", "1", "scn"] in both
    assert ["w/o kl=1", "+ norm=scn", "·", "scn"] in both
    assert any("design ladder + leave_one_out" in line[0] for line in both)
    assert ["treatment", "loss.kl", "norm"] in shown("one_at_a_time")


def frame(rows: list[Treatment], truth: Callable[[Treatment], float], noise: float, seeds: int) -> pd.DataFrame:
    """What trials would have measured: the truth, a part that all treatments of a seed share, and noise."""
    rng = np.random.default_rng(1)
    common = rng.normal(0, 3, seeds)
    table = [
        {"treatment": row.label, "seed": s, "status": "done", "psnr": truth(row) + common[s] + noise * rng.normal()}
        for row in rows
        for s in range(seeds)
    ]
    return pd.DataFrame(table)


def references(rows: list[Treatment]) -> dict[str, str]:
    return {row.label: row.reference for row in rows if row.reference}


SIZES = {"loss.kl": 2.0, "norm": -0.7, "padding": 0.3, "loss.l2": 1.1, "stages.train.lr": 0.0}


def additive(row: Treatment) -> float:
    return 20 + sum(SIZES[path] for path in row.changed)


@pytest.mark.parametrize("design", ["ladder", "leave_one_out", BOTH, "[leave_one_out, ladder]"])
def test_both_contrasts_recover_additive_effects(designed: Designed, design: str) -> None:
    rows = treatments(designed(design, 5))
    found = analyse(frame(rows, additive, 0.05, 40), {"psnr": PSNR}, "psnr", references(rows)).effects
    by_label = {row.label: row for row in rows}
    for row in rows[1:]:
        change = found[row.label]["psnr"].change
        truth = additive(row) - additive(by_label[row.reference or ""])
        assert change.mean == pytest.approx(truth, abs=0.05)
        moved = row.changed.keys() ^ by_label[row.reference or ""].changed.keys()
        assert len(moved) == 1 or row.label == "all"
        sign = -1 if row.label.startswith("w/o") else 1
        assert change.mean == pytest.approx(sign * sum(SIZES[path] for path in moved), abs=0.05)


def test_addition_and_removal_differ_by_a_planted_interaction(designed: Designed) -> None:
    rows = treatments(designed(BOTH, 3))
    joint = {"loss.kl", "padding"}
    data = frame(rows, lambda row: additive(row) + 0.8 * (joint <= row.changed.keys()), 0.05, 40)
    found = analyse(data, {"psnr": PSNR}, "psnr", references(rows)).effects
    added, removed = found["+ kl=1"]["psnr"].change, found["w/o kl=1"]["psnr"].change
    assert added.mean == pytest.approx(2.0, abs=0.05)
    assert -removed.mean - added.mean == pytest.approx(0.8, abs=0.05)
    assert found["w/o norm=scn"]["psnr"].change.mean == pytest.approx(0.7, abs=0.05)


ARMS = {
    "baseline": {0: 20.0, 1: 21.0, 2: 22.5},
    "a": {0: 21.0, 1: 22.1, 2: 23.45},
    "b": {0: 21.2, 1: 22.9, 2: 23.1},
    "c": {1: 24.0, 2: 24.9},
}


STEPS = {"a": "baseline", "b": "a", "c": "b"}


def test_changes_are_scipys_against_the_reference_and_holm_is_over_all() -> None:
    found = compare(PSNR, ARMS, STEPS, primary=True)
    p = {}
    for label, reference in STEPS.items():
        seeds = sorted(ARMS[label].keys() & ARMS[reference].keys())
        truth = stats.ttest_rel(*([ARMS[side][seed] for seed in seeds] for side in (label, reference)))
        assert found[label].change.n == len(seeds)
        assert (found[label].change.low, found[label].change.high) == pytest.approx(truth.confidence_interval(0.95))
        p[label] = truth.pvalue
    assert [found[label].p_holm for label in STEPS] == pytest.approx(holm(list(p.values())))


def test_a_distance_to_a_target_is_compared_with_the_references() -> None:
    values = {"baseline": [-2.0, -2.1, -1.9], "a": [0.3, 0.32, 0.31], "b": [-0.9, -0.88, -0.91]}
    found = compare(BIAS, {label: dict(enumerate(row)) for label, row in values.items()}, {"b": "a"}, primary=True)
    assert (found["a"].verdict, found["b"].verdict) == ("better", "worse")
    assert found["b"].change.mean == pytest.approx(0.5867, abs=1e-4)


def test_without_references_all_is_against_the_baseline_to_the_last_digit() -> None:
    every = dict.fromkeys(STEPS, "baseline")
    assert compare(PSNR, ARMS, every, primary=True) == compare(PSNR, ARMS, primary=True)
    assert noise_of(PSNR, ARMS, every) == noise_of(PSNR, ARMS)


def test_the_best_change_by_chance_has_its_closed_forms() -> None:
    """Two rungs: the maximum of two normal numbers of variance 2 and covariance -1 is sqrt(6 / 2 pi) on average."""
    assert expected_best_change({"a": "baseline", "b": "a"}) == pytest.approx(math.sqrt(3 / math.pi), abs=0.01)
    assert expected_best_change({"a": "baseline", "b": "baseline", "c": "baseline"}) == expected_best(3)
    assert expected_best_change({"a": "baseline"}) == pytest.approx(0, abs=1e-9)
    alone = expected_best_change({"a": "x", "b": "y"})  # nothing shared: sqrt(2) times the best of two
    assert alone == pytest.approx(math.sqrt(2 / math.pi), abs=0.01)


@pytest.mark.parametrize("design", ["ladder", "leave_one_out"])
def test_noise_is_that_of_the_pairs_with_the_references(designed: Designed, design: str) -> None:
    """Many studies in which nothing has an effect: the common part is of sd 3, each treatment's own of sd 1."""
    rows = treatments(designed(design, 4))
    rng, labels = np.random.default_rng(6), [row.label for row in rows]
    values = rng.normal(0, 3, (4000, 1, 3)) + rng.normal(0, 1, (4000, len(rows), 3))
    before = [labels.index(row.reference or "") for row in rows[1:]]
    shown = (values[:, 1:] - values[:, before]).mean(axis=2).max(axis=1).mean()
    studies = [dict(zip(labels, map(dict, map(enumerate, study)), strict=True)) for study in values[:100].tolist()]
    found = [noise_of(PSNR, arms, references(rows)) for arms in studies]
    assert found[0].comparisons == len(rows) - 1
    assert np.mean([noise.chance_gain for noise in found]) == pytest.approx(shown, rel=0.08)
    assert np.mean([noise.sd for noise in found]) == pytest.approx(math.sqrt(2), rel=0.08)


def test_the_correlation_is_with_the_reference() -> None:
    """A walk: each rung equals the one before but for a little, and has next to nothing of the baseline."""
    rng = np.random.default_rng(2)
    own = rng.normal(0, 1, 3000)
    arms = {"baseline": rng.normal(0, 1, 3000), "a": own, "b": own + rng.normal(0, 0.1, 3000)}
    by_seed = {label: dict(enumerate(line.tolist())) for label, line in arms.items()}
    assert noise_of(PSNR, by_seed, {"b": "a"}).correlation == pytest.approx(0.5, abs=0.02)
    assert noise_of(PSNR, by_seed).correlation == pytest.approx(0, abs=0.03)


RESULTS: Mapping[str, list[float]] = {
    "baseline": [24.1, 24.5, 24.9], "+ kl=1": [20.0, 20.5, 20.8], "+ norm=scn": [21.0, 21.4, 21.9],
    "+ padding=zeros": [20.9, 21.5, 21.8], "w/o kl=1": [25.0, 25.2, 25.9], "w/o norm=scn": [19.9, 20.1, 20.6],
}  # fmt: skip


def fill(study: Study, store: Store, results: Mapping[str, list[float]]) -> Table:
    """Finish the trials that have results."""
    for trial in expand(study):
        if trial.treatment.label in results:
            values = {"psnr": results[trial.treatment.label][trial.seed]}
            finish(store, trial, values)
    return build_table(plan_study(study, store))


def cells(table: Table) -> list[list[str]]:
    lines = [line for line in table.markdown().splitlines() if line.startswith("|")]
    assert len({len(line) for line in lines}) == 1
    return [[" ".join(cell.split()) for cell in line.strip("|").split("|")] for line in lines]


def test_markdown_groups_rows_by_design(designed: Designed, tmp_path: Path) -> None:
    table = fill(designed(BOTH, 3), Store(tmp_path), RESULTS)
    rows = cells(table)
    assert rows[0][:4] == ["group", "treatment", "PSNR (dB) ↑", "Δ [95 % CI]"]
    assert [row[:2] for row in rows[2:]] == [
        ["", "baseline"],
        ["ladder", "+ kl 1"],
        ["", "+ norm SCN (w/o padding=zeros)"],
        ["", "+ padding zeros (all)"],
        ["leave one out", "w/o kl 1"],
        ["", "w/o norm SCN"],
    ]
    assert [row[3].split(" ")[0] for row in rows[3:]] == ["−4.07", "+1.00", "−0.03", "+3.97", "−1.20"]
    for words in [
        "Δ is the difference from the baseline (for later rungs of the ladder, from the previous rung; for rows w/o a "
        "factor, from the row “all”), paired by seed, with its 95 % interval",
        "A name in brackets is that of the same treatment in another design; Δ refers to the name before the brackets.",
        "Holm’s correction for 5 comparisons",
        "Baseline: loss.kl 0.0001, norm GroupNorm, padding reflect.",
    ]:
        assert words in table.markdown()


def test_each_design_alone_has_one_group(designed: Designed, tmp_path: Path) -> None:
    ladder = fill(designed("ladder", 3), Store(tmp_path), RESULTS)
    assert [row[0] for row in cells(ladder)[2:]] == ["", "ladder", "", ""]
    assert "for rows w/o" not in ladder.markdown() and "name in brackets" not in ladder.markdown()
    out = fill(designed("leave_one_out", 3), Store(tmp_path), {})
    assert [row[:2] for row in cells(out)[2:5]] == [["", "baseline"], ["leave one out", "all"], ["", "w/o kl 1"]]
    assert "rung" not in out.markdown()


def test_a_factors_group_loses_what_an_earlier_design_shows(designed: Designed, tmp_path: Path) -> None:
    table = fill(designed("[ladder, one_at_a_time, grid]", 2), Store(tmp_path), {})
    assert [row[:2] for row in cells(table)[2:]] == [
        ["", "baseline"], ["ladder", "+ kl 1"], ["", "+ norm SCN"], ["norm", "SCN"]
    ]  # fmt: skip
    table = fill(designed("[ladder, grid]", 3), Store(tmp_path), {})
    assert ["grid", "padding zeros"] in [row[:2] for row in cells(table)]
    assert ["", "norm SCN, padding zeros"] in [row[:2] for row in cells(table)]


def test_one_seed_still_says_what_the_difference_is_from(designed: Designed, tmp_path: Path) -> None:
    study = designed("ladder", 2)
    path = tmp_path / "one.yaml"
    path.write_text(study.document.text.replace("seeds: 3", "seeds: 1"), encoding="utf-8")
    text = fill(load_study(path), Store(tmp_path), RESULTS).markdown()
    assert "One seed: no spread, no interval.\nΔ is the difference from the baseline (for later rungs" in text


def test_json_and_csv_name_the_reference(designed: Designed, tmp_path: Path) -> None:
    table = fill(designed(BOTH, 3), Store(tmp_path), RESULTS)
    rows = json.loads(json.dumps(table.json(), allow_nan=False))["rows"]
    expected = [None, "baseline", "+ kl=1", "+ norm=scn", "+ padding=zeros", "+ padding=zeros"]
    assert [row["reference"] for row in rows] == expected
    truth = stats.ttest_rel(RESULTS["w/o kl=1"], RESULTS["+ padding=zeros"])
    cell = rows[4]["cells"]["psnr"]
    assert [cell["low"], cell["high"], cell["p"]] == pytest.approx([*truth.confidence_interval(0.95), truth.pvalue])
    written = list(csv.DictReader(io.StringIO(table.csv())))
    as_text = [f"'{name}" if name.startswith("+") else name for name in expected[1:] if name]  # no formulas
    assert [row["reference"] for row in written] == ["", *as_text]
    assert float(written[4]["psnr low"]) == cell["low"]


@pytest.mark.parametrize("design", [BOTH, "ladder", "leave_one_out", "[one_at_a_time, leave_one_out]"])
def test_latex_compiles_with_booktabs_alone(designed: Designed, design: str, tmp_path: Path) -> None:
    study = designed(design, 5)
    results = {row.label: [20.0 + i, 20.5 + i, 20.7 + i] for i, row in enumerate(treatments(study))}
    tex = fill(study, Store(tmp_path / "store"), results).latex()
    lint(tex)
    text, log = compiled(tex, tmp_path)
    assert "Overfull" not in log
    heads = {"ladder": "ladder", "leave_one_out": "leave one out", "one_at_a_time": "norm (baseline GroupNorm)"}
    for name in study.designs:
        assert re.search(rf"^ *{re.escape(heads[name])}$", text, re.MULTILINE)
    if "ladder" in study.designs:
        assert re.search(r"^ *\+ norm SCN +21?2\.\d", text, re.MULTILINE)
    if "leave_one_out" in study.designs:
        assert re.search(r"^ *w/o norm SCN +2\d\.\d", text, re.MULTILINE)
