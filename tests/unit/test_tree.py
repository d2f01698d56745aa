"""The tree of stages: what is run once for several trials, what waits for what, and how trials end with a stage."""

import itertools
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from ablate.adaptive.recall import plan_study
from ablate.driver.overview import summarise
from ablate.plan.tree import stage_tree, trained_signatures
from ablate.plan.trials import Trial, expand, pending
from ablate.schedule.agenda import Agenda, Event
from ablate.store.folders import Store
from ablate.store.record import Record
from ablate.study.study import load_study
from tests.support.command import python
from tests.support.studies import Write

STAGE = "  - train: {steps: 6, batch: 2, lr: 3e-3, log_every: 2, checkpoint_every: 3}"


CHAIN = (STAGE, STAGE + "\n  - tune: {steps: 4, batch: 2, lr: 1e-3}\n  - cool: {steps: 2, batch: 2, lr: 1e-4}")


TUNED = (
    "  loss.kl: [1, 1e-4]\n",
    "  stages.tune.freeze: [none, encoder]\n  stages.cool.lr: [1e-4, 1e-5]\ndesign: grid\n",
)


@pytest.fixture
def trials(write_study: Write) -> list[Trial]:
    """Four treatments with two seeds: one first stage a seed, two second ones, four third ones."""
    return expand(load_study(write_study(CHAIN, TUNED)))


def save_checkpoint(store: Store, signature: str, header: str) -> None:
    path = store.stage(signature).checkpoint
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({"model.weight": np.zeros(1, np.float32)}, path, metadata={"ablate": header})


def test_equal_prefixes_are_one_node(trials: list[Trial]) -> None:
    nodes = stage_tree(trials)
    assert [(node.stage.name, len(node.trials)) for node in nodes if node.trial.seed == 0] == [
        ("train", 4), ("tune", 2), ("cool", 1), ("cool", 1), ("tune", 2), ("cool", 1), ("cool", 1),
    ]  # fmt: skip
    assert {node.signature for node in nodes} == {mark for trial in trials for mark in trial.signatures}
    for node in nodes:
        for trial in node.trials:
            place = trial.signatures.index(node.signature)
            assert node.parents == trial.signatures[max(0, place - 1) : place]
    assert all(node.is_last == (node.stage.name == "cool") for node in nodes)


def test_nodes_come_in_the_order_of_the_trials_and_parents_first(trials: list[Trial]) -> None:
    marks = [node.signature for node in stage_tree(trials)]
    assert marks == list(dict.fromkeys(mark for trial in trials for mark in trial.signatures))
    assert [node.trial.name for node in stage_tree(trials)][:4] == ["baseline s0"] * 3 + ["baseline s1"]


def test_an_order_says_where_to_stop(trials: list[Trial]) -> None:
    first, second, third = stage_tree(trials)[:3]
    assert [node.order()["last"] for node in (first, second, third)] == list(trials[0].signatures)
    assert third.order() == trials[0].order()


def test_a_stage_can_be_the_last_of_one_trial_and_the_parent_of_others(write_study: Write) -> None:
    steps = ("  loss.kl: [1, 1e-4]", "  stages.tune.steps: [4, 0]")
    short = (STAGE, STAGE + "\n  - tune: {steps: 4, batch: 2, lr: 1e-3}")
    first, second = stage_tree(expand(load_study(write_study(short, steps, ("seeds: 2", "seeds: 1")))))
    assert first.is_last and first.trial.name == "steps=0 s0" and len(first.trials) == 2
    assert second.parents == (first.signature,) and second.trial.name == "baseline s0"


def test_nothing_waits_for_what_is_trained(trials: list[Trial]) -> None:
    train, tune, cool = trials[0].signatures
    nodes = {node.signature: node for node in stage_tree(trials, {train, cool})}
    assert train not in nodes and nodes[tune].parents == ()
    assert nodes[cool].parents == (tune,), "trained, and yet to be probed"


def test_trained_is_read_from_checkpoints(trials: list[Trial], tmp_path: Path) -> None:
    store, (train, tune, cool) = Store(tmp_path), trials[0].signatures
    save_checkpoint(store, train, '{"step": 6}')
    save_checkpoint(store, tune, '{"step": 3}')
    save_checkpoint(store, cool, '{"step": 1, "diverged": "the loss was not finite at step 1"}')
    assert trained_signatures(trials, store) == {train, cool}


def test_steps_are_counted_once_a_stage(trials: list[Trial]) -> None:
    distinct = sum(node.steps for node in stage_tree(trials))
    assert sum(trial.steps for trial in trials) == 8 * (6 + 4 + 2)
    assert distinct == 2 * (6 + 2 * 4 + 4 * 2)
    prefixes = {(trial.seed, trial.signatures[: i + 1]) for trial in trials for i in range(3)}
    steps = {"train": 6, "tune": 4, "cool": 2}
    assert distinct == sum(list(steps.values())[len(prefix) - 1] for _, prefix in prefixes)


def test_the_plan_costs_what_is_left(write_study: Write, tmp_path: Path) -> None:
    """A record gives the pace; stages that are trained and trials that are finished cost nothing more."""
    study, store = load_study(write_study(CHAIN, TUNED)), Store(tmp_path / "runs")
    trials = expand(study)
    record = Record(trials[0].signature, 0, "done", "", 12, probes=trials[0].probe_keys, train_s=24.0)
    store.stage(trials[0].signature).finish(record)
    for mark, steps in zip(trials[0].signatures, (6, 4, 2), strict=True):
        save_checkpoint(store, mark, f'{{"step": {steps}}}')
    summary = summarise(plan_study(study, store))
    assert (summary["planned_steps"], summary["distinct_steps"], summary["stages"]) == (96, 44, 14)
    assert summary["pending"] == 7 and summary["estimate_s"] == pytest.approx(2.0 * (44 - 12))


def test_reading_a_header_loads_no_torch(trials: list[Trial], tmp_path: Path) -> None:
    save_checkpoint(Store(tmp_path), "abc", '{"step": 6}')
    code = (
        "import sys; from pathlib import Path; from ablate.store.folders import Store; import ablate.plan.trials\n"
        f"assert Store(Path({str(tmp_path)!r})).stage('abc').has_ended(6)\n"
        "print({'torch', 'ray', 'mlflow', 'optuna'} & set(sys.modules))"
    )
    done = python(code)
    assert done.stdout.strip() == "set()"


class Told(list[tuple[str, str]]):
    """Collects what trials are told."""

    def __call__(self, event: Event) -> None:
        self.append((event.kind, event.trial.name))


def test_a_stage_waits_for_its_parent_and_for_nothing_else(trials: list[Trial], tmp_path: Path) -> None:
    told = Told()
    agenda = Agenda(trials, Store(tmp_path), told)
    begun = list(iter(agenda.take, None))
    assert [(node.stage.name, node.trial.seed) for node in begun] == [("train", 0), ("train", 1)]
    assert agenda.waiting, "the rest waits"
    agenda.end(begun[1], "done", "")
    tunes = list(iter(agenda.take, None))
    assert [(node.stage.name, node.trial.name) for node in tunes] == [
        ("tune", "baseline s1"), ("tune", "freeze=encoder s1")
    ]  # fmt: skip
    agenda.end(tunes[0], "done", "")
    assert [node.trial.name for node in iter(agenda.take, None)] == ["baseline s1", "lr=1e-05 s1"]
    assert told == [], "no trial has ended"


def test_every_stage_is_taken_once_in_an_order_that_trees_allow(trials: list[Trial], tmp_path: Path) -> None:
    """With two workers that end in any order."""
    for pattern in itertools.product([0, -1], repeat=4):
        told = Told()
        agenda, running, taken = Agenda(trials, Store(tmp_path), told), [], []
        for turn in itertools.cycle(pattern):
            while len(running) < 2 and (node := agenda.take()):
                assert {done.signature for done in taken if done not in running}.issuperset(node.parents)
                running.append(node)
                taken.append(node)
            if not running:
                break
            agenda.end(running.pop(turn), "done", "")
        assert sorted(node.signature for node in taken) == sorted(node.signature for node in stage_tree(trials))
        assert sorted(told) == sorted(("done", trial.name) for trial in trials)
        assert not agenda.waiting


def test_a_failed_stage_fails_the_trials_that_need_it(trials: list[Trial], tmp_path: Path) -> None:
    store, told = Store(tmp_path), Told()
    agenda = Agenda(trials, store, told)
    first, other = agenda.take(), agenda.take()
    assert first and other
    store.stage(first.signature).fail("ValueError: no", "the trace")
    agenda.end(first, "failed", "ValueError: no")
    assert told == [("failed", trial.name) for trial in trials if trial.seed == 0]
    assert {node.trial.seed for node in agenda.waiting} == {1} and agenda.take() is None
    folder = store.stage(trials[0].signature)
    assert folder.failure() == "ValueError: no (stage 'train')" and "the trace" in folder.error.read_text()
    assert len(pending(trials, store)) == len(trials), "all of it is run again by the next sweep"
    assert len(Agenda(trials, store, told).waiting) == len(stage_tree(trials))


def test_a_diverged_stage_lets_those_after_it_find_out(trials: list[Trial], tmp_path: Path) -> None:
    told = Told()
    agenda = Agenda(trials[:1], Store(tmp_path), told)
    for _ in range(3):
        node = agenda.take()
        assert node
        agenda.end(node, "diverged", "the loss was not finite")
    assert told == [("diverged", "baseline s0")]


def test_a_trial_that_cannot_be_probed_fails_alone(write_study: Write, tmp_path: Path) -> None:
    short = (STAGE, STAGE + "\n  - tune: {steps: 4, batch: 2, lr: 1e-3}")
    steps = ("  loss.kl: [1, 1e-4]", "  stages.tune.steps: [4, 0]")
    trials = expand(load_study(write_study(short, steps, ("seeds: 2", "seeds: 1"))))
    store, told = Store(tmp_path / "runs"), Told()
    agenda = Agenda(trials, store, told)
    node = agenda.take()
    assert node and agenda.take() is None
    save_checkpoint(store, node.signature, '{"step": 6}')
    store.stage(node.signature).fail("ValueError: the probe", "")
    agenda.end(node, "failed", "ValueError: the probe")
    assert told == [("failed", "steps=0 s0")]
    after = agenda.take()
    assert after and after.trial.name == "baseline s0"
