"""When a stage counts as hanging, by a clock that the test moves; real hangs are in tests/chaos/test_hangs.py."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ablate.engine.pulse import BEAT_S, Pulse
from ablate.errors import UsageError
from ablate.plan.tree import Node, stage_tree
from ablate.plan.trials import expand
from ablate.schedule.resources import default_resources
from ablate.schedule.stalls import FLOOR_S, STEPS, StallWatch, read_stacks, take_stacks_and_kill
from ablate.store.files import read_json
from ablate.store.folders import Store
from ablate.store.process import this_process
from ablate.store.stage import Phase
from ablate.study.study import Study


class Watch:
    """A stage whose heartbeats and clock the test makes."""

    def __init__(self, node: Node, store: Store, limit_s: float | None) -> None:
        self.now = 0.0
        self.folder = store.stage(node.trial.signature)
        self.watch = StallWatch(store, limit_s, lambda: self.now)
        self.watch.begin("it", node)

    def beat(self, step: int, phase: Phase = "training", activity: str = "") -> None:
        self.folder.beat(step, 6000, phase, activity)

    def hangs_within(self, seconds: float) -> float | None:
        """Seconds after which the stage is found to hang, at most so many."""
        begun = self.now
        while self.now < begun + seconds:
            self.now += self.watch.every
            if self.watch.look():
                return self.now - begun
        return None


@pytest.fixture
def node(tiny: Study) -> Node:
    return stage_tree(expand(tiny))[0]


@pytest.mark.parametrize("step_s", [0.5, 20.0, 90.0])
def test_the_limit_is_by_the_median_step(node: Node, tmp_path: Path, step_s: float) -> None:
    """One step in ten takes ten times as long, as one with a probe does; the median does not see it."""
    stage = Watch(node, Store(tmp_path), None)
    stage.beat(0, "starting")
    limit = max(FLOOR_S, STEPS * step_s)
    logged = max(1, round(20 / step_s))
    for line in range(1, 30):
        assert stage.hangs_within(logged * step_s * (10 if line % 10 == 0 else 1)) is None
        stage.beat(line * logged)
    found = stage.hangs_within(2 * limit)
    assert found and limit < found < 1.2 * limit


@pytest.mark.parametrize("phase", ["starting", "saving", "probing"])
def test_only_steps_are_judged(node: Node, tmp_path: Path, phase: Phase) -> None:
    stage = Watch(node, Store(tmp_path), 60.0)
    for step in range(1, 5):
        stage.beat(step)
        stage.hangs_within(10)
    stage.beat(4, phase)
    assert stage.hangs_within(100_000) is None
    stage.beat(4, "training")
    assert stage.hangs_within(100) == pytest.approx(70, abs=10)


def test_a_command_that_writes_makes_progress(node: Node, tmp_path: Path) -> None:
    stage = Watch(node, Store(tmp_path), 60.0)
    for megabytes in range(5):
        stage.beat(0, activity=f"{megabytes} MB")
        assert stage.hangs_within(50) is None
    stage.beat(0, activity="4 MB")
    assert stage.hangs_within(100), "a new heartbeat alone is none"


def test_without_a_pace_there_is_no_limit(node: Node, tmp_path: Path) -> None:
    """Of a command without a log, as long as nobody has set a limit."""
    stage = Watch(node, Store(tmp_path), None)
    stage.beat(0)
    assert stage.hangs_within(10 * FLOOR_S) is None


def test_an_earlier_workers_heartbeat_does_not_count(node: Node, tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.stage(node.trial.signature).beat(3, 6)
    stage = Watch(node, store, 60.0)
    assert stage.hangs_within(1000) is None


def test_a_driver_that_slept_judges_nobody(node: Node, tmp_path: Path) -> None:
    stage = Watch(node, Store(tmp_path), 60.0)
    stage.beat(1)
    stage.hangs_within(20)
    stage.now += 3600
    assert not stage.watch.look()
    found = stage.hangs_within(200)
    assert found and 60 < found < 80


def test_heartbeats_between_lines_are_few_and_steps_exact(tmp_path: Path) -> None:
    """A thousand quick steps write a heartbeat or two; the file of the stacks has each step."""
    file = os.memfd_create("stacks")
    folder = Store(tmp_path).stage("it")
    pulse = Pulse(folder, 6000, file)
    pulse.tick("training", 1)
    begun = time.perf_counter()
    for step in range(2, 1001):
        pulse.tick("training", step)
    assert time.perf_counter() - begun < BEAT_S, "the loop is too slow for this test"
    assert read_json(folder.running)["step"] == 1
    assert int.from_bytes(os.pread(file, 8, 0), "little") == 1000
    pulse.tick("saving", 1000)
    assert read_json(folder.running)["phase"] == "saving"


CHILD = """
import json, sys, time
from ablate.engine.pulse import Pulse, offer_stacks
from ablate.store.stage import StageFolder
from pathlib import Path
Pulse(StageFolder(Path(sys.argv[1])), 9, offer_stacks()).beat("training", 7)
def sleepy():
    time.sleep(600)
sleepy()
"""


def test_the_stacks_of_a_process_are_read_and_it_is_killed(tmp_path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", CHILD, str(tmp_path)])
    while not (heartbeat := read_json(tmp_path / "running.json")):
        time.sleep(0.05)
    for _ in range(2):
        text, step = read_stacks(heartbeat)
        assert step == 7 and text.count("in sleepy") == 1, text
    assert take_stacks_and_kill(heartbeat)[0]
    assert child.wait(10) == -9
    assert take_stacks_and_kill(heartbeat) == (False, "", None), "it is dead"
    other = {**this_process(), "host": "elsewhere", "stacks": None}
    assert take_stacks_and_kill(other) == (False, "", None)


@pytest.mark.parametrize("minutes", [0, -1, float("inf"), float("nan")])
def test_a_limit_that_makes_no_sense(minutes: float) -> None:
    with pytest.raises(UsageError, match="stall minutes: expected a number above 0"):
        default_resources(gpus=0, stall_minutes=minutes)


def test_the_shortest_limit(node: Node, tmp_path: Path) -> None:
    assert Watch(node, Store(tmp_path), 0.1).watch.limit_s == 3 * BEAT_S
