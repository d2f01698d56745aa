"""Sequential seeds: the boundary against simulation and theory, and which treatments get how many seeds."""

from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from ablate.adaptive.recall import plan_study
from ablate.analysis.statistics.chance import sequential_p, significance_level
from ablate.analysis.statistics.effects import paired
from ablate.analysis.tables.build import build_table
from ablate.driver.seeds import add_seeds
from ablate.errors import StudyError
from ablate.plan.plan import Plan
from ablate.plan.trials import Trial, pending
from ablate.store.folders import Store
from ablate.study.study import load_study
from tests.support.finished import finish
from tests.support.studies import Write


@pytest.mark.parametrize("bounds", [(2, 6), (3, 8), (5, 20)])
def test_many_analyses_find_nothing_where_nothing_is_more_often_than_one_in_twenty(bounds: tuple[int, int]) -> None:
    """20 000 studies without effect, of pairs with a common part and a spread of their own, analysed as sweeps do."""
    rng = np.random.default_rng(1)
    repeats = 20_000
    shared = rng.normal(30, 5, (repeats, bounds[1]))
    a, b = (shared + rng.normal(0, rng.uniform(0.1, 3, (repeats, 1)), shared.shape) for _ in range(2))
    counts = np.arange(bounds[0], bounds[1] + 1)
    differences = a - b
    p = np.array([stats.ttest_1samp(differences[:, :n], 0, axis=1).pvalue for n in counts])
    alpha = significance_level(bounds)
    found = (p < alpha).any(axis=0).mean()
    plain = (p < 0.05).any(axis=0).mean()
    assert plain > 0.08, "uncorrected, chance wins too often"
    assert abs(found - 0.05) < 3 * np.sqrt(0.05 * 0.95 / repeats) and 0.05 / len(counts) < alpha < 0.05
    for i in range(100):
        once = next((n for n in counts if stats.ttest_1samp(differences[i, :n], 0).pvalue < alpha), bounds[1])
        change = paired(a[i, :once], b[i, :once], bounds)
        assert (change.low <= 0 <= change.high) == (change.p >= 0.05), "interval and p agree"
        low, high = stats.ttest_rel(a[i, :once], b[i, :once]).confidence_interval(1 - alpha)
        assert (change.low, change.high) == pytest.approx((low, high))


def test_one_analysis_is_the_plain_test_and_p_is_how_often_chance_does_as_well() -> None:
    assert significance_level((5, 5)) == pytest.approx(0.05, abs=0.0015) and significance_level(None) == 0.05
    p = np.array([0.001, 0.01, 0.3])
    assert (np.abs(sequential_p(p, (5, 5)) - p) < 4 * np.sqrt(p / 200_000)).all()
    assert (sequential_p(p, (3, 8)) > 1.5 * p).all() and sequential_p(p, None) is p
    last = sequential_p(np.array([significance_level((3, 8)), np.nan]), (3, 8))
    assert last[0] == pytest.approx(0.05, abs=1e-4) and np.isnan(last[1])


FACTORS = ("  loss.kl: [1, 1e-4]\n", "  loss.kl: [1, 1e-2, 1e-6, 1e-4]\n")


STRICT = "interest: {psnr: 0.001}"
"""So small that no study of this size finds that there is no such effect."""


SHIFT = {1.0: -5.0, 1e-2: 0.0, 1e-6: 0.6, 1e-4: 0.0}
"""Change of PSNR at each weight."""


def simulate(store: Store, trial: Trial) -> None:
    kl = trial.treatment.levels["loss.kl"]
    noise = np.random.default_rng([trial.seed, int(1e6 * kl)]).normal(0, 0.3)
    metrics = {"psnr": 20 + trial.seed + SHIFT[kl] + noise, "ssim": 0.5}
    finish(store, trial, metrics)


def seeds_of(plan: Plan) -> dict[str, int]:
    return {row.label: sum(trial.treatment.label == row.label for trial in plan.trials) for row in plan.treatments}


def test_seeds_are_added_where_nothing_is_told_apart_and_up_to_the_cap(write_study: Write, tmp_path: Path) -> None:
    study = load_study(write_study(FACTORS, ("seeds: 2", f"{STRICT}\nseeds: {{from: 3, to: 8}}")))
    store, history = Store(tmp_path / "store"), []
    plan = plan_study(study, store)
    assert seeds_of(plan) == {"baseline": 3, "kl=1": 3, "kl=0.01": 3, "kl=1e-06": 3}
    while lacking := pending(plan.trials, store):
        assert add_seeds(plan) is plan, "judged before all had ended"
        history.append(seeds_of(plan))
        for trial in lacking:
            simulate(store, trial)
        plan = add_seeds(plan)
        assert plan_study(study, store).known == plan.known, "a kill forgets nothing"
    assert add_seeds(plan) is plan
    last = seeds_of(plan)
    assert last["kl=0.01"] == last["baseline"] == 8, "no effect: up to the cap"
    assert last["kl=1"] < last["kl=1e-06"] <= 8, "the large effect is told first"
    for earlier, later in zip(history, [*history[1:], last], strict=True):
        grown = {label for label in later if later[label] > earlier[label]}
        assert all(later[label] - earlier[label] <= 1 for label in later) and "baseline" in grown | {"baseline"}
    table = build_table(plan)
    rows = {row["label"]: row["cells"]["psnr"] for row in table.json()["rows"]}
    assert rows["kl=1"]["verdict"] == "worse" and rows["kl=0.01"]["verdict"] == "within noise"
    text = table.markdown()
    assert "from 3 to at most 8" in text and "up to 6 analyses" in text
    assert f"{1 - significance_level((3, 8)):.1%}" in text

    wider = plan_study(load_study(write_study(FACTORS, ("seeds: 2", f"{STRICT}\nseeds: {{from: 3, to: 9}}"))), store)
    assert seeds_of(wider) == last and seeds_of(add_seeds(wider))["kl=0.01"] == 9, "a greater cap goes on"


def test_no_seed_is_added_where_there_is_no_effect_of_interest(write_study: Write, tmp_path: Path) -> None:
    wide = "interest: {psnr: 20}\nseeds: {from: 3, to: 8}"
    study = load_study(write_study(FACTORS, ("seeds: 2", wide)))
    store = Store(tmp_path / "store")
    plan = plan_study(study, store)
    for trial in plan.trials:
        simulate(store, trial)
    later = add_seeds(plan)
    verdicts = {row["label"]: row["cells"]["psnr"]["verdict"] for row in build_table(plan).json()["rows"]}
    assert verdicts["kl=0.01"] == verdicts["kl=1e-06"] == "no effect ≥ 20 dB"
    assert seeds_of(later)["kl=0.01"] == seeds_of(later)["kl=1e-06"] == 3


@pytest.mark.parametrize(
    ("seeds", "design", "words"),
    [
        ("{from: 3}", "one_at_a_time", "'seeds.to' is missing"),
        ("{from: 8, to: 3}", "one_at_a_time", "expected 'from' below 'to', found 8 and 3"),
        ("{from: 1, to: 3}", "one_at_a_time", "seeds.from: expected a number of at least 2"),
        ("{form: 1, to: 3}", "one_at_a_time", "unknown key 'seeds.form'"),
        ("{from: 3, to: 8}", "grid", "design 'grid' needs as many seeds of each treatment"),
        ("three", "one_at_a_time", "seeds: expected a count or distinct numbers from 0"),
    ],
)
def test_bounds_that_cannot_be_are_said(write_study: Write, seeds: str, design: str, words: str) -> None:
    with pytest.raises(StudyError) as error:
        load_study(write_study(("seeds: 2", f"seeds: {seeds}\ndesign: {design}")))
    assert words in str(error.value)
