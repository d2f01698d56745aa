"""The files in docs/own_code.md work as they stand there."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from ablate.driver.preflight import validate
from ablate.plan.trials import expand
from ablate.recipe.stages import PLACES, External
from ablate.released.weights import WRAPPERS
from ablate.slots.targets import PLAIN
from ablate.store.folders import Store
from ablate.study.document import read_document
from ablate.study.study import load_study
from tests.support.own import fresh
from tests.support.training import run_to_end

PAGE = (Path(__file__).parents[2] / "docs" / "own_code.md").read_text(encoding="utf-8")

FILES = dict(re.findall(r"<!-- file: ([\w.]+) -->\n```\w+\n(.*?)```", PAGE, flags=re.DOTALL))


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name, text in FILES.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    with fresh():
        yield tmp_path


@pytest.mark.parametrize(("name", "treatments"), [("study.yaml", 3), ("script.yaml", 2)])
def test_its_studies_run(name: str, treatments: int, project: Path) -> None:
    assert FILES.keys() == {"vae.py", "study.yaml", "train.py", "script.yaml"}
    validate(read_document(project / name), None, (), gpu=False)
    trials = expand(load_study(project / name))
    assert len({trial.treatment.label for trial in trials}) == treatments
    store = Store(project / "runs")
    run_to_end(trials[-1], store)
    record = store.stage(trials[-1].signature).record()
    assert record is not None and record.steps == 60
    lines = store.stage(trials[-1].signature).read_steps()
    loss = "train/loss"
    assert lines[-1][loss] < lines[0][loss]
    assert torch.isfinite(torch.tensor(record.metrics["psnr"]))


def test_its_tables_are_complete() -> None:
    for name in External.model_fields:
        assert name == "content" or f"`{name}`" in PAGE
    assert all(f"`{{{name}}}`" in PAGE for name in PLACES)
    assert all(re.search(rf"^\| .*\b{slot}\b", PAGE, re.MULTILINE) for slot in PLAIN)
    assert all(f"`{key}`" in PAGE for key in WRAPPERS)
