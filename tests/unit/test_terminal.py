"""A table on a terminal: as wide as it is; what does not fit is named, from the last metric on."""

import io
import os
import pty
import re
import subprocess
from pathlib import Path

import pytest
from rich.console import Console

from ablate.adaptive.recall import plan_study
from ablate.analysis.tables.build import build_table
from ablate.analysis.typeset.cells import Layout
from ablate.analysis.typeset.terminal import fit, terminal
from ablate.driver.studies import write_card
from ablate.plan.trials import Trial
from ablate.store.folders import Store
from ablate.study.study import load_study
from tests.support.command import command, environment, inside
from tests.support.finished import finish_all
from tests.support.studies import Write

PROBES = ("probes: [reconstruction]", "probes: [reconstruction, color, grid, blur]")
METRICS = ["psnr", "ssim", "grid/const_fold", "grid/polyphase", "color/rms"]


def values(trial: Trial) -> dict[str, float]:
    return dict.fromkeys(METRICS, 20.0 + trial.seed / 2 - (0 if trial.treatment.is_baseline else 3 + trial.seed / 8))


@pytest.fixture
def store(write_study: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ABLATE_STORE", raising=False)
    study, store = load_study(write_study(PROBES)), Store(tmp_path / "runs")
    finish_all(study, store, values)
    write_card(plan_study(study, store))
    return store


@pytest.fixture
def layout(store: Store, tmp_path: Path) -> Layout:
    study = load_study(tmp_path / "tiny.yaml")
    known = [name for name in METRICS if name in study.metrics]
    return build_table(plan_study(study, store), known).layout


def shown(layout: Layout, width: int) -> list[str]:
    text = io.StringIO()
    console = Console(file=text, width=width)
    console.print(terminal(layout, console, "--metrics {names}"))
    return [line.rstrip() for line in text.getvalue().splitlines()]


def test_a_wide_terminal_shows_everything(layout: Layout) -> None:
    lines = shown(layout, 200)
    assert (
        "PSNR (dB) ↑" in lines[1]
        and "Phase imbalance of kernels ↓" in lines[1]
        and not any("fit" in line for line in lines)
    )
    assert "20.25 ± 0.35" in lines[2] and "−3.06 [−3.86, −2.27]" in lines[3] and lines[3].startswith("kl")
    assert any("Student" in line for line in lines)


@pytest.mark.parametrize("width", [60, 80, 100, 120])
def test_no_line_is_longer_than_the_terminal_and_the_last_metrics_go_first(layout: Layout, width: int) -> None:
    metrics = list(dict.fromkeys(column.metric.name for column in layout.columns if column.metric))
    hidden = fit(layout, Console(width=width)).hidden
    assert list(hidden) == metrics[len(metrics) - len(hidden) :] and "psnr" not in hidden
    lines = shown(layout, width)
    assert max(map(len, lines)) <= width and "kl" in lines[3]
    assert ("--metrics " + ",".join(hidden) in " ".join(lines)) == bool(hidden)


def test_a_hidden_primary_metric_takes_its_verdict_along(layout: Layout, store: Store, tmp_path: Path) -> None:
    other = build_table(plan_study(load_study(tmp_path / "tiny.yaml"), store), ["grid/const_fold", "psnr"]).layout
    fitted = fit(other, Console(width=58))
    assert fitted.hidden == ("psnr",)
    assert [column.kind for column in fitted.layout.columns] == ["level", "value", "seeds"]


def test_names_stay_on_the_narrowest_terminal(layout: Layout) -> None:
    lines = shown(layout, 40)
    assert any("baseline" in line for line in lines) and max(map(len, lines)) <= 40


def test_the_command_fits_a_terminal_and_is_markdown_in_a_pipe(store: Store) -> None:
    assert inside("table", "tiny").stdout.startswith("tiny: Does a strong KL weight cost PSNR?\n\n| factor | level")
    ours, theirs = pty.openpty()
    done = subprocess.Popen(
        command("table", "tiny", "--metrics", "all"), stdout=theirs, stderr=subprocess.PIPE, text=True,
        env=environment({"COLUMNS": "90", "NO_COLOR": "1", "TERM": "xterm"}),
    )  # fmt: skip
    os.close(theirs)
    text = b""
    while True:
        try:
            piece = os.read(ours, 65536)
        except OSError:  # the other end is closed
            break
        text += piece
        if not piece:
            break
    assert done.wait(100) == 0, done.stderr.read() if done.stderr else ""
    lines = re.sub(r"\x1b\[[\d;]*[A-Za-z]", "", text.decode()).replace("\r", "").splitlines()
    assert lines[1].startswith("factor") and "| " not in lines[1] and max(map(len, lines)) <= 90
    assert "To see them: --metrics " in " ".join(lines)
