"""Searches, driven through records of closed-form results; nothing is trained."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ablate.adaptive.optuna_sampler import factor_importance
from ablate.adaptive.recall import plan_study
from ablate.adaptive.search import SearchSource, evaluations, future_suggestions, one_trial_per_level, read_suggestions
from ablate.analysis.tables.build import build_table
from ablate.driver import overview
from ablate.driver.plan_text import print_plan
from ablate.errors import StudyError
from ablate.plan.tree import Node
from ablate.plan.trials import Trial, expand
from ablate.schedule.agenda import Agenda, Event
from ablate.store.files import read_json
from ablate.store.folders import Store
from ablate.study.study import Study, load_study
from tests.support.finished import finish
from tests.support.studies import Write

Result = Callable[[dict[str, Any]], dict[str, float]]


SEARCH = "search: {{sampler: {}, trials: {}, objectives: [psnr]}}\n"


RANGES = "  loss.kl: {low: 1e-8, high: 1, log: true}\n  norm: [group, scn]\ndesign: search\n"


BEST = -6.0
"""Decimal logarithm of the KL weight with the highest PSNR."""


def parabola(levels: dict[str, Any]) -> dict[str, float]:
    """PSNR 30 at the best KL weight with SCN and 28 with GroupNorm; SSIM falls as the weight grows."""
    exponent = math.log10(levels["loss.kl"])
    return {"psnr": (30.0 if levels["norm"] == "scn" else 28.0) - (exponent - BEST) ** 2, "ssim": -exponent / 10}


@pytest.fixture
def searching(write_study: Write) -> Callable[..., Study]:
    """The tiny study with a search in it."""

    def make(search: str = SEARCH.format("tpe", 30), factors: str = RANGES, seeds: int = 1, more: str = "") -> Study:
        found = ("  loss.kl: [1, 1e-4]\n", factors + search + more)
        return load_study(write_study(found, ("seeds: 2", f"seeds: {seeds}")))

    return make


def finish_with(store: Store, trial: Trial, result: Result, status: Any = "done") -> None:
    metrics = result(trial.treatment.levels) if status == "done" else {}
    finish(store, trial, metrics, status)


def drive(study: Study, store: Store, result: Result, *, workers: int = 1, stop: int = 1000) -> list[Trial]:
    """Take stages from an agenda as executors do, `workers` at once, and end the oldest; gives what was run.

    After `stop` trials all is dropped, those under way included, as a kill does.
    """
    plan = plan_study(study, store)
    first = [trial for trial in plan.trials if store.stage(trial.signature).record() is None]
    agenda = Agenda(first, store, lambda event: None, SearchSource(plan), workers)
    running: list[Node] = []
    ran: list[Trial] = []
    while len(ran) < stop:
        while len(running) < workers and (node := agenda.take()):
            running.append(node)
        assert len(running) <= workers and (running or agenda.is_over)
        if not running:
            break
        node = running.pop(0)
        finish_with(store, node.trial, result)
        ran.append(node.trial)
        agenda.end(node, "done", "")
    agenda.close()
    return ran


@pytest.mark.parametrize(("sampler", "least"), [("tpe", 8), ("nsga2", 4)])
def test_a_search_finds_the_best(searching: Callable[..., Study], tmp_path: Path, sampler: str, least: int) -> None:
    """Of 40 suggestions, more than twice as many must lie near the optimum as of points drawn at random."""
    near = {}
    for name in (sampler, "random"):
        store = Store(tmp_path / name)
        ran = drive(searching(SEARCH.format(name, 40)), store, parabola)
        assert len(ran) == 40 and ran[0].treatment.is_baseline
        near[name] = sum(parabola(trial.treatment.levels)["psnr"] > 29 for trial in ran)
    assert near[sampler] > 2 * near["random"] and near[sampler] >= least


@pytest.mark.parametrize("sampler", ["tpe", "random", "nsga2", "brute_force"])
def test_a_cut_search_makes_no_trial_twice_and_as_many(
    searching: Callable[..., Study], tmp_path: Path, sampler: str
) -> None:
    """Cut with two trials under way: they are run first, and the search goes on to its full budget."""
    lists = (
        "  loss.kl: [1, 1e-2, 1e-4, 1e-6, 1e-8]\n  norm: [group, scn]\n  padding: [reflect, zeros]\ndesign: search\n"
    )
    study = searching(SEARCH.format(sampler, 16), lists if sampler == "brute_force" else RANGES)
    store = Store(tmp_path / "store")
    before = drive(study, store, parabola, workers=3, stop=6)
    kept = read_suggestions(study, store)
    assert len(kept) == 6 + 2 - 1, "of three workers' suggestions one has ended"
    after = drive(study, store, parabola, workers=3)
    signatures = [trial.signature for trial in before + after]
    assert len(set(signatures)) == len(signatures) == 16
    assert read_suggestions(study, store)[: len(kept)] == kept
    assert {trial.signature for trial in after[:2]} == {
        trial.signature for trial in plan_study(study, store).trials[: len(kept) + 1]
    } - {trial.signature for trial in before}
    assert not drive(study, store, parabola, workers=3)
    assert future_suggestions(study, plan_study(study, store).known) == 0


def test_suggestions_follow_from_results_alone(searching: Callable[..., Study], tmp_path: Path) -> None:
    study = searching(SEARCH.format("tpe", 20))
    whole, cut = Store(tmp_path / "whole"), Store(tmp_path / "cut")
    drive(study, whole, parabola)
    for _ in range(20):
        drive(study, cut, parabola, stop=1)
    assert read_suggestions(study, whole) == read_suggestions(study, cut)


CHAIN = (
    "batch: 2, lr: 3e-3, log_every: 2, checkpoint_every: 3}",
    "batch: 2, lr: 3e-3}\n  - tune: {steps: 4, lr: 1e-3}",
)


@pytest.mark.parametrize("ends", ["done", "failed"])
def test_suggestions_that_share_a_stage_wait_for_it_or_fail_with_it(
    write_study: Write, tmp_path: Path, ends: Any
) -> None:
    """All share the first stage, and of three workers two have nothing to do but to wait for it."""
    factors = "  stages.tune.lr: {low: 1e-5, high: 1e-1, log: true}\ndesign: search\n" + SEARCH.format("random", 8)
    study = load_study(write_study(CHAIN, ("  loss.kl: [1, 1e-4]\n", factors), ("seeds: 2", "seeds: 1")))
    store, told = Store(tmp_path / "store"), list[Event]()
    agenda = Agenda(expand(study), store, told.append, SearchSource(plan_study(study, store)), 3)
    shared = agenda.take()
    assert shared and shared.stage.name == "train" and agenda.take() is None
    assert sum(event.kind == "suggested" for event in told) == 2, "asked for more than there are workers"
    if ends == "failed":
        store.stage(shared.signature).fail("out of memory", "trace")
    agenda.end(shared, ends, "out of memory")
    lost = [event.trial.name for event in told if event.kind == "failed"]
    taken = [agenda.take() for _ in range(3)]
    if ends == "failed":
        assert len(lost) == 3 and {one.status for one in evaluations(plan_study(study, store))[:3]} == {"failed"}
    else:
        assert not lost and len({node.signature for node in taken if node}) == 3 and agenda.take() is None


def test_brute_force_tries_every_allowed_treatment_and_ends(searching: Callable[..., Study], tmp_path: Path) -> None:
    factors = "  loss.kl: [1, 1e-2, 1e-4]\n  norm: [group, scn]\ndesign: search\n"
    study = searching("search: {sampler: brute_force}\n", factors, more="where: not (norm == 'scn' and loss.kl == 1)\n")
    ran = drive(study, Store(tmp_path / "store"), parabola, workers=2)
    tried = {(trial.treatment.levels["loss.kl"], trial.treatment.levels["norm"]) for trial in ran}
    assert len(ran) == 5 and tried == {(kl, norm) for kl in (1, 1e-2, 1e-4) for norm in ("group", "scn")} - {(1, "scn")}


def test_a_signature_is_run_once_however_often_it_is_suggested(searching: Callable[..., Study], tmp_path: Path) -> None:
    """Thirty random suggestions among two treatments; another study has already finished one of these."""
    study, store = (
        searching(SEARCH.format("random", 30), "  norm: [group, scn]\ndesign: search\n"),
        Store(tmp_path / "s"),
    )
    scn = next(trial for trial in one_trial_per_level(study) if trial.treatment.changed)
    finish_with(store, scn, lambda levels: {"psnr": 20.0, "ssim": 0.5})
    told: list[Event] = []
    agenda = Agenda(expand(study), store, told.append, SearchSource(plan_study(study, store)), 4)
    node = agenda.take()
    assert node and node.trial.treatment.is_baseline and agenda.take() is None and agenda.is_over
    assert [(event.kind, event.trial.signature) for event in told] == [
        ("suggested", scn.signature),
        ("done", scn.signature),
    ]
    assert len(read_suggestions(study, store)) == 29


def test_limits_keep_treatments_off_the_front_and_steer_the_search(
    searching: Callable[..., Study], tmp_path: Path
) -> None:
    """SSIM of 0.45 or less is a KL weight of 10^-4.5 or more: there the best PSNR allowed is at the bound."""
    limited = "search: {sampler: tpe, trials: 40, objectives: [psnr], constraints: {ssim: '<= 0.45'}}\n"
    study, store = searching(limited), Store(tmp_path / "store")
    ran = drive(study, store, parabola)
    allowed = [trial for trial in ran if parabola(trial.treatment.levels)["ssim"] <= 0.45]
    assert len(allowed) > 20
    best = max(allowed, key=lambda trial: parabola(trial.treatment.levels)["psnr"])
    rows = build_table(plan_study(study, store)).json()["rows"]
    assert [row["label"] for row in rows if row["pareto"]] == [best.treatment.label]


def test_a_search_goes_on_where_the_best_seems_to_be_forbidden(searching: Callable[..., Study], tmp_path: Path) -> None:
    """Zeros and SCN are each worth 5 dB, and TPE asks for both at once again and again."""
    factors = "  loss.kl: {low: 1e-8, high: 1, log: true}\n  norm: [group, scn]\n  padding: [reflect, zeros]\n"
    where = "where: not (norm == 'scn' and padding == 'zeros')\n"
    study = searching(SEARCH.format("tpe", 40), factors + "design: search\n", more=where)

    def bonus(levels: dict[str, Any]) -> dict[str, float]:
        return {"psnr": 5.0 * (levels["norm"] == "scn") + 5.0 * (levels["padding"] == "zeros"), "ssim": 0.5}

    ran = drive(study, Store(tmp_path / "store"), bonus)
    assert len({trial.signature for trial in ran}) == 40
    assert all((row.levels["norm"], row.levels["padding"]) != ("scn", "zeros") for row in (t.treatment for t in ran))


def test_what_fails_is_asked_for_less(searching: Callable[..., Study], tmp_path: Path) -> None:
    """Of a level with which all fails a sampler that passes over failures knows nothing: it goes on asking for it."""
    factors = (
        "  loss.kl: {low: 1e-8, high: 1, log: true}\n  norm: [group, scn]\n  padding: [reflect, zeros, circular]\n"
    )
    study, store = searching(SEARCH.format("tpe", 40), factors + "design: search\n"), Store(tmp_path / "store")
    agenda = Agenda(expand(study), store, lambda event: None, SearchSource(plan_study(study, store)), 1)
    asked = []
    while node := agenda.take():
        fails = node.trial.treatment.levels["padding"] == "circular"
        asked.append(fails)
        if fails:
            store.stage(node.signature).fail("does not fit", "")
        else:
            finish_with(store, node.trial, parabola)
        agenda.end(node, "failed" if fails else "done", "does not fit" if fails else "")
    assert len(asked) == 40 and any(asked[:10]), "the first ten are random"
    assert sum(asked[10:]) <= 5, "ten at random; 17 where failures are passed over"


def test_what_cannot_be_built_is_not_suggested(searching: Callable[..., Study], tmp_path: Path) -> None:
    study, store = searching(SEARCH.format("random", 12)), Store(tmp_path / "store")
    explorer = SearchSource(plan_study(study, store), lambda recipe: recipe.plain()["norm"]["level"] == "group")
    found = [trial for _ in range(11) for trial in explorer.ask([])]
    assert len(found) == 11 and {trial.treatment.levels["norm"] for trial in found} == {"group"}
    other = plan_study(searching(SEARCH.format("random", 12)), Store(tmp_path / "other"))
    nothing = SearchSource(other, lambda recipe: False)
    with pytest.raises(StudyError, match="none of 100 suggestions in a row is allowed by the study and can be built"):
        nothing.ask([])


def test_a_table_of_a_search_has_a_front_and_no_p_values(searching: Callable[..., Study], tmp_path: Path) -> None:
    two = "search: {sampler: random, trials: 12, objectives: [psnr, ssim]}\n"
    study, store = searching(two, seeds=2), Store(tmp_path / "store")
    ran = drive(study, store, parabola)
    lost = next(trial for trial in ran if not trial.treatment.is_baseline)
    finish_with(store, lost, parabola, "diverged")
    table = build_table(plan_study(study, store))
    rows = table.json()["rows"]
    points = {row["label"]: parabola(row["treatment"]) for row in rows if row["label"] != lost.treatment.label}
    front = {
        label
        for label, a in points.items()
        if not any(b != a and b["psnr"] >= a["psnr"] - 1e-9 and b["ssim"] >= a["ssim"] - 1e-9 for b in points.values())
    }
    assert {row["label"] for row in rows if row["pareto"]} == front and 1 < len(front) < 12
    means = [row["cells"]["psnr"]["mean"] for row in rows if row["n"] == 2]
    assert means[1:] == sorted(means[1:], reverse=True) and rows[0]["label"] == "baseline"
    cells = [row["cells"]["psnr"] for row in rows[1:]]
    assert all(cell[key] is None for cell in cells for key in ("low", "high", "p", "p_holm"))
    text = table.markdown()
    assert "no p-values" in text and "12 suggestions" in text and "div. 1/2" in text and "random" in text
    assert (
        "excludes 0" not in text and table.csv().splitlines()[0].count("pareto") == 1 and "\\toprule" in table.latex()
    )
    claimed = build_table(plan_study(study, store), paper="vivat")
    assert claimed.json()["claims"] == [] and "Claims of the paper are not judged" in claimed.markdown()


def test_failed_and_missing_results_are_no_results(searching: Callable[..., Study], tmp_path: Path) -> None:
    study, store = searching(), Store(tmp_path / "store")
    drive(study, store, parabola, stop=5)
    _, diverged, failed, missing, *_ = plan_study(study, store).trials
    finish_with(store, diverged, parabola, "diverged")
    finish_with(store, missing, lambda levels: {"psnr": math.nan, "ssim": 0.5})
    store.stage(failed.signature).record_file.unlink()
    store.stage(failed.signature).fail("out of memory", "")
    assert [one.status for one in evaluations(plan_study(study, store))] == [
        "done",
        "failed",
        "failed",
        "failed",
        "done",
    ]
    assert len(drive(study, store, parabola)) == 26, "the failed one is run again, then the rest of the budget"


def test_the_important_factor_is_said_to_be(searching: Callable[..., Study], tmp_path: Path) -> None:
    study, store = searching(SEARCH.format("random", 40)), Store(tmp_path / "store")
    drive(study, store, parabola, stop=5)
    assert factor_importance(study, evaluations(plan_study(study, store))) == {}
    drive(study, store, parabola)
    shares = factor_importance(study, evaluations(plan_study(study, store)))
    assert list(shares) == ["loss.kl", "norm"] and shares["loss.kl"] > 0.8 and sum(shares.values()) == pytest.approx(1)


def test_settings_that_do_not_exist_are_left_out(searching: Callable[..., Study], tmp_path: Path) -> None:
    """The baseline has no regularizer, so there are no standard deviations that one leaves free."""
    outlier = "{level: outlier, strength: 1}"
    factors = f"  regularizer: [none, {outlier}]\n  regularizer.r: {{low: 2.0, high: 4.0}}\n" + RANGES
    study, store = searching(SEARCH.format("tpe", 20), factors), Store(tmp_path / "store")
    drive(study, store, parabola)
    rows = plan_study(study, store).treatments
    for row in rows:
        assert (row.levels["regularizer.r"] is None) == (row.levels["regularizer"] == "none")
    found = [row.levels["regularizer.r"] for row in rows if row.levels["regularizer"] != "none"]
    assert len(set(found)) > 2 and all(2 <= r <= 4 for r in found)


def test_whole_numbers_stay_whole_and_others_are_short(searching: Callable[..., Study], tmp_path: Path) -> None:
    factors = "  model.latent_channels: {low: 2, high: 8}\n  loss.kl: {low: 1e-8, high: 1, log: true}\ndesign: search\n"
    study, store = searching(SEARCH.format("random", 12), factors), Store(tmp_path / "store")
    drive(study, store, lambda levels: {"psnr": 20.0, "ssim": 0.5})
    for row in plan_study(study, store).treatments:
        channels, kl = row.levels["model.latent_channels"], row.levels["loss.kl"]
        assert isinstance(channels, int) and 2 <= channels <= 8
        assert 1e-8 <= kl <= 1 and kl == float(f"{kl:.3g}")


def test_what_no_longer_fits_the_study_is_not_counted(searching: Callable[..., Study], tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    drive(searching(), store, parabola, stop=10)
    narrow = searching(factors=RANGES.replace("1e-8", "1e-5"))
    kept = read_suggestions(narrow, store)
    assert 0 < len(kept) < 9 and all(one.levels["loss.kl"] >= 1e-5 for one in kept)
    assert len(read_json(store.study("tiny", "base").searched())) == 9


def test_the_plan_says_what_will_be_searched(
    searching: Callable[..., Study], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from rich.console import Console

    study, store = searching(seeds=2), Store(tmp_path / "store")
    plan = plan_study(study, store)
    summary = overview.summarise(plan)
    assert [summary[key] for key in ("treatments", "trials", "pending", "planned_steps")] == [30, 60, 60, 360]
    assert overview.count_statuses(plan_study(study, store))["trials"]["pending"] == 60
    print_plan(plan, summary, Console(width=200))
    text = capsys.readouterr().out
    assert "tpe, 1 of at most 30 treatments" in text and "loss.kl: 1e-08 to 1 on a log scale" in text
    assert {trial.treatment.levels["loss.kl"] for trial in one_trial_per_level(study)} == {1e-4, 1e-8, 1}


@pytest.mark.parametrize(
    ("search", "factors", "words"),
    [
        ("", RANGES, "needs the key 'search'"),
        (SEARCH.format("tpe", 4), RANGES.replace("search", "grid"), "'search' is for design 'search', not 'grid'"),
        ("", RANGES.replace("search", "grid"), "a range is for design 'search'; for 'grid' list the levels"),
        (SEARCH.format("tpe", 4), RANGES.replace("search", "[search, grid]"), "cannot be combined"),
        (SEARCH.format("tpr", 4), RANGES, "unknown sampler 'tpr'; did you mean 'tpe'?"),
        ("search: {sampler: tpe}\n", RANGES, "needs 'trials'"),
        ("search: {sampler: brute_force}\n", RANGES, "the range of 'loss.kl' is not a list of levels"),
        (SEARCH.format("tpe", 4).replace("psnr", "psrn"), RANGES, "did you mean 'psnr'?"),
        ("search: {trials: 4, constraints: {psnr: about 2}}\n", RANGES, "expected a bound such as '<= 2'"),
        ("search: {trials: 4, constraints: {psrn: <= 2}}\n", RANGES, "did you mean 'psnr'?"),
        (SEARCH.format("tpe", 4), RANGES.replace("1e-8", "10"), "is empty"),
        (SEARCH.format("tpe", 4), RANGES.replace("1e-8", "-1"), "loss.kl.weight: expected a number of at least 0"),
        (SEARCH.format("tpe", 4), RANGES.replace("1e-8", "1e-3"), "lacks the baseline's level, 0.0001"),
        (SEARCH.format("tpe", 4), RANGES.replace("1e-8", "0"), "needs low > 0"),
        (SEARCH.format("tpe", 4), RANGES.replace("low", "lo"), "unknown key 'factors.loss.kl.lo'; did you mean 'low'?"),
    ],
)
def test_searches_that_cannot_be_are_said(
    searching: Callable[..., Study], search: str, factors: str, words: str
) -> None:
    with pytest.raises(StudyError) as error:
        searching(search, factors)
    assert words in str(error.value)
