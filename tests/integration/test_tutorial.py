"""docs/tutorial.md: its commands run in order on a folder of photographs, and say what the page says."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from skimage import data

from tests.support.studies import ROOT

PAGE = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", PAGE, re.M | re.S)
PHOTOGRAPHS = ("astronaut", "cat", "chelsea", "coffee", "rocket")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Ten pictures: five photographs and their mirror images."""
    (tmp_path / "photos").mkdir()
    for name in PHOTOGRAPHS:
        pixels = getattr(data, name)()
        for side, picture in (("left", pixels), ("right", pixels[:, ::-1])):
            Image.fromarray(picture).save(tmp_path / "photos" / f"{name}_{side}.png")
    return tmp_path


def test_the_page_runs_as_it_is_written(folder: Path) -> None:
    environment = {
        **os.environ, "PYTHONPATH": str(ROOT), "MLFLOW_TRACKING_URI": "none", "PATH": f"{folder}:{os.environ['PATH']}",
        "COLUMNS": "200",
    }  # fmt: skip
    environment.pop("ABLATE_STORE", None)
    (folder / "ablate").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m ablate "$@"\n', encoding="utf-8")
    (folder / "ablate").chmod(0o755)
    code = ""
    for kind, text in BLOCKS:
        if kind == "console":
            run(text, folder, environment)
        elif kind == "yaml":
            change(folder / "study.yaml", text)
        else:
            code += text
    shown = re.sub(r"^(results\.\w+\(.*\))", r"print(\1)", code, flags=re.M)
    said = subprocess.run(
        [sys.executable, "-c", shown], cwd=folder, env=environment, capture_output=True, text=True, check=True
    )
    assert "treatment" in said.stdout and "Conv2d" in said.stdout
    assert all((folder / name).stat().st_size > 1000 for name in ("table.tex", "grid.pdf", "effects.pdf"))
    assert len([*folder.glob("runs/stages/*/record.json")]) == 15


def run(text: str, folder: Path, environment: dict[str, str]) -> None:
    """Run the commands of a block; each must say the lines that follow it."""
    for step in re.split(r"^\$ ", text, flags=re.M)[1:]:
        command, *expected = step.splitlines()
        ended = subprocess.run(command, shell=True, cwd=folder, env=environment, capture_output=True, text=True)
        assert ended.returncode == 0, f"{command}\n{ended.stdout}{ended.stderr}"
        said = ended.stdout + ended.stderr
        assert not [line for line in expected if line not in said], f"{command}\n{said}"


def change(study: Path, text: str) -> None:
    """Put keys of the page in place of the study's own; its trials are shortened, as no number is looked at."""
    written = study.read_text(encoding="utf-8").replace("stages.train.steps: 150", "stages.train.steps: 4")
    for key in re.findall(r"^\w+:(?:.*\n(?: .*\n)*)", text, re.M):
        name = key.partition(":")[0]
        written, count = re.subn(rf"^{name}:.*\n(?: .*\n)*", key, written, flags=re.M)
        assert count == 1, name
    study.write_text(written, encoding="utf-8")
