"""A level's file that breaks the rules is an error with its place and a way out, and takes nothing else down."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ablate.cli.catalogue import print_catalogue
from ablate.cli.output import page
from ablate.driver.catalogue import catalogue, schema
from ablate.driver.models import build_failure
from ablate.errors import StudyError
from ablate.slots import registry
from ablate.slots.level_file import LevelError, read_level
from ablate.study.study import load_study
from tests.levels import own_levels

Write = Callable[..., Path]


GOOD = '''"""A norm of one's own."""

import torch
from ablate.slots import Metric, Settings

GROUPS = 8


class Config(Settings):
    """None."""

    groups: int = 1


def build(config, channels, latent_channels):
    return torch.nn.GroupNorm(config.groups, channels)
'''


def read(path: Path, old: str = "", new: str = "", slot: str = "norm") -> registry.Level:
    assert old in GOOD
    path.write_text(GOOD.replace(old, new) if old else GOOD + new, encoding="utf-8")
    return read_level(slot, "mine", path)


@pytest.mark.parametrize(
    ("old", "new", "place", "words"),
    [
        ("int = 1", "str = torch.float32", "12:19", ("Config uses 'torch', imported from torch in line 3", "in build")),
        ("int = 1", "int = GROUPS", "12:19", ("Config uses 'GROUPS', defined in line 6", "or define it within Config")),
        ("groups: int", "groups: torch.Tensor", "12:13", ("'torch'", "math, pathlib, pydantic", "Metric, Misfit")),
        ("int = 1", "int = 1\n\n    def twice(self):\n        return GROUPS", "15:16", ("'GROUPS'",)),
        ("int = 1", "int = grups", "12:19", ("'grups', which is not defined",)),
        ("Settings\n", "Setings\n", "9:14", ("'Settings', which is not defined",)),
        ("(Settings)", "(Setings)", "9:14", ("'Setings', which is not defined",)),
        ("slots import Metric, ", "slots.settings import ", "9:14", ("from ablate.slots import Settings",)),
        ("import torch\n", "import math, torch\nPI = math.pi\n", None, ()),
        ("Config", "Konfig", "1:1", ("Config is missing", "class Config(Settings)")),
        ("class Config(Settings):", "Config = Settings\n\n\nclass Other:", "9:1", ("not a class of this file",)),
        ("Config(Settings)", "Config", "9:1", ("must inherit Settings of ablate.slots, found object",)),
        ("int = 1", "int = = 1", "12:19", ("invalid Python: invalid syntax",)),
        ("def build", "def biuld", "1:1", ("build is missing",)),
        ("groups: int = 1", "groups = 1", "9:1", ("PydanticUserError",)),
        ("", 'METRICS = [Metric("a", "", "up")]\n', "17:1", ("METRICS: expected a tuple of Metric, found [",)),
        ("", 'METRICS = (Metric("a", "", "up"))\n', "17:1", ("ends with a comma",)),
        ("", 'METRICS = (Metric("a", ""),)\n', "17:1", ("TypeError", "'direction'")),
        ("", "CHEAP = 1\n", "17:1", ("expected True or False, found 1",)),
        ("int = 1", "int = exit(3)", "12:1", ("exits while it is read (SystemExit: 3)",)),
        ("int = 1", "str = 1", "12:1", ("default of groups: expected a valid string, found 1",)),
        ("    groups: int = 1", "    level: int = 1", "12:1", ("a field of Config must not be named 'level'",)),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_its_place(
    old: str, new: str, place: str | None, words: tuple[str, ...], tmp_path: Path
) -> None:
    path = tmp_path / "mine.py"
    if place is None:
        assert read(path, old, new).name == "mine"
        return
    with pytest.raises(LevelError) as caught:
        read(path, old, new)
    (problem, *_) = caught.value.problems
    assert f"{problem.line}:{problem.column}" == place and problem.file == str(path.resolve())
    for text in words:
        assert text in problem.message
    assert f"{path.resolve()}:{problem.line}: " in caught.value.brief and "\n" not in caught.value.brief


def test_all_problems_of_a_file_come_at_once(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("SIZE = 1\nMETRICS = (SIZE, other)\n")
    with pytest.raises(LevelError) as caught:
        read_level("probe", "mine", tmp_path / "mine.py")
    assert [problem.message.partition(",")[0] for problem in caught.value.problems] == [
        "METRICS uses 'SIZE'", "METRICS uses 'other'", "Config is missing; a level's settings are a class",
        "build is missing; build(config",
    ]  # fmt: skip


def test_a_probe_must_report_something(tmp_path: Path) -> None:
    with pytest.raises(LevelError, match="METRICS is missing or empty"):
        read(tmp_path / "mine.py", slot="probe")


@pytest.mark.parametrize(
    "more",
    [
        'METRICS: tuple[Metric, ...] = (Metric("a", "", "up"),)\nCHEAP: bool = True\n',
        'METRICS = tuple(Metric(name, "", "up") for name in ("a",))\nCHEAP = True\n',
    ],
)
def test_annotated_and_computed_declarations_are_read(more: str, tmp_path: Path) -> None:
    level = read(tmp_path / "mine.py", new=more, slot="probe")
    assert [metric.name for metric in level.metrics] == ["a"] and level.cheap


@pytest.fixture
def broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The shipped levels, a norm and a loss term whose files are wrong beside them."""
    root = tmp_path / "components"
    root.mkdir()
    for slot in registry.SLOTS:
        (root / slot).mkdir()
        for path in (registry.ROOT / slot).glob("*.py"):
            (root / slot / path.name).symlink_to(path)
    (root / "norm" / "mine.py").write_text(GOOD.replace("int = 1", "int = GROUPS"))
    (root / "loss" / "mine.py").write_text("weight: = 1\n")
    monkeypatch.setattr(registry, "ROOT", root)
    registry.level.cache_clear()
    yield
    registry.level.cache_clear()


@pytest.mark.usefixtures("broken")
def test_a_study_that_names_a_broken_level_points_at_it(write_study: Write) -> None:
    path = write_study(("{level: group, groups: 4}", "mine"), ("kl: 1e-4}", "kl: 1e-4, mine: 1}"))
    with pytest.raises(StudyError) as caught:
        load_study(path)
    norm, loss = sorted(caught.value.problems, key=lambda problem: problem.line)
    assert (norm.line, norm.column) == (6, 9) and (loss.line, loss.column) == (8, 29)
    assert "level 'mine' of norm is wrong" in norm.message and "norm/mine.py:12: Config uses 'GROUPS'" in norm.message
    assert "loss/mine.py:1: invalid Python" in loss.message


@pytest.mark.usefixtures("broken")
def test_a_broken_level_is_listed_as_such_beside_the_others(capsys: pytest.CaptureFixture[str]) -> None:
    found = catalogue(["norm"])
    assert "Config uses 'GROUPS'" in found["norm"]["mine"]["error"]
    assert [name for name, level in found["norm"].items() if "error" in level] == ["mine"]
    print_catalogue(found, page())
    out = capsys.readouterr().out
    assert "cannot be used" in out and "Spatially conditional normalisation" in out
    assert "mine" not in json.dumps(schema()["properties"]["base"]["properties"]["norm"])


def test_the_command_shows_no_traceback(tmp_path: Path) -> None:
    """Where a broken level is met outside of a study."""
    code = (
        "import sys; from pathlib import Path; from ablate.slots import registry; from ablate.cli import main\n"
        "def app(): registry.read_level('norm', 'mine', Path(sys.argv[1]))\n"
        "main.app = app; main.main()"
    )
    path = tmp_path / "mine.py"
    path.write_text("class Config(Settings): ...\n")
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "mine.py:1:14: Config uses 'Settings'" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    """A folder of levels that holds the shipped ones."""
    with own_levels(tmp_path / "components"):
        yield tmp_path / "components"


def test_a_default_out_of_range_is_at_its_field(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    bounded = GOOD.replace("import torch\n", "import torch\nfrom pydantic import Field\n")
    path.write_text(bounded.replace("int = 1", "int = Field(-1, gt=0)"))
    with pytest.raises(LevelError) as caught:
        read_level("norm", "mine", path)
    (problem,) = caught.value.problems
    assert (problem.line, problem.message) == (13, "default of groups: expected a number greater than 0, found -1")


def test_folders_and_dangling_links_are_no_levels(root: Path, write_study: Write) -> None:
    shipped = registry.levels("norm")
    (root / "norm" / "bad.py").mkdir()
    (root / "norm" / "gone.py").symlink_to(root / "nowhere")
    (root / "norm" / ".#mine.py").symlink_to("someone@somewhere.1234")
    assert registry.levels("norm") == shipped
    assert build_failure(load_study(write_study()).baseline) is None


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(LevelError, match=r"mine.py:1:1: the file cannot be read: Is a directory"):
        read_level("norm", "mine", make_folder(tmp_path / "mine.py"))


def make_folder(path: Path) -> Path:
    path.mkdir()
    return path


ADVICE = "; ablate check-level norm/mine says what is missing"


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("    return torch", "    pass  # torch", "norm/mine.py:15: build returns None; it must return the level that"),
        ("    return torch", "    return 3  # torch", "norm/mine.py:15: build returns 3; it must return the level"),
        ("channels, latent_channels):", "channels):", "norm/mine.py:15: build is given 3 arguments, the first of them"),
        (
            "    return torch",
            "    exit(3)\n    return torch",
            "norm/mine.py:16: exits while it is built (Sys",
        ),
        ("GROUPS = 8", "exit(3)", "norm/mine.py:6: exits while it is built"),
        ("GROUPS = 8", "import nowhere", "ModuleNotFoundError: No module named 'nowhere' (norm/mine.py:6)"),
        ("    return torch", "    raise ValueError('boom')\n    return torch", "boom (norm/mine.py:16)"),
        ("    return torch", "    raise RuntimeError\n    return torch", "RuntimeError (norm/mine.py:16)"),
        ("    return torch", "    raise ValueError('norm: no')\n    return torch", "norm: no"),
    ],
)
def test_faults_of_a_levels_code_are_at_its_slot_with_file_and_line(
    root: Path, write_study: Write, old: str, new: str, reason: str
) -> None:
    assert old in GOOD
    (root / "norm" / "mine.py").write_text(GOOD.replace(old, new))
    failure = build_failure(load_study(write_study(("{level: group, groups: 4}", "mine"))).baseline)
    assert failure and failure.slot == "norm" and reason in failure.reason
    assert failure.reason.endswith(ADVICE) != ("ValueError" in new)
