"""Work that is done once: a sweep expands its study once for what is known of it, and reads each record once."""

import functools
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FunctionType
from typing import Any

import pytest
from rich.console import Console

from ablate.driver.sweep import sweep
from ablate.plan.treatments import list_rows, resolve, treatments
from ablate.plan.trials import expand, trials_of
from ablate.schedule.resources import Resources
from ablate.store.folders import Store
from ablate.store.record import Record
from ablate.store.stage import StageFolder
from ablate.study.study import load_study

SMOKE = Path(__file__).parents[2] / "search_spaces" / "smoke.yaml"
SHORT = ("stages.train.steps=4", "stages.train.checkpoint_every=2", "data.heldout_count=2")


@contextmanager
def counted(*functions: Callable[..., Any]) -> Iterator[Counter[str]]:
    """Count the calls of functions, in whichever modules they are known by name."""
    counts: Counter[str] = Counter()

    def counting(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def call(*arguments: Any, **named: Any) -> Any:
            counts[function.__name__] += 1
            return function(*arguments, **named)

        return call

    wrapped = {function: counting(function) for function in functions}
    modules = [module for name, module in sys.modules.items() if name.startswith("ablate")]
    with pytest.MonkeyPatch.context() as patch:
        for module in modules:
            for name, value in list(vars(module).items()):
                if isinstance(value, FunctionType) and value in wrapped:
                    patch.setattr(module, name, wrapped[value])
        yield counts


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each record has been read from its file."""
    counts: Counter[str] = Counter()
    original = StageFolder.read_record

    def read_record(self: StageFolder) -> Record | None:
        record = original(self)
        counts[self.root.name] += record is not None
        return record

    monkeypatch.setattr(StageFolder, "read_record", read_record)
    return counts


def test_a_sweep_expands_its_study_once_and_reads_each_record_once(tmp_path: Path, read: Counter[str]) -> None:
    """The first run trains four trials and mirrors them; the second finds them all finished."""
    study = load_study(SMOKE, overrides=SHORT)
    for ran in (4, 0):
        read.clear()
        store = Store(tmp_path / "runs")
        with counted(list_rows, resolve, treatments, trials_of, expand) as calls:
            done = sweep(study, store, Resources(), store.mlflow_uri, Console(quiet=True), inline=True)
        assert done.ran == ran and not done.failed
        assert calls == {"list_rows": 1, "resolve": 1, "trials_of": 1}
        assert len(read) == 4 and set(read.values()) == {1}


def test_what_results_add_is_a_plan_more_each_time(
    write_study: Callable[..., Path], tmp_path: Path, read: Counter[str]
) -> None:
    """A search of four treatments: the plan at the start, one after each suggestion, one when the search is over."""
    search = "primary: psnr\ndesign: search\nsearch: {sampler: random, trials: 4}"
    levels = ("loss.kl: [1, 1e-4]", "loss.kl: [1, 1e-1, 1e-2, 1e-3, 1e-4]")
    study = load_study(
        write_study(("primary: psnr", search), levels, ("seeds: 2", "seeds: [0]"), ("steps: 6", "steps: 2"))
    )
    store = Store(tmp_path / "runs")
    with counted(trials_of) as calls:
        done = sweep(study, store, Resources(), "none", Console(quiet=True), inline=True)
    assert done.ran == 4 and not done.failed
    assert calls["trials_of"] == 1 + 3 + 1 + 1, "the last one is of the levels that the search may come to"
    assert len(read) == 4 and set(read.values()) == {1}
