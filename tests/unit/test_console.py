"""Progress: counts, the best so far, and the time left."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from ablate.driver.progress import ProgressDisplay, duration, time
from ablate.plan.trials import expand
from ablate.schedule.agenda import Event
from ablate.slots.settings import Metric
from ablate.store.folders import Store
from ablate.store.record import Record
from ablate.study.study import Study

PSNR = Metric("psnr", "dB", "up")


def test_lines_count_trials_and_name_the_reason(tiny: Study, tmp_path: Path) -> None:
    trials, store, said = expand(tiny), Store(tmp_path), io.StringIO()
    with ProgressDisplay(trials, trials[1:], store, PSNR, Console(file=said)) as progress:
        store.stage(trials[1].signature).finish(Record(trials[1].signature, 1, "done", "", 6, {"psnr": 20.0}))
        progress.handle(Event("started", trials[1]))
        progress.handle(Event("done", trials[1]))
        store.stage(trials[2].signature).finish(Record(trials[2].signature, 0, "done", "", 6, {"psnr": 21.5}))
        progress.handle(Event("done", trials[2]))
        progress.handle(Event("failed", trials[3], "out of memory"))
    lines = said.getvalue().splitlines()
    assert lines[0].startswith("[2/4] done  baseline s1  psnr 20.00")
    assert lines[2].startswith("[4/4] failed  kl=1 s1  out of memory")
    assert progress.best == (21.5, "kl=1 s0") and progress.running == {}


def test_the_time_left_counts_from_the_first_report(
    tiny: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    trials = expand(tiny)
    progress = ProgressDisplay(trials, trials, Store(tmp_path), PSNR, Console(file=io.StringIO()))
    now += 500  # starting Ray must not count
    progress.handle(Event("progress", trials[0], step=2, steps=6))
    assert progress.eta_s() is None
    now += 4
    progress.handle(Event("progress", trials[0], step=4, steps=6))
    assert progress.eta_s() == pytest.approx(4 / 2 * (2 + 3 * 6))


@pytest.mark.parametrize(("seconds", "text"), [(42, "42 s"), (420, "7 min"), (12600, "3.5 h")])
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text
