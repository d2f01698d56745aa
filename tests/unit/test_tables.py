"""Tables of real studies whose records hold known numbers, in all forms; LaTeX is linted, compiled and read back."""

import csv
import io
import json
import math
import re
from collections.abc import Mapping
from pathlib import Path

import pytest
from scipy import stats

from ablate.adaptive.recall import plan_study
from ablate.analysis.statistics.ranks import rank
from ablate.analysis.tables.build import build_table
from ablate.analysis.tables.table import Table
from ablate.analysis.typeset.cells import Level, enough_decimals, numeral
from ablate.analysis.typeset.latex_text import escape, level
from ablate.plan.trials import expand
from ablate.slots import registry
from ablate.slots.settings import Metric
from ablate.store.folders import Store
from ablate.store.record import Record
from ablate.study.study import Study, load_study
from tests.support.command import python
from tests.support.finished import finish
from tests.support.studies import Write
from tests.support.typeset import compiled, lint

Values = Mapping[str, Mapping[str, list[float]]]


FACTORS = "loss.kl: [1, 1e-4, 1e-2]\n  norm: [group, scn]"


SEEDS = ("seeds: 2", "seeds: 3")


PROBES = ("probes: [reconstruction]", "probes: [reconstruction, grid, border]")


RESULTS: Values = {
    "baseline": {"psnr": [24.1, 24.5, 24.9], "grid/nat_fold": [0.21, 0.22, 0.26], "border/excess_b4": [0.5, 0.6, 0.4]},
    "kl=1": {"psnr": [20.0, 20.5, 20.8], "grid/nat_fold": [0.41, 0.44, 0.46], "border/excess_b4": [-1.5, -1.3, -1.6]},
    "kl=0.01": {"psnr": [24.3, 24.4, 25.1], "grid/nat_fold": [0.20, 0.23, 0.26], "border/excess_b4": [0.1, 0.3, 0.2]},
}


def fill(study: Study, store: Store, results: Values) -> Table:
    """Finish the trials that have results; a value of -inf stands for a trial that diverged."""
    for trial in expand(study):
        values = {
            name: row[study.seeds.index(trial.seed)] for name, row in results.get(trial.treatment.label, {}).items()
        }
        status = "diverged" if -math.inf in values.values() else "done"
        if values:
            finish(store, trial, values, status)
    return build_table(plan_study(study, store))


@pytest.fixture
def study(write_study: Write) -> Study:
    return load_study(write_study(("loss.kl: [1, 1e-4]", FACTORS), SEEDS, PROBES))


@pytest.fixture
def table(study: Study, tmp_path: Path) -> Table:
    diverged = {name: [values[0] + 0.01, -math.inf, -math.inf] for name, values in RESULTS["baseline"].items()}
    return fill(study, Store(tmp_path / "store"), {**RESULTS, "norm=scn": diverged})


@pytest.mark.parametrize(
    ("low", "high", "digits"),
    [(0.3, 0.9, 2), (0.0012, 0.008, 3), (-0.03, -0.0003, 4), (1e-7, 1.0, 2), (-0.001, 0.5, 2), (0.0, 0.0, 2)],
)
def test_an_interval_that_excludes_0_is_not_printed_as_one_that_ends_there(
    low: float, high: float, digits: int
) -> None:
    assert enough_decimals(low, high, 2) == digits
    assert enough_decimals(math.nan, math.nan, 2) == 2


def test_markdown_is_aligned_and_says_everything(table: Table) -> None:
    lines = table.markdown().splitlines()
    assert lines[0] == "tiny: Does a strong KL weight cost PSNR?"
    rows = [line for line in lines if line.startswith("|")]
    assert len({len(row) for row in rows}) == 1
    cells = [[" ".join(cell.split()) for cell in row.strip("|").split("|")] for row in rows]
    assert cells[0][:5] == ["factor", "level", "PSNR (dB) ↑", "Δ [95 % CI]", "verdict"]
    assert cells[0][5:] == ["Grid (gl) ↓", "Border error 4 px (gl) →0", "n"]
    assert cells[2] == ["", "baseline", "_24.50_ ± 0.40", "", "", "**0.230** ± 0.026", "_0.50_ ± 0.10", "3"]
    assert cells[3][:3] == ["kl", "1", "20.43 ± 0.40"]
    assert cells[3][3:] == ["−4.07 [−4.21, −3.92]*", "worse", "_0.437_ ± 0.025*", "−1.47 ± 0.15*", "3"]
    assert cells[4][:3] == ["", "0.01", "**24.60** ± 0.44"]
    assert cells[4][4:] == ["no effect ≥ 0.5 dB", "**0.230** ± 0.030", "**0.20** ± 0.10*", "3"]
    assert cells[5] == ["norm", "SCN", "24.11", "+0.01", "diverges 2/3", "0.220", "0.51", "1 (div. 2/3)"]


def test_the_table_says_which_steps_the_treatments_share(write_study: Write, tmp_path: Path) -> None:
    base = "  - base: {steps: 4, batch: 2, lr: 3e-3, loss: {kl: 1e-4}}\n  - train: {steps: 6"
    study = load_study(write_study(("  - train: {steps: 6", base)))
    notes = fill(study, Store(tmp_path / "store"), {}).markdown()
    assert "4 + 6 steps, the first 4 of them shared by all treatments, on leaves, 16 px crops, measured on" in notes


@pytest.mark.parametrize(
    ("factor", "unlike"),
    [
        ("data.heldout_size: [32, 40]", "heldout_size=40"),
        ("data.resize_to: [128, 64]", "resize_to=64"),
        ("data.crop: [16, 24]", ""),
    ],
    ids=["size", "source", "training"],
)
def test_rows_that_are_measured_on_other_pictures_are_named(
    write_study: Write, tmp_path: Path, factor: str, unlike: str
) -> None:
    table = fill(load_study(write_study(("loss.kl: [1, 1e-4]", factor))), Store(tmp_path / "store"), {})
    warnings = [text for text in table.analysis.warnings if "other held-out pictures than the baseline" in text]
    assert [text.rpartition(": ")[2] for text in warnings] == ([unlike] if unlike else [])


def test_notes_say_what_the_numbers_are(table: Table) -> None:
    text = table.markdown()
    for words in [
        "Study tiny at scale base: 6 steps on leaves, 16 px crops, measured on 4 held-out crops of 32 px. Baseline: "
        "loss.kl 0.0001, norm GroupNorm.",
        "Mean ± standard deviation over n of 3 seeds",
        "paired by seed, with its 95 % interval by Student’s t in brackets",
        "for PSNR, a star also requires p < 0.05 after Holm’s correction for 3 comparisons",
        "For a metric with a target value (→), Δ, its interval and the test are of the distance to the target.",
        "12 trials: 10 done, 2 diverged; treatments with diverged trials are not ranked.",
        "In PSNR, the best of 2 treatments without effect would seem",
        "3 paired seeds detect a difference of",
        "(80 % power, 5 % two-sided, after Holm’s correction for 3 comparisons); the smallest effect of interest, 0.5",
        "Not judged, because the trials that are left are a selection by their results: norm=SCN (diverges 2/3).",
    ]:
        assert words in text


def test_json_has_its_shape_and_scipys_numbers(table: Table) -> None:
    found = json.loads(json.dumps(table.json(), allow_nan=False))
    assert found["baseline"] == {"loss.kl": 1e-4, "norm": "group"}
    assert found["claims"] == []
    assert [row["label"] for row in found["rows"]] == ["baseline", "kl=1", "kl=0.01", "norm=scn"]
    assert [row["n"] for row in found["rows"]] == [3, 3, 3, 1]
    assert found["rows"][3]["status"] == {"done": 1, "diverged": 2}
    assert found["rows"][3]["treatment"] == {"loss.kl": 1e-4, "norm": "scn"}
    truth = stats.ttest_rel(RESULTS["kl=1"]["psnr"], RESULTS["baseline"]["psnr"])
    low, high = truth.confidence_interval(0.95)
    cell = found["rows"][1]["cells"]["psnr"]
    assert cell["mean"] == pytest.approx(sum(RESULTS["kl=1"]["psnr"]) / 3)
    assert [cell["delta"], cell["low"], cell["high"]] == pytest.approx([low / 2 + high / 2, low, high])
    assert cell["p_holm"] == pytest.approx(3 * truth.pvalue), "the diverged treatment was planned too"
    assert cell["verdict"] == "worse"
    assert found["rows"][1]["cells"]["grid/nat_fold"]["p_holm"] is None
    assert found["rows"][1]["cells"]["grid/nat_fold"]["verdict"] == "worse"
    assert found["rows"][1]["cells"]["border/excess_b4"]["verdict"] == "worse"
    assert found["rows"][2]["cells"]["border/excess_b4"]["verdict"] == "better"
    assert found["rows"][0]["cells"]["psnr"] == {
        "n": 3, "mean": pytest.approx(24.5), "sd": pytest.approx(0.4), "pairs": 0, "delta": None, "low": None,
        "high": None, "p": None, "p_holm": None, "verdict": "baseline", "negligible": False,
    }  # fmt: skip
    assert set(found["rows"][0]["cells"]) == set(table.study.metrics)


def test_csv_keeps_full_precision(table: Table) -> None:
    rows = list(csv.DictReader(io.StringIO(table.csv())))
    assert [row["treatment"] for row in rows] == ["baseline", "kl=1", "kl=0.01", "norm=scn"]
    assert [row["norm"] for row in rows] == ["group", "group", "group", "scn"]
    assert [row["diverged"] for row in rows] == ["0", "0", "0", "2"]
    assert float(rows[1]["psnr low"]) == table.json()["rows"][1]["cells"]["psnr"]["low"]
    assert rows[0]["psnr delta"] == ""
    assert rows[1]["psnr verdict"] == "worse"


def test_unfinished_trials_are_counted_not_dropped(study: Study, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    scn = next(trial for trial in expand(study) if trial.treatment.label == "norm=scn" and trial.seed == 1)
    store.stage(scn.signature).root.mkdir(parents=True)
    store.stage(scn.signature).fail("ValueError: no", "trace")
    table = fill(study, store, {label: RESULTS[label] for label in ("baseline", "kl=1")})
    for text in (table.markdown(), table.latex()):
        assert "fail. 1/3, pend. 2/3" in text
        assert "pend. 3/3" in text
        assert "12 trials: 6 done, 1 failed, 5 pending; treatments with failed trials are not ranked." in text
    assert [row["n"] for row in table.json()["rows"]] == [3, 3, 0, 0]
    assert table.json()["rows"][2]["cells"]["psnr"]["mean"] is None


def test_one_seed_has_no_interval(write_study: Write, tmp_path: Path) -> None:
    study = load_study(write_study(("seeds: 2", "seeds: 1")))
    table = fill(study, Store(tmp_path / "store"), RESULTS)
    assert "One seed: no spread, no interval." in table.markdown()
    assert "±" not in table.markdown()
    cell = table.json()["rows"][1]["cells"]["psnr"]
    assert (cell["delta"], cell["low"], cell["verdict"]) == (pytest.approx(-4.1), None, "too few seeds")
    lint(table.latex())


def test_infinite_numbers_are_shown_and_null_in_json(study: Study, tmp_path: Path) -> None:
    table = fill(study, Store(tmp_path / "store"), {**RESULTS, "kl=1": {"psnr": [math.inf, 20.0, 20.0]}})
    row = table.json()["rows"][1]["cells"]
    assert (row["psnr"]["mean"], row["psnr"]["delta"], row["psnr"]["verdict"]) == (None, None, "not finite")
    assert "**∞**" in table.markdown()
    assert r"\textbf{$\infty$}" in table.latex()
    assert row["grid/nat_fold"]["mean"] is None


def test_a_value_over_fewer_seeds_than_its_row_says_so(study: Study, tmp_path: Path) -> None:
    holes = {**RESULTS["kl=1"], "grid/nat_fold": [0.4, math.nan, 0.5]}
    table = fill(study, Store(tmp_path / "store"), {**RESULTS, "kl=1": holes})
    assert re.search(r"0\.450.* ± 0\.071.*\(n=2\)", table.markdown())
    assert r"$\pm$0.071 (n=2)" in table.latex()


def test_metrics_are_chosen_by_name(study: Study, table: Table, tmp_path: Path) -> None:
    chosen = build_table(plan_study(study, Store(tmp_path / "store")), ["grid/nat_fold", "ssim"])
    assert list(chosen.json()["rows"][0]["cells"]) == ["grid/nat_fold", "ssim"]
    assert "PSNR (dB)" not in chosen.markdown()
    assert "SSIM ↑" in chosen.markdown()
    with pytest.raises(ValueError, match="unknown metric 'psrn'; did you mean 'psnr'"):
        build_table(plan_study(study, Store(tmp_path / "store")), ["psrn"])


@pytest.mark.parametrize(("design", "others"), [("grid", 5), ("fraction\nfraction: {runs: 5}", 4), ("list", 2)])
def test_other_designs_have_a_column_per_factor(design: str, others: int, write_study: Write, tmp_path: Path) -> None:
    listed = "design: list\ntreatments:\n  - {loss.kl: 1, norm: scn}\n  - {norm: scn}\n"
    text = listed if design == "list" else f"design: {design}\nfactors:\n  {FACTORS}\n"
    study = load_study(write_study(("factors:\n  loss.kl: [1, 1e-4]\n", text), SEEDS))
    table = fill(study, Store(tmp_path / "store"), {"kl=1 norm=scn": RESULTS["kl=1"], "baseline": RESULTS["baseline"]})
    rows = [line.split("|")[1:3] for line in table.markdown().splitlines() if line.startswith("| ")]
    assert [cell.strip() for cell in rows[0]] == ["kl", "norm"]
    assert [cell.strip() for cell in rows[2]] == ["0.0001", "GroupNorm"]
    assert ["1", "SCN"] in [[cell.strip() for cell in row] for row in rows]
    assert len(rows) == 2 + 1 + others
    assert len({tuple(row) for row in rows}) == len(rows)
    lint(table.latex())


@pytest.mark.parametrize(
    ("fingerprints", "mixed", "warning"),
    [
        (("now", "now", "now"), "", ""),
        (("then", "then", "then"), "", "the code of norm/group has changed since the trials were made"),
        (
            ("then", "now", "now"),
            "the trials were made by different versions of the code of norm/group",
            "different versions of the code of norm/group",
        ),
    ],
)
def test_code_that_differs_is_told(
    study: Study, tmp_path: Path, fingerprints: tuple[str, ...], mixed: str, warning: str
) -> None:
    store, now = Store(tmp_path / "store"), registry.level("norm", "group").fingerprint
    for trial in expand(study):
        record = Record(
            trial.signature, trial.seed, "done", "", 6, {"psnr": 20.0 + trial.seed}, probes=trial.probe_keys
        )
        made_by = now if fingerprints[trial.seed] == "now" else "0" * 16
        record.code = {"components": {"norm/group": made_by}}
        store.stage(trial.signature).finish(record)
    table = build_table(plan_study(study, store))
    again = f"to run these trials again with the present code: ablate sweep {study.document.file} --rerun stale"
    assert table.mixed == (f"{mixed}; {again}" if mixed else "")
    if warning:
        assert any(warning in text and text.endswith(again) for text in table.layout.warnings)
    else:
        assert "code of" not in table.markdown()


@pytest.mark.parametrize(
    ("metric", "means", "ranks"),
    [
        (Metric("m", "", "up"), [1.0, 3.0, 2.0], [0, 1, 2]),
        (Metric("m", "", "down"), [1.0, 3.0, 2.0], [1, 0, 2]),
        (Metric("m", "", "target", target=2.0), [1.0, 3.5, 2.01], [2, 0, 1]),
        (Metric("m", "", "none"), [1.0, 3.0, 2.0], [0, 0, 0]),
        (Metric("m", "", "up"), [1.001, 1.002, 0.5, 0.4], [1, 1, 2, 0]),
        (Metric("m", "", "target"), [-1.0, 1.0, 3.0], [1, 1, 2]),
        (Metric("m", "", "up"), [1.0, 1.0], [0, 0]),
        (Metric("m", "", "up"), [math.nan, math.inf, 1.0, -math.inf], [0, 1, 2, 0]),
        (Metric("m", "", "down"), [math.inf, math.nan, 1.0], [2, 0, 1]),
    ],
)
def test_ranks_follow_direction_and_print(metric: Metric, means: list[float], ranks: list[int]) -> None:
    assert rank(metric, means) == ranks


@pytest.mark.parametrize(
    ("value", "plain", "signed"),
    [
        (1.005, "1.00", "+1.00"),
        (-4.067, "−4.07", "−4.07"),
        (-0.001, "0.00", "0.00"),
        (math.nan, "–", "–"),
        (-math.inf, "−∞", "−∞"),
        (2.46e7, "2.5e7", "+2.5e7"),
    ],
)
def test_numerals(value: float, plain: str, signed: str) -> None:
    assert (numeral(value, 2), numeral(value, 2, signed=True)) == (plain, signed)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1e-4, "$10^{-4}$"), (0.01, "$10^{-2}$"), (0.1, "0.1"), (1.0, "1"), (0.0, "0"), (3e-6, r"3$\times10^{-6}$"),
        (0.002, "0.002"), (-1e-5, "$-10^{-5}$"), (2000, "2000"), (1e5, "$10^{5}$"), ("nearest_conv", r"nearest\_conv"),
        (True, "True"), ([16, 32], "16-32"),
    ],
)  # fmt: skip
def test_levels_in_latex(value: object, text: str) -> None:
    assert level(Level(value)) == text


def test_text_becomes_ascii() -> None:
    assert escape("50 % of a_b & {c} #1 $ ^ ~ \\") == (
        r"50 \% of a\_b \& \{c\} \#1 \$ \textasciicircum{} \textasciitilde{} \textbackslash{}"
    )
    assert escape("β → ±1 − Müller ç <x>") == r"$\beta$ $\rightarrow$ $\pm$1 $-$ M\"{u}ller \c{c} $<$x$>$"
    assert escape("漢") == "[U+6F22]"


def test_latex_compiles_and_shows_the_cells(table: Table, tmp_path: Path) -> None:
    tex = table.latex()
    lint(tex)
    assert tex.startswith("% needs \\usepackage{booktabs}\n% Does a strong KL weight cost PSNR?\n")
    assert r"\label{tab:tiny}" in tex
    assert r"\textbf{24.60}" in tex
    assert r"\underline{24.50}" in tex
    assert r"$\times" not in tex
    text, log = compiled(tex, tmp_path)
    assert "Overfull" not in log
    for words in [
        "Table 1: Study tiny at scale base",
        "kl (baseline 10",
        "norm (baseline GroupNorm)",
        "[−4.21, −3.92]",
    ]:
        assert words in text
    lines = [line.split() for line in text.splitlines()]
    assert any(line[:2] == ["baseline", "24.50"] for line in lines)
    assert any(line[:2] == ["SCN", "24.11"] and "+0.01" in line for line in lines)
    assert "div. 2/3" in text


def test_six_metrics_fit_the_page(study: Study, table: Table, tmp_path: Path) -> None:
    names = ["psnr", "ssim", "grid/nat_fold", "grid/nat_z", "border/excess_b4", "border/excess_b16"]
    values = {name: [-11.5, -12.25, -13.125] for name in names}
    store = Store(tmp_path / "six")
    fill(study, store, dict.fromkeys(RESULTS, values) | {"norm=scn": {name: [-11.0, -9.25, -12.5] for name in names}})
    tex = build_table(plan_study(study, store), names).latex()
    lint(tex)
    text, log = compiled(tex, tmp_path)
    assert "Overfull" not in log
    assert "wider than a page" not in tex
    heads = "\n".join(text.splitlines()[:40])
    for words in ("Grid over", "chance", "error 4 px", "error 16 px"):
        assert words in heads


def test_a_table_that_cannot_fit_says_so(study: Study, table: Table, tmp_path: Path) -> None:
    tex = build_table(plan_study(study, Store(tmp_path / "store")), list(study.metrics)).latex()
    lint(tex)
    assert "% wider than a page: choose fewer metrics" in tex


def test_a_hostile_question_stays_a_comment(write_study: Write, tmp_path: Path) -> None:
    question = 'question: "Is 100 % of β_1 {worth} it\\n\\\\input{x} & more?"'
    study = load_study(write_study(("question: Does a strong KL weight cost PSNR?", question), SEEDS))
    tex = fill(study, Store(tmp_path / "store"), RESULTS).latex()
    lint(tex)
    assert tex.splitlines()[1].startswith(r"% Is 100 \% of $\beta$\_1 \{worth\} it \textbackslash{}input\{x\} \& more?")
    compiled(tex, tmp_path)


def test_importing_tables_loads_neither_scipy_nor_pandas_nor_torch() -> None:
    code = "import sys, ablate.analysis.tables.build\n"
    code += "print([name for name in ('scipy', 'pandas', 'torch') if name in sys.modules])"
    done = python(code)
    assert done.stdout.strip() == "[]"
