"""docs/python.md: its code runs in order, in a folder of its own, and gives what the page says."""

import ast
import contextlib
import io
from pathlib import Path
from typing import Any

import matplotlib.figure
import pytest

from ablate.api import Drawing, ResultTable, StudyPlan
from tests.support.python_page import blocks


def test_the_page_runs_as_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ABLATE_STORE", raising=False)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "none")
    (study,) = blocks("yaml")
    Path("study.yaml").write_text(study, encoding="utf-8")
    names: dict[str, Any] = {}
    said = io.StringIO()
    shown = []
    for code in blocks("python"):
        *statements, last = ast.parse(code).body
        if not isinstance(last, ast.Expr):
            statements.append(last)
        with contextlib.redirect_stdout(said):
            exec(compile(ast.Module(statements, []), "python.md", "exec"), names)
        if isinstance(last, ast.Expr):  # what a notebook shows below the cell
            shown.append(eval(compile(ast.Expression(last.value), "python.md", "eval"), names))

    plan, selected, table, figure, answer = shown
    assert isinstance(plan, StudyPlan) and "4 trials, 4 pending" in repr(plan)
    assert list(selected.treatment) == ["baseline", "upsample=pixel_shuffle"] and selected["mean"].notna().all()
    assert len(names["trials"]) == 4 and (names["trials"].status == "done").all()
    assert isinstance(table, ResultTable) and "\\toprule" in names["latex"] and "PixelShuffle" in repr(table)
    assert isinstance(figure, Drawing) and isinstance(figure.figure, matplotlib.figure.Figure)
    assert Path("effects.pdf").read_bytes().startswith(b"%PDF")
    assert answer[0] == names["trials"].psnr[names["trials"].treatment != "baseline"].iloc[0]
    assert tuple(answer[1]) == (1, 4, 16, 16) and tuple(answer[2]) == (1, 3, 32, 32)
    assert said.getvalue() == blocks("")[0]
