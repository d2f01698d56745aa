"""The rules of the verdicts, and what happens to treatments with diverged or failed trials."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from ablate.adaptive.recall import plan_study
from ablate.analysis.statistics.effects import Change, paired
from ablate.analysis.statistics.verdicts import is_negligible, trouble, trouble_of, verdict
from ablate.analysis.tables.build import build_table
from ablate.plan.trials import expand
from ablate.slots.settings import Metric
from ablate.store.folders import Store
from ablate.study.study import load_study
from tests.support.command import ablate, document
from tests.support.finished import finish
from tests.support.simulated import Truth, simulated
from tests.support.studies import Write

PSNR = Metric("psnr", "dB", "up", interest=0.5)

COUNT = Metric("count", "1", "down", exact=True)


def change(mean: float, half: float, half90: float, sd: float = 1.0) -> Change:
    return Change(5, mean, sd, mean - half, mean + half, 0.01, mean - half90, mean + half90)


@pytest.mark.parametrize(
    ("found", "p_holm", "word"),
    [
        (change(1.0, 0.8, 0.6), 0.01, "better"),
        (change(0.2, 0.1, 0.08), 0.01, "better"),  # clear and negligible: that there is a change is known
        (change(0.2, 0.1, 0.08), 0.20, "no effect ≥ 0.5 dB"),
        (change(0.2, 0.1, 0.08), None, "better"),
        (change(0.1, 0.5, 0.3), 0.60, "no effect ≥ 0.5 dB"),  # the 90 % interval decides, not that of 95 %
        (change(0.1, 0.6, 0.5), 0.60, "within noise"),
        (change(0.7, 0.6, 0.5), 0.07, "unclear"),
    ],
)
def test_the_first_rule_that_applies(found: Change, p_holm: float | None, word: str) -> None:
    assert verdict(PSNR, found, p_holm) == word
    assert verdict(PSNR, found, p_holm, "diverges 1/3") == "diverges 1/3"


def test_two_one_sided_tests_are_those_of_scipy() -> None:
    rng = np.random.default_rng(2)
    agreed = []
    for _ in range(200):
        values = rng.normal(0.2, 0.35, 5)
        below = stats.ttest_1samp(values, 0.5, alternative="less").pvalue
        above = stats.ttest_1samp(values, -0.5, alternative="greater").pvalue
        agreed.append(is_negligible(PSNR, paired(values, np.zeros(5))) == (max(below, above) < 0.05))
    assert all(agreed)


def test_without_a_margin_nothing_is_negligible() -> None:
    assert verdict(Metric("m", "1", "up"), change(0.0, 1e-9, 1e-9), 0.9) == "within noise"


def test_equal_differences_give_a_verdict_on_exact_metrics_only() -> None:
    same = paired([2.0, 3.0], [1.0, 2.0])
    assert verdict(PSNR, same) == verdict(PSNR, same, 0.5) == "no spread"
    assert verdict(COUNT, same) == verdict(COUNT, same, 1.0) == "worse"
    assert verdict(PSNR, paired([1.0, 2.0], [1.0, 2.0])) == "identical"


def test_sides_in_trouble() -> None:
    assert trouble({"done": 3}) == trouble({"done": 1, "pending": 2}) == ""
    assert trouble({"done": 3, "diverged": 2}) == "diverges 2/5"
    assert trouble({"done": 2, "failed": 1}) == "fails 1/3"
    assert trouble({"diverged": 1, "failed": 1, "done": 1}) == "diverges 1/3"
    assert trouble_of({"done": 3}, {"done": 2, "diverged": 1}) == "reference diverges 1/3"
    assert trouble_of({"done": 2, "failed": 1}, {"done": 2, "diverged": 1}) == "fails 1/3"


TROUBLED = (("loss.kl: [1, 1e-4]", "loss.kl: [1, 1e-2, 1e-3, 1e-4]"), ("seeds: 2", "seeds: 3"))


@pytest.mark.parametrize(("status", "word"), [("diverged", "diverges 1/3"), ("failed", "fails 1/3")])
def test_survivors_are_shown_and_not_judged(write_study: Write, tmp_path: Path, status: str, word: str) -> None:
    """One of three trials of a treatment whose others are far better than all else."""
    study, store = load_study(write_study(*TROUBLED)), Store(tmp_path / "store")
    for trial in expand(study):
        gain = {"kl=1": 9.0, "kl=0.001": 5.0}.get(trial.treatment.label, 0.0)
        if trial.treatment.label == "kl=1" and trial.seed == 2:
            if status == "diverged":
                finish(store, trial, {"psnr": 1.0}, "diverged")
            else:
                store.stage(trial.signature).root.mkdir(parents=True)
                store.stage(trial.signature).fail("ValueError: no", "trace")
        else:
            finish(
                store,
                trial,
                {"psnr": 20 + trial.seed + gain + 0.001 * trial.seed * sum(map(ord, trial.treatment.label))},
            )
    table = build_table(plan_study(study, store))
    found = {row["label"]: row["cells"]["psnr"] for row in json.loads(json.dumps(table.json()))["rows"]}
    assert found["kl=1"]["verdict"] == word
    assert found["kl=1"]["delta"] == pytest.approx(9.0, abs=0.5)
    assert [found["kl=1"][key] for key in ("low", "high", "p", "p_holm")] == [None] * 4
    assert found["kl=0.001"]["verdict"] == "better"
    assert [row["psnr verdict"] for row in csv.DictReader(io.StringIO(table.csv())) if row["treatment"] == "kl=1"] == [
        word
    ]
    for text in (table.markdown(), table.latex(), table.html()):
        assert word in text
    best = [line for line in table.markdown().splitlines() if line.startswith("|") and "**" in line]
    assert len(best) == 1 and "0.001" in best[0], "the survivors' mean is not ranked"
    assert table.front == ()


def test_what_is_compared_with_survivors_is_not_judged(tmp_path: Path) -> None:
    study = simulated(tmp_path, 3, 3)
    table = study.table(
        np.random.default_rng(0), {"psnr": Truth(effects={"kl=0.001": 50})}, {"baseline": lambda row: row < row.max()}
    )
    words = [row["cells"]["psnr"]["verdict"] for row in table.json()["rows"]]
    assert words == ["baseline", *["reference diverges 2/3"] * 3]


def test_main_effects_of_survivors_are_not_tested(write_study: Write, tmp_path: Path) -> None:
    grid = "design: grid\nfactors:\n  padding: [reflect, zeros]\n  "
    study, store = load_study(write_study(("factors:\n  ", grid), ("seeds: 2", "seeds: 3"))), Store(tmp_path / "store")
    for trial in expand(study):
        lost = trial.treatment.label == "padding=zeros" and trial.seed == 0
        noise = np.random.default_rng([trial.seed, *map(ord, trial.treatment.label)]).normal(0, 0.1)
        gain = 5.0 * (trial.treatment.levels["padding"] == "zeros")
        finish(store, trial, {"psnr": 20 + gain + noise}, "diverged" if lost else "done")
    table = build_table(plan_study(study, store))
    terms = table.json()["factorial"]["psnr"]["terms"]
    assert [term["p"] for term in terms] == [term["p_holm"] for term in terms] == [None] * 3
    assert terms[0]["contrasts"][0]["estimate"] == pytest.approx(5, abs=0.3)
    text = table.markdown()
    assert "Nothing is tested, because the trials that are left are a selection: padding=zeros diverges 1/3." in text


def test_a_main_effect_without_any_error_has_no_p(write_study: Write, tmp_path: Path) -> None:
    grid = "design: grid\nfactors:\n  padding: [reflect, zeros]\n  "
    study, store = load_study(write_study(("factors:\n  ", grid))), Store(tmp_path / "store")
    for trial in expand(study):
        finish(store, trial, {"psnr": 20.0 + trial.seed + 2 * (trial.treatment.levels["padding"] == "zeros")})
    table = build_table(plan_study(study, store))
    assert table.json()["factorial"]["psnr"]["terms"][0]["p"] is None
    assert "<0.001" not in table.markdown() and "*|" not in table.markdown().replace(" ", "")


@pytest.mark.parametrize("form", ["markdown", "latex", "html", "csv"])
def test_a_metric_with_a_target_is_compared_by_its_distance_in_every_form(
    write_study: Write, tmp_path: Path, form: str
) -> None:
    """From −1 to +1 nothing changes; from −1 to 0.1 the border gets better."""
    border = (("probes: [reconstruction]", "probes: [border]"), ("primary: psnr", "primary: border/excess_b4"))
    study = load_study(write_study(*TROUBLED, *border))
    store = Store(tmp_path / "store")
    level = {"baseline": -1.0, "kl=1": 1.0, "kl=0.01": 0.1, "kl=0.001": -3.7}
    for trial in expand(study):
        label = trial.treatment.label
        noise = [(0, 2, -2), (2, -2, 0), (-2, 0, 2), (1, 3, 0)][list(level).index(label)]
        finish(store, trial, {"border/excess_b4": level[label] + 0.01 * noise[trial.seed]})
    table = build_table(plan_study(study, store))
    found = {row["label"]: row["cells"]["border/excess_b4"] for row in table.json()["rows"]}
    assert [found[label]["verdict"] for label in ("kl=1", "kl=0.01", "kl=0.001")] == [
        "no effect ≥ 0.5 gl", "better", "worse",
    ]  # fmt: skip
    assert found["kl=0.01"]["delta"] == pytest.approx(-0.9, abs=0.05)
    assert table.json()["metrics"]["border/excess_b4"]["compared"] == "distance to target"
    text: Any = getattr(table, form)()
    if form != "csv":
        assert "distance" in text and "+2.0" not in text


def test_the_command_takes_plain_and_moderated_t(write_study: Write, tmp_path: Path) -> None:
    path = write_study(("loss.kl: [1, 1e-4]", "loss.kl: [1, 1e-2, 1e-3, 1e-4]"), ("seeds: 2", "seeds: 5"))
    study, store = load_study(path), Store(tmp_path / "store")
    rng = np.random.default_rng(0)
    for trial in expand(study):
        finish(store, trial, {"psnr": 20.0 + trial.seed + rng.normal(0, 0.3)})
    moderated = document("table", path, "--store", store.root, "--moderated-t")
    plain = document("table", path, "--store", store.root, "--plain-t")
    assert moderated["moderation"]["psnr"]["rows"] == 3 and plain["moderation"] == {}
    assert build_table(plan_study(study, store)).json() == moderated, "the default from five seeds on"
    planned = ablate("plan", path, "--store", store.root).stdout
    assert (
        "in psnr, 5 paired seeds detect a difference of" in planned and "by the noise of the trials so far" in planned
    )
    few = write_study(("seeds: 2", "seeds: 5"), name="few.yaml")
    done = ablate("table", few, "--store", store.root, "--moderated-t")
    assert done.returncode == 2 and "moderated t: fewer than 3 rows have 5 pairs" in " ".join(done.stderr.split())
