"""`ablate new` writes a level that passes its exam, for every slot, and overwrites nothing."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ablate.cli.main import app
from ablate.slots import discover, registry
from ablate.testing import EXAMS, Exam
from tests.support.own import fresh


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    with fresh():
        yield tmp_path


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, list(arguments))
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result.exit_code, result.output


@pytest.mark.parametrize("slot", registry.SLOTS)
def test_what_it_writes_passes_its_exam(slot: str, here: Path) -> None:
    code, said = run("new", f"{slot}/my_own")
    assert code == 0 and f"components/{slot}/my_own.py" in said and "ablate check-level" in said
    text = (here / "components" / slot / "my_own.py").read_text()
    assert "starter" not in text.lower() and text.count("#") + text.count('"""') > 3
    registry.use(discover.discover(here))
    exam: Exam = type("TestLevel", (EXAMS[slot],), {"level": "my_own"})()
    assert [one for one in exam.run() if one.status != "ok"] == []


def test_it_overwrites_nothing(here: Path) -> None:
    assert run("new", "norm/mine")[0] == 0
    file = here / "components" / "norm" / "mine.py"
    file.write_text("mine")
    code, said = run("new", "norm/mine")
    assert code == 2 and "is there already" in said and file.read_text() == "mine"


def test_another_folder_is_made_where_it_is_named(here: Path) -> None:
    code, said = run("new", "probe/mine", "--components", "own levels")
    assert code == 0 and (here / "own levels" / "probe" / "mine.py").is_file()
    assert "--components 'own levels'" in said
    assert run("check-level", "probe/mine", "--components", "own levels")[0] == 0


@pytest.mark.parametrize(
    ("level", "expected"),
    [
        ("nrom/mine", "did you mean 'norm'?"),
        ("mine", "unknown slot 'mine'"),
        ("norm/", "found ''"),
        ("norm/Mine", "lower-case"),
        ("norm/a/b", "found 'a/b'"),
        ("norm/../x", "found '../x'"),
        ("norm/class", "found 'class'"),
        ("norm/group", "is a shipped level"),
    ],
)
def test_names_that_cannot_be(level: str, expected: str, here: Path) -> None:
    code, said = run("new", level)
    assert code == 2 and expected in said and not list(here.iterdir())
