"""Stages that trials share are run once, in Ray's workers as in this process, and nothing else comes out."""

import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from ablate.adaptive.recall import plan_study
from ablate.driver import overview
from ablate.engine import checkpoint
from ablate.engine.stages import StepReport
from ablate.plan.trials import Trial, expand, pending
from ablate.schedule.agenda import Event
from ablate.schedule.inline import run_inline
from ablate.schedule.ray_tune import run_ray
from ablate.schedule.resources import Resources
from ablate.store.folders import Store
from ablate.store.leases import Leases
from ablate.study.study import load_study
from tests.support.studies import Write
from tests.support.training import run_to_end

Executor = Callable[[list[Trial], Store, Resources, Callable[[Event], None]], None]


CHAIN = (
    "  - train: {steps: 6, batch: 2, lr: 3e-3, log_every: 2, checkpoint_every: 3}",
    "  - train: {steps: 6, batch: 2, lr: 3e-3, log_every: 1, checkpoint_every: 3}\n"
    "  - tune: {steps: 4, batch: 2, lr: 1e-3, log_every: 1}",
)


TUNED = (
    "  loss.kl: [1, 1e-4]\n",
    "  stages.tune.freeze: [none, encoder]\n  stages.tune.lr: [1e-3, 1e-4]\ndesign: grid\n",
)


KEEP_ALL = ("primary: psnr", "primary: psnr\nkeep: all")


TWO = Resources(cpus=1, workers=2)


def test_a_decoder_tuning_study_makes_its_distinct_steps_and_the_results_of_unshared_trials(
    write_study: Write, tmp_path: Path
) -> None:
    """Four treatments with three seeds. Every step is logged, so workers report each step that they make."""
    study = load_study(write_study(CHAIN, TUNED, ("seeds: 2", "seeds: 3"), KEEP_ALL))
    store = Store(tmp_path / "shared")
    trials, plan = expand(study), overview.summarise(plan_study(study, store))
    assert (plan["trials"], plan["planned_steps"], plan["distinct_steps"]) == (12, 12 * 10, 3 * 6 + 12 * 4)
    events: list[Event] = []
    run_ray(trials, store, TWO, events.append)
    made = Counter((stage_of(event), event.step) for event in events if event.kind == "progress")
    assert made.total() == plan["distinct_steps"] and set(made.values()) == {1}
    assert Counter(event.trial.name for event in events if event.kind == "done") == Counter(t.name for t in trials)

    alone = 0

    def count(progress: StepReport) -> None:
        nonlocal alone
        alone += 1

    for trial in trials:
        own = Store(tmp_path / trial.signature)
        run_to_end(trial, own, count)
        assert_same_results(trial, store, own)
    assert alone == plan["planned_steps"]


def test_workers_make_the_steps_of_forks_once(write_study: Write, tmp_path: Path) -> None:
    """The discriminator comes late, or never: the steps until then are made once a seed, in whichever worker."""
    study = load_study(
        write_study(
            (
                "kl: 1e-4}",
                "kl: 1e-4, adversarial: {weight: 0.1, start: 3}}\n"
                "  discriminator: {level: patchgan, width: 8, layers: 2, start: 3}",
            ),
            ("  loss.kl: [1, 1e-4]\n", "  loss.adversarial.start: [3, 5]\n  loss.adversarial.weight: [0.1, 0]\n"),
            ("log_every: 2", "log_every: 1"),
        )
    )
    trials, store = expand(study), Store(tmp_path / "runs")
    plan = overview.summarise(plan_study(study, store))
    assert (plan["planned_steps"], plan["distinct_steps"]) == (6 * 6, 2 * (3 + 3 * 3))
    events: list[Event] = []
    run_ray(trials, store, TWO, events.append)
    assert sum(event.kind == "progress" for event in events) == plan["distinct_steps"]
    assert sum(event.kind == "done" for event in events) == len(trials) == 6


def stage_of(event: Event) -> str:
    """The signature of the stage that an event's step belongs to."""
    stages = event.trial.treatment.recipe.stages
    return next(
        mark
        for mark, stage in zip(event.trial.signatures, stages, strict=True)
        if event.step <= stage.before + stage.settings.steps
    )


def assert_same_results(trial: Trial, one: Store, other: Store) -> None:
    """Weights, optimisers, metrics and liveness, to the last bit."""
    for mark in trial.signatures:
        found, expected = (checkpoint.load(store.stage(mark).checkpoint) for store in (one, other))
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], expected[name]) for name in found), trial.name
    records = [store.stage(trial.signature).record() for store in (one, other)]
    assert records[0] and records[1]
    for name in ("metrics", "raw", "liveness", "steps", "parameters", "active_parameters"):
        assert getattr(records[0], name) == getattr(records[1], name), (trial.name, name)


@pytest.mark.parametrize("executor", [run_inline, run_ray])
def test_trials_end_as_their_shared_stage_does(write_study: Write, tmp_path: Path, executor: Executor) -> None:
    """Of four shared first stages one diverges and two fail; each is run once, and two trials end with each."""
    factors = "  data.crop: [16, 8]\n  stages.train.lr: [3e-3, 1e30]\n  stages.tune.lr: [1e-3, 1e-4]\ndesign: grid\n"
    study = load_study(write_study(CHAIN, (TUNED[0], factors), ("seeds: 2", "seeds: 1")))
    trials, store = expand(study), Store(tmp_path / "runs")
    for trial in trials:
        if trial.treatment.levels["data.crop"] == 8:  # its log cannot be written
            store.stage(trial.signatures[0]).steps.mkdir(parents=True, exist_ok=True)
    events: list[Event] = []
    executor(trials, store, TWO, events.append)
    ended = {event.trial.name: event for event in events if event.kind in {"done", "diverged", "failed"}}
    assert len(ended) == len([event for event in events if event.kind in {"done", "diverged", "failed"}]) == 8
    for trial in trials:
        levels, event, record = trial.treatment.levels, ended[trial.name], store.stage(trial.signature).record()
        if levels["data.crop"] == 8:
            assert event.kind == "failed" and "steps.jsonl" in event.reason and "stage 'train'" in event.reason
            assert store.stage(trial.signature).status() == "failed" and record is None
        elif float(levels["stages.train.lr"]) == 1e30:
            assert event.kind == "diverged" and "of stage 'train'" in event.reason
            assert record and record.status == "diverged" and record.reason == event.reason and record.steps <= 6
        else:
            assert event.kind == "done" and record and record.status == "done" and record.steps == 10
    made = Counter((stage_of(event), event.step) for event in events if event.kind == "progress")
    assert set(made.values()) == {1}
    assert sum(event.kind == "started" for event in events) == 4 + 4, "stages after a failed one are not run"
    assert [trial.treatment.levels["data.crop"] for trial in pending(trials, store)] == [8] * 4
    assert not list(store.root.glob("stages/*/running.json"))


@pytest.mark.parametrize("executor", [run_inline, run_ray])
def test_what_another_sweep_works_on_is_left_to_it(write_study: Write, tmp_path: Path, executor: Executor) -> None:
    """Of four trials another sweep holds two. It finishes one and gives the other up while nothing else is left."""
    study, store = load_study(write_study()), Store(tmp_path / "runs")
    trials = expand(study)
    finished, given_up = trials[0], trials[1]
    other = Leases(store.root, "another sweep")
    assert other.take(finished.signature) and other.take(given_up.signature)
    events: list[Event] = []

    def notify(event: Event) -> None:
        events.append(event)
        if sum(each.kind == "done" for each in events) == 2 and event.kind == "done":
            threading.Timer(5, end).start()

    def end() -> None:
        run_to_end(finished, store)
        other.close()

    executor(trials, store, TWO, notify)
    waited = [event.trial.name for event in events if event.kind == "waiting"]
    assert sorted(waited) == sorted([finished.name, given_up.name])
    assert "another sweep (pid" in next(event.reason for event in events if event.kind == "waiting")
    ended = {event.trial.name: event.elsewhere for event in events if event.kind == "done"}
    assert ended == {trial.name: trial is finished for trial in trials}
    assert Counter(event.trial.name for event in events if event.kind == "started") == Counter(
        trial.name for trial in trials if trial is not finished
    )
    assert not list((store.root / "leases").glob("*.json"))
