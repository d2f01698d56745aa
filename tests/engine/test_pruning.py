"""Pruning: the rules against Optuna's and against definitions, then real small runs in one process and under Ray."""

import json
import math
from pathlib import Path
from statistics import fmean, median
from typing import Any

import mlflow
import numpy as np
import optuna
import pytest
from rich.console import Console

from ablate.adaptive.pruning import Pruner, read_pruned
from ablate.adaptive.recall import plan_study
from ablate.adaptive.search import SearchSource, evaluations
from ablate.analysis.tables.build import build_table
from ablate.driver.overview import count_statuses
from ablate.driver.sweep import sweep
from ablate.errors import StudyError
from ablate.plan.trials import expand
from ablate.schedule.agenda import Agenda, Event
from ablate.schedule.inline import run_inline
from ablate.schedule.ray_tune import run_ray
from ablate.schedule.resources import Resources
from ablate.slots.settings import Metric
from ablate.store.files import read_json
from ablate.store.folders import Store
from ablate.store.record import Record
from ablate.study.pruning import Pruning
from ablate.study.study import Study, load_study
from tests.support.studies import Write

LOSS = Metric("loss", "1", "down")


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_asha_stops_what_optunas_successive_halving_stops(factor: int) -> None:
    """Thirty trials one after the other, whose values at each step are drawn."""
    rule = Pruning("asha", "train/loss", LOSS, 2, factor)
    pruner = optuna.pruners.SuccessiveHalvingPruner(min_resource=2, reduction_factor=factor)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    oracle = optuna.create_study(pruner=pruner)
    rng = np.random.default_rng(factor)
    curves: list[dict[int, float]] = []
    stops = []
    for _ in range(30):
        trial, curve = oracle.ask(), dict[int, float]()
        stopped = 0
        for step in range(1, 40):
            curve[step] = float(rng.integers(0, 20))  # ties on purpose
            trial.report(curve[step], step)
            ours = rule.is_rung(step) and bool(rule.objection(step, curve, curves, []))
            assert ours == trial.should_prune(), (len(curves), step)
            if ours:
                stopped = step
                break
        oracle.tell(trial, state=optuna.trial.TrialState.PRUNED if stopped else None, values=None if stopped else 0.0)
        curves.append(curve)
        stops.append(stopped)
    assert len(set(stops)) > 3, "stops at several rungs, and lets some through"


def test_the_median_rule_is_the_definition() -> None:
    rule = Pruning("median", "during/psnr", Metric("psnr", "dB", "up"), 3, 3)
    rng = np.random.default_rng(0)
    outcomes = set()
    for _ in range(200):
        finished = [dict(enumerate(rng.normal(20, 3, 8), 1)) for _ in range(int(rng.integers(0, 6)))]
        own = dict(enumerate(rng.normal(19, 3, 5), 1))
        best = max(own.values())
        middle = median(fmean(curve[step] for step in range(1, 6)) for curve in finished) if finished else math.nan
        expected = len(finished) >= 3 and best < middle

        def losses(curve: dict[int, float]) -> dict[int, float]:
            return {step: rule.loss(value) for step, value in curve.items()}

        found = rule.objection(5, losses(own), [], [losses(curve) for curve in finished])
        assert bool(found) == expected
        assert not expected or (f"best {best:.4g}" in found and f"finished {middle:.4g}" in found)
        outcomes.add(expected)
    assert outcomes == {True, False} and not rule.is_rung(2) and rule.is_rung(3) and rule.is_rung(4)


def test_what_is_not_a_number_is_left_to_training() -> None:
    rule = Pruning("asha", "train/loss", LOSS, 2, 2)
    assert not rule.objection(2, {2: math.nan}, [{2: 1.0}, {2: 2.0}], [])
    near = Pruning("asha", "during/x", Metric("x", "1", "target", target=5.0), 2, 2)
    assert near.loss(7) == near.loss(3) == 2 and Pruning("asha", "x", Metric("x", "1", "up"), 2, 2).loss(7) == -7


RATES = (
    "  loss.kl: [1, 1e-4]\n",
    "  stages.train.lr: [3e-3, 1e-3, 1e-7, 1e-2, 2e-2]\n"
    "pruning: {rule: asha, metric: during/psnr, first: 4, factor: 2}\n",
)


LONGER = (
    "steps: 6, batch: 2, lr: 3e-3, log_every: 2,",
    "steps: 16, batch: 2, ema: 0.5, lr: 3e-3, log_every: 2, probe_every: 4,",
)


MANY = ("{level: leaves,", "{level: leaves, count: 64,")
"""Pictures with which there are stops at both rungs."""


def expected_stops(curves: dict[str, dict[int, float]]) -> dict[str, int]:
    """Label -> rung at which each treatment is stopped, run one after the other in this order."""
    seen: dict[int, list[float]] = {4: [], 8: []}
    stops = {}
    for label, curve in curves.items():
        for rung in (4, 8):
            kept = max(1, (len(seen[rung]) + 1) // 2)
            better = sum(value > curve[rung] for value in seen[rung])
            seen[rung].append(curve[rung])
            if label != "baseline" and better >= kept:
                stops[label] = rung
                break
    return stops


def test_which_real_trials_are_stopped_at_which_rung(write_study: Write, tmp_path: Path) -> None:
    """Whole curves come from the same study without pruning; by them the stops are foretold."""
    free = load_study(write_study((RATES[0], RATES[1].split("pruning")[0]), LONGER, MANY, name="free.yaml"))
    study = load_study(write_study(RATES, LONGER, MANY))
    whole, store = Store(tmp_path / "whole"), Store(tmp_path / "store")
    firsts = [trial for trial in expand(free) if trial.seed == 0]
    run_inline(firsts, whole, Resources(), lambda event: None)
    curves = {
        trial.treatment.label: {
            line["step"]: line["during/psnr"] for line in steps(whole, trial.signature) if "during/psnr" in line
        }
        for trial in firsts
    }
    expected = expected_stops(curves)
    assert {4, 8} == set(expected.values()) and 0 < len(expected) < 4, expected

    told: list[Event] = []
    run_inline(
        expand(study), store, Resources(), told.append, pruner=Pruner(plan_study(study, store), pruning_of(study))
    )
    done, judged = plan_study(study, store), read_json(store.study("tiny", "base").rungs)
    stopped = {
        t.treatment.label: steps(store, t.signature)[-1]["step"] for t in done.trials if t.pruned and t.seed == 0
    }
    assert stopped == expected
    assert {e.trial.name for e in told if e.kind == "pruned"} == {f"{label} s{s}" for label in expected for s in (0, 1)}
    for trial in done.trials:
        assert (store.stage(trial.signature).record() is None) == bool(trial.pruned)
        assert trial.seed == 0 or not trial.pruned or not store.stage(trial.signature).root.exists()
        assert not store.stage(trial.signature).running.exists()
    assert not done.pending and count_statuses(done)["trials"]["pruned"] == 2 * len(expected)

    again = sweep(study, store, Resources(), store.mlflow_uri, Console(quiet=True), inline=True)
    assert again.ran == 0 and not again.failed and read_json(store.study("tiny", "base").rungs) == judged
    shown = mlflow.MlflowClient(store.mlflow_uri).search_runs(["1"], "tags.`ablate.status` = 'pruned'")
    assert {run.info.run_name for run in shown} == {f"{label} s{seed}" for label in expected for seed in (0, 1)}
    assert {run.info.status for run in shown} == {"KILLED"}

    table = build_table(done)
    rows = {row["label"]: row for row in table.json()["rows"]}
    assert {label for label, row in rows.items() if row["status"] == {"pruned": 2}} == set(expected)
    for label in expected:
        assert rows[label]["n"] == 0 and rows[label]["cells"]["psnr"]["verdict"] == "pruned"
        assert rows[label]["cells"]["psnr"]["mean"] is None
    text = table.markdown()
    assert "pruned by asha on during/psnr with seed 0, at steps 4, 8, 16 …: " in text and "pruned 2/2" in text
    assert "\\toprule" in table.latex() and "pruned" in table.csv().splitlines()[0]


def test_ray_stops_and_keeps_what_the_rule_says(write_study: Write, tmp_path: Path) -> None:
    """One worker at a time takes trials in the same order as one process does, so the same ones are stopped."""
    study = load_study(write_study(RATES, LONGER, ("seeds: 2", "seeds: [0]")))
    judged = []
    for name, run in {"inline": run_inline, "ray": run_ray}.items():
        store, told = Store(tmp_path / name), list[Event]()
        run(
            expand(study),
            store,
            Resources(workers=1),
            told.append,
            pruner=Pruner(plan_study(study, store), pruning_of(study)),
        )
        judged.append(read_json(store.study("tiny", "base").rungs)["judged"])
        done = plan_study(study, store)
        assert len([event for event in told if event.kind == "pruned"]) == len(done.known.pruned) > 0
        assert not done.pending
        assert not any(store.stage(trial.signature).running.exists() for trial in done.trials)
    assert judged[0] == judged[1]


def steps(store: Store, signature: str) -> list[dict[str, Any]]:
    return store.stage(signature).read_steps()


def pruning_of(study: Study) -> Pruning:
    assert study.pruning
    return study.pruning


CHAIN = (
    "batch: 2, lr: 3e-3, log_every: 2, checkpoint_every: 3}",
    "batch: 2, lr: 3e-3, log_every: 2}\n  - tune: {steps: 6, lr: 1e-3, log_every: 2}",
)


def test_shared_stages_and_the_baseline_are_never_stopped(write_study: Write, tmp_path: Path) -> None:
    """Losses are planted: each treatment is worse than the one before, at every rung."""
    factors = "  stages.tune.lr: [1e-3, 1e-4, 1e-5]\npruning: {rule: asha, metric: train/loss, first: 2, factor: 2}\n"
    study = load_study(write_study(CHAIN, ("  loss.kl: [1, 1e-4]\n", factors)))
    store, told = Store(tmp_path / "store"), list[Event]()
    agenda = Agenda(expand(study), store, told.append, pruner=Pruner(plan_study(study, store), pruning_of(study)))
    stops = []
    while node := agenda.take():
        trial, folder = node.trial, store.stage(node.signature)
        folder.root.mkdir(parents=True)
        lines = [{"step": step, "train/loss": 1 / trial.treatment.recipe.settings["tune"].lr} for step in (2, 4, 6)]
        folder.steps.write_text("".join(json.dumps(line) + "\n" for line in lines))
        stopped = [step for step in (2, 4, 6) if agenda.progress(node, node.stage.before + step, 12, {})][:1]
        stops += [(node.stage.name, trial.name, node.stage.before + step) for step in stopped]
        if not stopped:
            record = Record(trial.signature, trial.seed, "done", "", 12, {}, probes=trial.probe_keys)
            if node.is_last:
                folder.finish(record)
            agenda.end(node, "done", "")
    assert stops == [("tune", "lr=0.0001 s0", 8), ("tune", "lr=1e-05 s0", 8)]
    assert agenda.is_over


def test_a_judgement_stands_and_ends_with_its_rule(write_study: Write, tmp_path: Path) -> None:
    study, store = load_study(write_study(RATES, LONGER)), Store(tmp_path / "store")
    pruner = Pruner(plan_study(study, store), pruning_of(study))
    first, second, *_ = (trial for trial in expand(study) if trial.seed == 0 and not trial.treatment.is_baseline)
    agenda = Agenda(expand(study), store, lambda event: None, pruner=pruner)
    nodes = {node.trial.name: node for node in agenda.waiting}

    def log(trial: Any, value: float) -> None:
        folder = store.stage(trial.signature)
        folder.root.mkdir(parents=True, exist_ok=True)
        folder.steps.write_text(json.dumps({"step": 4, "during/psnr": value}) + "\n")

    log(first, 10.0)
    assert not pruner.reason_to_stop(nodes[first.name], 4, expand(study)), "the first to arrive goes on"
    log(second, 20.0)
    assert not pruner.reason_to_stop(nodes[second.name], 4, expand(study))
    assert not pruner.reason_to_stop(nodes[first.name], 4, expand(study)), "as it was judged before, whoever came since"
    log(second, 5.0)
    assert not pruner.reason_to_stop(nodes[second.name], 4, expand(study))
    store.study("tiny", "base").rungs.unlink()
    assert "2 of 2 at step 4, 1 kept" in pruner.reason_to_stop(nodes[second.name], 4, expand(study))
    assert read_pruned(study, store).keys() == {second.signature}
    other = load_study(write_study((RATES[0], RATES[1].replace("factor: 2", "factor: 4")), LONGER))
    assert read_pruned(other, store) == {}


def test_a_search_counts_what_was_stopped_and_learns_that_it_was_bad(write_study: Write, tmp_path: Path) -> None:
    """Losses are planted: the farther the learning rate is from 1e-3, the higher."""
    factors = (
        "  stages.train.lr: {low: 1e-6, high: 1, log: true}\ndesign: search\nsearch: {trials: 40}\n"
        "pruning: {rule: asha, metric: train/loss, first: 2, factor: 2}\n"
    )
    study, store = load_study(write_study(("  loss.kl: [1, 1e-4]\n", factors))), Store(tmp_path / "store")
    plan = plan_study(study, store)
    pruner, explorer = Pruner(plan, pruning_of(study)), SearchSource(plan)
    agenda, made = Agenda(expand(study), store, lambda event: None, explorer, pruner=pruner), 0
    while node := agenda.take():
        trial, folder = node.trial, store.stage(node.signature)
        exponent = math.log10(trial.treatment.recipe.settings["train"].lr)
        folder.root.mkdir(parents=True)
        lines = [{"step": step, "train/loss": (exponent + 3) ** 2} for step in (2, 4)]
        folder.steps.write_text("".join(json.dumps(line) + "\n" for line in lines))
        made += trial.seed == 0
        if not any(agenda.progress(node, step, 6, {}) for step in (2, 4)):
            metrics = {"psnr": -((exponent + 3) ** 2), "ssim": 0.0}
            folder.finish(Record(trial.signature, trial.seed, "done", "", 6, metrics, probes=trial.probe_keys))
            agenda.end(node, "done", "")
    told = evaluations(plan_study(study, store))
    assert made == len(told) == 40 and {one.status for one in told} == {"done", "pruned"}
    exponents = [math.log10(one.suggestion.levels["stages.train.lr"]) for one in told]
    stopped = [abs(x + 3) for x, one in zip(exponents, told, strict=True) if one.status == "pruned"]
    assert max(abs(x + 3) for x, one in zip(exponents, told, strict=True) if one.status == "done") < max(stopped)
    near = [abs(x + 3) < 1 for x in exponents]
    assert sum(near[20:]) > 2 * 20 / 3, "twice as many as random draws, by what was stopped as well"
    rows = build_table(plan_study(study, store)).json()["rows"]
    assert all(row["cells"]["psnr"]["mean"] is None and not row["pareto"] for row in rows if "pruned" in row["status"])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{rule: ahsa, metric: train/loss, first: 2}", "unknown rule 'ahsa'; did you mean 'asha'?"),
        ("{rule: asha, metric: train/los, first: 2}", "did you mean 'train/loss'?"),
        ("{rule: asha, metric: during/psnr, first: 2}", "no stage sets 'probe_every'"),
        (
            "{rule: asha, metric: train/loss, first: 3}",
            "the first rung, 3, is no step at which 'train/loss' is known: 2",
        ),
        ("{rule: asha, metric: train/loss, first: 6}", "the first rung, 6, is no step"),
        ("{rule: median, metric: train/loss, first: 60}", "the first rung, 60, is no step"),
        ("{rule: asha, metric: train/loss, first: 0}", "pruning.first: expected a number above 0, found 0"),
        ("{rule: asha, metric: train/loss, first: 2, factor: 1}", "pruning.factor: expected a number of at least 2"),
        ("{rule: asha, metric: train/loss, fist: 2}", "unknown key 'pruning.fist'; did you mean 'first'?"),
    ],
)
def test_prunings_that_cannot_be_are_said(write_study: Write, text: str, words: str) -> None:
    with pytest.raises(StudyError) as error:
        load_study(write_study(("seeds: 2\n", f"seeds: 2\npruning: {text}\n")))
    assert words in str(error.value)
