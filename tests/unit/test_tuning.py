"""Tuning of nuisance settings, driven through records of closed-form results; nothing is trained."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from ablate.adaptive.recall import plan_study
from ablate.adaptive.tuning import future_trials
from ablate.analysis.tables.build import build_table
from ablate.cli.check import count_trials
from ablate.driver import overview
from ablate.driver.plan_text import print_plan
from ablate.driver.sweep import trial_source
from ablate.errors import StudyError
from ablate.plan.tree import Node
from ablate.plan.trials import Trial
from ablate.schedule.agenda import Agenda, Event
from ablate.store.folders import Store
from ablate.store.record import Record
from ablate.study.study import Study, load_study
from tests.support.finished import finish
from tests.support.studies import Write

Result = Callable[[Trial], dict[str, float]]


NUISANCE = "nuisance: {stages.train.lr: {low: 1e-4, high: 1e-1, log: true}}\n"


BEST = {"group": -3.5, "scn": -1.5}
"""Decimal logarithm of the learning rate that suits each norm."""


def rate(trial: Trial) -> float:
    return trial.treatment.recipe.settings["train"].lr


def valley(trial: Trial) -> dict[str, float]:
    """PSNR that depends on a norm by how far the learning rate is from its best alone; 90 dB more while tuning."""
    luck = 90.0 if trial.seed == 1000 else trial.seed / 100
    return {"psnr": 20 - (math.log10(rate(trial)) - BEST[trial.treatment.levels["norm"]]) ** 2 + luck, "ssim": 0.5}


@pytest.fixture
def tuned(write_study: Write) -> Callable[..., Study]:
    """The tiny study, of two norms, with a learning rate to tune."""

    def make(more: str = NUISANCE + "tuning: {trials: 8}\n") -> Study:
        norms = "  norm: [group, scn]\n" + more
        return load_study(write_study(("  loss.kl: [1, 1e-4]\n", norms), ("groups: 4", "groups: 8")))

    return make


def drive(
    study: Study, store: Store, result: Result = valley, *, workers: int = 1, stop: int = 1000, status: str = "done"
) -> list[Trial]:
    """Take stages as executors do, `workers` at once, and end the oldest; after `stop` of them all is dropped."""
    plan, told = plan_study(study, store), list[Event]()
    agenda = Agenda(plan.pending, store, told.append, trial_source(plan), workers)
    running: list[Node] = []
    ran: list[Trial] = []
    while len(ran) < stop:
        while len(running) < workers and (node := agenda.take()):
            running.append(node)
        if not running:
            assert agenda.is_over
            break
        node, trial = running[0], running.pop(0).trial
        assert trial.treatment.nuisance is not None, "run before its settings were known"
        metrics = result(trial) if status == "done" else {}
        finish(store, trial, metrics, status)
        ran.append(trial)
        agenda.end(node, "done", "")
    agenda.close()
    return ran


@pytest.mark.parametrize("sampler", ["tpe", "random", "nsga2"])
def test_each_treatment_gets_its_own_best_at_the_same_budget(
    tuned: Callable[..., Study], tmp_path: Path, sampler: str
) -> None:
    study, store = tuned(NUISANCE + f"tuning: {{trials: 12, sampler: {sampler}}}\n"), Store(tmp_path / "store")
    ran = drive(study, store, workers=2)
    tried = {norm: [t for t in ran if t.role == "tuning" and t.treatment.levels["norm"] == norm] for norm in BEST}
    rows = [trial for trial in ran if trial.role == "trial"]
    assert [len(tried[norm]) for norm in BEST] == [12, 12] and len(rows) == 4
    assert {trial.seed for trials in tried.values() for trial in trials} == {1000}
    for norm, exponent in BEST.items():
        assert rate(tried[norm][0]) == 3e-3, "the file's own rate is tried first"
        nearest = min(map(rate, tried[norm]), key=lambda lr: abs(math.log10(lr) - exponent))
        assert {rate(trial) for trial in rows if trial.treatment.levels["norm"] == norm} == {nearest}
        assert {trial.seed for trial in rows if trial.treatment.levels["norm"] == norm} == {0, 1}
    assert not drive(study, store) and future_trials(plan_study(study, store)) == 0


def test_no_tuning_trial_enters_the_table_and_its_notes_say_what_was_done(
    tuned: Callable[..., Study], tmp_path: Path
) -> None:
    """In tuning, PSNR is 90 dB higher."""
    study, store = tuned(NUISANCE + "tuning: {trials: 3, sampler: random, seeds: [1000]}\n"), Store(tmp_path / "store")
    drive(study, store)
    table = build_table(plan_study(study, store))
    rows = {row["label"]: row for row in table.json()["rows"]}
    for label, norm in {"baseline": "group", "norm=scn": "scn"}.items():
        lr = rows[label]["nuisance"]["stages.train.lr"]
        expected = 20 - (math.log10(lr) - BEST[norm]) ** 2 + 0.005
        assert rows[label]["n"] == 2 and rows[label]["cells"]["psnr"]["mean"] == pytest.approx(expected)
    text = table.markdown()
    assert "Each treatment had 3 settings, trained in full with seed 1000" in text and "by random for PSNR: lr" in text
    assert f"norm=SCN lr {rows['norm=scn']['nuisance']['stages.train.lr']:g}" in text
    assert "All 4 trials finished" in text


def test_a_cut_study_repeats_nothing_and_ends_alike_however_many_workers(
    tuned: Callable[..., Study], tmp_path: Path
) -> None:
    study = tuned(NUISANCE + "tuning: {trials: 12}\n")
    whole, cut = Store(tmp_path / "whole"), Store(tmp_path / "cut")
    first = {trial.signature for trial in drive(study, whole)}
    signatures: list[str] = []
    while ran := drive(study, cut, workers=3, stop=5):
        signatures += [trial.signature for trial in ran]
    assert len(set(signatures)) == len(signatures) == 2 * 12 + 4 and set(signatures) == first
    assert plan_study(study, cut).known.tuned == plan_study(study, whole).known.tuned != {}


def test_another_budget_or_range_tunes_what_is_new_alone(tuned: Callable[..., Study], tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    few, more = (tuned(NUISANCE + f"tuning: {{trials: {n}, sampler: random}}\n") for n in (4, 6))
    drive(few, store)
    assert sum(trial.role == "tuning" for trial in drive(more, store)) == 2 * 2
    assert plan_study(few, store).known.tuned.keys() == plan_study(more, store).known.tuned.keys()


def test_where_all_diverges_the_files_own_settings_are_confirmed(tuned: Callable[..., Study], tmp_path: Path) -> None:
    study, store = tuned(NUISANCE + "tuning: {trials: 3}\n"), Store(tmp_path / "store")
    ran = drive(study, store, status="diverged")
    assert [rate(trial) for trial in ran if trial.role == "trial"] == [3e-3] * 4


def test_what_fails_in_tuning_is_not_confirmed_and_tried_again(tuned: Callable[..., Study], tmp_path: Path) -> None:
    study, store = tuned(NUISANCE + "tuning: {trials: 3}\n"), Store(tmp_path / "store")
    plan = plan_study(study, store)
    agenda = Agenda(plan.ready, store, [].append, trial_source(plan))
    lost = agenda.take()
    assert lost and lost.trial.role == "tuning" and lost.trial.treatment.is_baseline
    store.stage(lost.signature).fail("out of memory", "")
    agenda.end(lost, "failed", "out of memory")
    while node := agenda.take():
        trial = node.trial
        assert trial.treatment.label == "norm=scn"
        record = Record(trial.signature, trial.seed, "done", "", 6, valley(trial), probes=trial.probe_keys)
        store.stage(trial.signature).finish(record)
        agenda.end(node, "done", "")
    assert agenda.is_over and len(plan_study(study, store).known.tuned) == 1
    assert [trial.role for trial in drive(study, store)] == ["tuning"] * 3 + ["trial"] * 2


def test_the_plan_and_the_status_count_tuning_trials(
    tuned: Callable[..., Study], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study, store = tuned(NUISANCE + "tuning: {trials: 5, seeds: [7, 8]}\n"), Store(tmp_path / "store")
    plan = plan_study(study, store)
    summary = overview.summarise(plan)
    counted = [summary[key] for key in ("treatments", "trials", "pending", "planned_steps", "stages")]
    assert counted == [2, 2 * (5 * 2 + 2), 24, 24 * 6, 24]
    print_plan(plan, summary, Console(width=300))
    text = capsys.readouterr().out
    assert "stages.train.lr (0.0001 to 0.1 on a log scale) by tpe for psnr, 5 settings × seeds [7, 8] each" in text
    drive(study, store, stop=9)
    assert overview.count_statuses(plan_study(study, store))["trials"]["done"] == 9
    assert overview.summarise(plan_study(study, store))["pending"] == 24 - 9
    shown = overview.list_trials(plan_study(study, store), "norm=scn [lr=0.003] s7")
    assert [(row["role"], row["nuisance"]) for row in shown] == [("tuning", {"stages.train.lr": 3e-3})]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (NUISANCE, "'nuisance' needs the key 'tuning'"),
        ("tuning: {trials: 3}\n", "names nothing to tune"),
        (NUISANCE + "tuning: {trials: 0}\n", "tuning.trials: expected a number of at least 1, found 0"),
        (NUISANCE + "tuning: {trails: 3}\n", "unknown key 'tuning.trails'; did you mean 'trials'?"),
        (NUISANCE + "tuning: {trials: 3, seeds: [1]}\n", "seed 1 is one of the study's"),
        (NUISANCE + "tuning: {trials: 3, sampler: tpr}\n", "unknown sampler 'tpr'; did you mean 'tpe'?"),
        (
            NUISANCE + "tuning: {trials: 3, sampler: brute_force}\n",
            "'stages.train.lr' is not a list of levels",
        ),
        ("nuisance: {norm: [group, scn]}\ntuning: {trials: 3}\n", "overlaps with factor 'norm', which is varied"),
        ("nuisance: {norm.groups: [4, 8]}\ntuning: {trials: 3}\n", "overlaps with factor 'norm', which is varied"),
        ("nuisance: {stages.tran.lr: [1e-3, 1e-2]}\ntuning: {trials: 3}\n", "did you mean 'train'?"),
        ("nuisance: {stages.train.lrr: [1e-3, 1e-2]}\ntuning: {trials: 3}\n", "did you mean 'lr'?"),
        ("nuisance: {stages.train.lr: [3e-3]}\ntuning: {trials: 3}\n", "needs different levels to choose from"),
        ("nuisance: {stages.train.lr: {low: 1e-2, high: 1e-1}}\ntuning: {trials: 3}\n", "lacks the baseline's level"),
        (
            "nuisance: {stages.train.lr: {low: 1e-2}}\ntuning: {trials: 3}\n",
            "'nuisance.stages.train.lr.high' is missing",
        ),
        (
            "design: search\nsearch: {trials: 3}\n" + NUISANCE + "tuning: {trials: 3}\n",
            "design 'search' suggests all settings alike",
        ),
    ],
)
def test_tunings_that_cannot_be_are_said(tuned: Callable[..., Study], more: str, words: str) -> None:
    with pytest.raises(StudyError) as error:
        tuned(more)
    assert words in str(error.value)
    assert all(problem.line > 0 for problem in error.value.problems)


def test_check_counts_the_grid_that_brute_force_tunes_on(tuned: Callable[..., Study]) -> None:
    more = "nuisance: {stages.train.lr: [3e-3, 1e-2]}\ntuning: {trials: 9, sampler: brute_force}\n"
    assert count_trials(tuned(more)).endswith(", 4 more to tune them")
