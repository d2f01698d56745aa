"""The levels in docs/writing_a_level.md pass their exams, and its tables are complete."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from ablate.slots import registry
from ablate.testing import EXAMS, Exam
from tests.levels import own_levels

PAGE = (Path(__file__).parents[2] / "docs" / "writing_a_level.md").read_text(encoding="utf-8")


LEVELS = re.findall(r"<!-- level: (\w+)/(\w+) -->\n```python\n(.*?)```", PAGE, flags=re.DOTALL)


@pytest.fixture
def written(tmp_path: Path) -> Iterator[None]:
    """The levels of the page, as files."""
    with own_levels(tmp_path / "components"):
        for slot, name, code in LEVELS:
            (registry.ROOT / slot / f"{name}.py").write_text(code, encoding="utf-8")
        yield


def test_the_levels_of_the_page_pass_their_exams(written: None) -> None:
    assert [(slot, name) for slot, name, _ in LEVELS] == [("norm", "mine"), ("probe", "brightness")]
    for slot, name, _ in LEVELS:
        exam: Exam = type("TestLevel", (EXAMS[slot],), {"level": name})()
        assert [one for one in exam.run() if one.status != "ok"] == []


def test_the_exam_of_the_page_passes(written: None) -> None:
    (code,) = re.findall(r"```python\n(from ablate\.testing.*?)```", PAGE, flags=re.DOTALL)
    names: dict[str, type[Exam]] = {}
    exec(code, names)
    points = list(names["TestMine"]().run())
    assert {one.status for one in points} == {"ok"}
    assert f"{len(points)} of {len(points)} points fulfilled" in PAGE


def test_every_slot_and_every_hook_is_on_the_page() -> None:
    for slot in registry.SLOTS:
        assert f"| {slot} |" in PAGE
    for base in set(registry.SETTINGS.values()):
        assert f"`{base.__name__}`" in PAGE
        for name in vars(base):
            is_hook = not name.startswith(("_", "model_")) and name not in base.model_fields and name != "acts"
            assert not is_hook or f"`{name}" in PAGE, f"{base.__name__}.{name} is not explained"
