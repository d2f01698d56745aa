"""Trials trained in this process, to their end or until they are killed, and their weights compared to the last bit."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from ablate.data.prepare import prepare
from ablate.engine import checkpoint, run, stages
from ablate.engine.build import build_parts
from ablate.engine.train import TrainingParts
from ablate.plan.trials import Trial
from ablate.store.folders import Store

Tensors = dict[str, torch.Tensor]

CPU = torch.device("cpu")


class Killed(BaseException):
    """Stands for a kill: nothing in the engine may catch it."""


def run_to_end(
    trial: Trial,
    store: Store,
    report: Callable[[stages.StepReport], None] = lambda progress: None,
    device: torch.device = CPU,
) -> Tensors:
    """Train and probe a trial, from where it is; gives its checkpoint's tensors."""
    result = run.run_trial(trial.order(), store, device, 1, report)
    assert result.status == "done", store.stage(trial.signature).error.read_text()
    return checkpoint.load(store.stage(trial.signature).checkpoint)


def run_until(step: int, trial: Trial, store: Store, device: torch.device = CPU) -> None:
    """Train a trial until it reports a step, and drop it there as a kill does."""

    def kill(progress: stages.StepReport) -> None:
        if progress.step == step:
            raise Killed

    with pytest.raises(Killed):
        run.run_trial(trial.order(), store, device, 1, kill)


def parts_of(trial: Trial, data: Path) -> TrainingParts:
    """What a trial trains, built as in a fresh process; `data` is where prepared pictures are kept."""
    run.reset_process(1)
    level = dict(trial.order()["recipe"]["data"])
    return build_parts(trial.order(), prepare(level.pop("level"), level, data), CPU)


def assert_equal(one: Tensors, other: Tensors, prefix: str = "") -> None:
    """The tensors whose names begin with `prefix` have the same names and are equal to the last bit."""
    names = [name for name in one if name.startswith(prefix)]
    assert names and names == [name for name in other if name.startswith(prefix)]
    for name in names:
        assert torch.equal(one[name], other[name]), name
