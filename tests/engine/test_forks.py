"""Where trials part within a stage: found from what each step depends on, and nothing else comes out."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from ablate.adaptive.recall import plan_study
from ablate.driver import overview
from ablate.engine import checkpoint, run
from ablate.engine.state import TrainingState
from ablate.plan.tree import stage_tree, trained_signatures
from ablate.plan.trials import Trial, expand, pending
from ablate.schedule.agenda import Agenda, Event
from ablate.schedule.inline import run_inline
from ablate.schedule.resources import Resources
from ablate.store.folders import Store
from ablate.study.study import load_study
from tests.support.studies import Write
from tests.support.training import CPU, Killed, run_to_end

STAGE = "  - train: {steps: 6, batch: 2, lr: 3e-3, log_every: 2, checkpoint_every: 3}"


CHAIN = (
    STAGE,
    "  - train: {steps: 8, batch: 2, lr: 3e-3, log_every: 3, checkpoint_every: 3}\n"
    "  - tune: {steps: 4, batch: 2, lr: 1e-3, log_every: 3}",
)


GAN = (
    "kl: 1e-4}",
    "kl: 1e-4, adversarial: {weight: 0.1, start: 6}}\n"
    "  discriminator: {level: patchgan, width: 8, layers: 2, start: 4}",
)


LATE = (
    "factors:\n  loss.kl: [1, 1e-4]\n",
    "design: list\ntreatments:\n"
    "  - {loss.adversarial: 0}\n"
    "  - {discriminator.start: 2}\n"
    "  - {discriminator.width: 12}\n"
    "  - {loss.adversarial.ramp: 4}\n"
    "  - {loss.adversarial.start: 10}\n"
    "  - {stages.train.cooldown: 3}\n"
    "  - {loss.kl: 1}\n"
    "  - {loss.kl.start: 3}\n"
    "  - {loss.kl: {weight: 1, start: 9}}\n",
)


@pytest.fixture
def trials(write_study: Write) -> list[Trial]:
    return expand(load_study(write_study(CHAIN, GAN, LATE)))


def history(trial: Trial) -> Iterator[Any]:
    """All that each step of a trial depends on, by the definition of each setting, the steps before it included."""
    recipe, past = trial.treatment.recipe, [str(trial.seed)]
    losses, opponent = recipe.plain()["loss"], recipe.plain()["discriminator"]
    for stage in recipe.stages:
        for step in range(1, stage.settings.steps + 1):
            now, cooldown = stage.before + step, stage.settings.cooldown
            rate = stage.settings.lr * min(1.0, (stage.settings.steps - step + 1) / max(1, cooldown))
            active = {
                name: term["weight"] * min(1.0, max(0, now - term.get("start", 0)) / max(1, term.get("ramp", 0)))
                for name, term in losses.items()
            }
            plays = losses.get("adversarial", {}).get("weight", 0) and now > opponent["start"]
            critic = [opponent["width"], opponent["start"]] if plays else []
            past.append(f"{stage.name} {rate} {sorted(kv for kv in active.items() if kv[1])} {critic}")
            yield tuple(past)


def test_the_steps_of_the_tree_are_those_that_differ(trials: list[Trial]) -> None:
    distinct = {past for trial in trials for past in history(trial)}
    assert (sum(trial.steps for trial in trials), sum(node.steps for node in stage_tree(trials))) == (
        len(trials) * 12,
        len(distinct),
    )
    alone = sum(node.steps for node in stage_tree([trial for trial in trials if trial.treatment.is_baseline]))
    assert alone == 2 * 12, "no fork where nothing else goes on from it"


def test_signatures_know_nothing_of_forks(trials: list[Trial], write_study: Write) -> None:
    alone = expand(load_study(write_study(CHAIN, GAN, name="alone.yaml")))
    assert [trial.signatures for trial in alone[:2]] == [trial.signatures for trial in trials[:2]]
    assert any(trials[0].forks) and not any(alone[0].forks)


def test_stages_before_an_entrance_are_shared_whole(write_study: Write) -> None:
    """A term that enters with the second stage does not keep trials from sharing the first."""
    late = ("kl: 1e-4}", "kl: {weight: 1e-4, start: 8}}")
    trials = expand(load_study(write_study(CHAIN, late, ("  loss.kl: [1, 1e-4]", "  loss.kl: [0, 1, 1e-4]"))))
    assert sum(trial.steps for trial in trials) == 6 * 12
    assert sum(node.steps for node in stage_tree(trials)) == 2 * 8 + 6 * 4


def results(trial: Trial, store: Store) -> tuple[Any, ...]:
    record = store.stage(trial.signature).record()
    assert record, store.stage(trial.signature).failure()
    lines = [
        [{key: value for key, value in line.items() if key != "train/steps_per_s"} for line in folder.read_steps()]
        for folder in map(store.stage, trial.signatures)
    ]
    return record.metrics, record.raw, record.liveness, record.steps, record.status, record.reason, lines


def test_results_are_those_of_trials_that_share_nothing(
    write_study: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the last bit: weights, averages, optimisers, what is logged; and the steps made are those planned."""
    keep_all = ("primary: psnr", "primary: psnr\nkeep: all")
    study = load_study(write_study(CHAIN, GAN, LATE, ("seeds: 2", "seeds: 1"), keep_all))
    store = Store(tmp_path / "shared")
    trials, plan = expand(study), overview.summarise(plan_study(study, store))
    made = 0
    original = TrainingState.update_ema

    def count(self: TrainingState, decay: float, step: int) -> None:
        nonlocal made
        made += 1
        original(self, decay, step)

    monkeypatch.setattr(TrainingState, "update_ema", count)
    events: list[Event] = []
    run_inline(trials, store, Resources(), events.append)
    assert Counter(event.kind for event in events)["done"] == len(trials)
    assert made == plan["distinct_steps"] < plan["planned_steps"] == 12 * len(trials)
    assert overview.summarise(plan_study(study, store))["pending"] == 0
    for trial in trials:
        own = Store(tmp_path / trial.signature)
        run_to_end(trial, own)
        assert results(trial, store) == results(trial, own), trial.name
        for mark in trial.signatures:
            found, expected = (checkpoint.load(place.stage(mark).checkpoint) for place in (store, own))
            assert found.keys() == expected.keys()
            assert all(torch.equal(found[name], expected[name]) for name in found), trial.name
    assert made == plan["distinct_steps"] + plan["planned_steps"]


def test_a_prefix_that_diverges_is_the_end_of_all_that_share_it(write_study: Write, tmp_path: Path) -> None:
    wild = ("lr: 3e-3", "lr: 1e30")
    kl = ("  loss.kl: [1, 1e-4]", "  loss.kl.start: [4, 5]")
    study = load_study(write_study(wild, kl, ("kl: 1e-4}", "kl: {weight: 1e-4, start: 5}}"), ("seeds: 2", "seeds: 1")))
    trials, store = expand(study), Store(tmp_path / "shared")
    run_inline(trials, store, Resources(), lambda event: None)
    for trial in trials:
        own = Store(tmp_path / trial.signature)
        run.run_trial(trial.order(), own, CPU, 1, lambda progress: None)
        assert results(trial, store)[3:] == results(trial, own)[3:] and "not finite" in results(trial, own)[5]


def test_a_fork_in_the_store_serves_what_is_added(write_study: Write, tmp_path: Path) -> None:
    """Two treatments part after step 3; the one that is added goes on from there."""
    late = ("kl: 1e-4}", "kl: {weight: 1e-4, start: 3}}")
    store = Store(tmp_path / "runs")
    first, more = (
        expand(load_study(write_study(late, ("  loss.kl: [1, 1e-4]", f"  loss.kl: {levels}"))))
        for levels in ("[1e-4, 1]", "[1e-4, 1, 2]")
    )
    run_inline(first, store, Resources(), lambda event: None)
    todo = pending(more, store)
    nodes = stage_tree(todo, trained_signatures(more, store))
    assert [(node.trial.name, node.start_step, node.steps, node.parents) for node in nodes] == [
        ("kl=2 s0", 3, 3, ()), ("kl=2 s1", 3, 3, ())
    ]  # fmt: skip


def test_a_stage_waits_for_its_fork_and_for_the_stage_before(trials: list[Trial], tmp_path: Path) -> None:
    agenda = Agenda(trials, Store(tmp_path), lambda event: None)
    known = {node.signature: node for node in agenda.waiting}
    ended: set[str] = set()
    while node := agenda.take():
        assert ended.issuperset(node.parents)
        before = node.trial.treatment.recipe.stages.index(node.stage)
        assert ended.issuperset(node.trial.signatures[:before])
        ended.add(node.signature)
        agenda.end(node, "done", "")
    assert ended == set(known) and agenda.is_over


def test_a_failed_fork_fails_all_that_share_it(write_study: Write, tmp_path: Path) -> None:
    late = ("kl: 1e-4}", "kl: {weight: 1e-4, start: 3}}")
    trials = expand(load_study(write_study(late, ("  loss.kl: [1, 1e-4]", "  loss.kl: [1e-4, 1, 2]"))))
    store, told = Store(tmp_path), list[tuple[str, str]]()
    agenda = Agenda(trials, store, lambda event: told.append((event.kind, event.trial.name)))
    node = agenda.take()
    assert node and node.until == 3 and len(node.trials) == 3
    store.stage(node.signature).fail("ValueError: no", "the trace")
    agenda.end(node, "failed", "ValueError: no")
    assert told == [("failed", trial.name) for trial in trials if trial.seed == 0]
    assert {node.trial.seed for node in agenda.waiting} == {1}


def test_a_fork_that_was_killed_goes_on(write_study: Write, tmp_path: Path) -> None:
    late = ("kl: 1e-4}", "kl: {weight: 1e-4, start: 4}}")
    trials = expand(
        load_study(write_study(late, ("  loss.kl: [1, 1e-4]", "  loss.kl: [1e-4, 1]"), ("seeds: 2", "seeds: 1")))
    )
    store = Store(tmp_path / "runs")

    def kill(event: Event) -> None:
        if event.kind == "progress" and event.step == 4:
            raise Killed

    with pytest.raises(Killed):
        run_inline(trials, store, Resources(), kill)
    assert not any(store.stage(trial.signature).checkpoint.exists() for trial in trials)
    run_inline(pending(trials, store), store, Resources(), lambda event: None)
    for trial in trials:
        own = Store(tmp_path / trial.signature)
        run_to_end(trial, own)
        assert results(trial, store) == results(trial, own)
