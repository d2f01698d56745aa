"""Own levels: where they are found, what they may import, what their errors say, what the store keeps of them."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from ablate.cli.main import app
from ablate.driver.studies import StudyRequest, find_document, write_card
from ablate.engine.provenance import component_sources
from ablate.errors import StudyError
from ablate.plan.plan import make_plan
from ablate.plan.trials import expand
from ablate.slots import discover, registry
from ablate.slots.level_file import LevelError
from ablate.slots.own_code import from_plain
from ablate.store.code import fetch
from ablate.store.folders import Store
from ablate.study.study import load_study, read_study
from tests.support.own import IN_FACTORS, NORM, fresh, write_norm
from tests.support.studies import ROOT, Write


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv(discover.VARIABLE, raising=False)
    with fresh():
        yield


def run(*arguments: str | Path) -> tuple[int, str]:
    """Exit code and all output of a command in this process."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    error = "" if result.exception is None or isinstance(result.exception, SystemExit) else str(result.exception)
    return result.exit_code, result.output + error


def test_a_level_beside_the_study_is_known_by_its_name(write_study: Write, tmp_path: Path) -> None:
    file = write_norm(tmp_path / "components")
    study = load_study(write_study(*IN_FACTORS))
    assert registry.level("norm", "mine").path == file
    norm = registry.build("norm", "mine", {"factor": 3.0}, 4, None)
    h = torch.randn(2, 4, 5, 5)
    assert torch.allclose(norm(h), 3 * h / (h.square().mean(1, keepdim=True) + 1e-6).sqrt())
    assert len({trial.signature for trial in expand(study)}) == 4
    assert "components" not in sys.modules and not list(tmp_path.rglob("__pycache__"))


@pytest.mark.parametrize("way", ["option", "variable"])
def test_other_folders_are_named(way: str, write_study: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_norm(tmp_path / "levels" / "a")
    write_norm(tmp_path / "levels" / "b", "other")
    path = write_study((IN_FACTORS[0][0], "norm: [{level: group, groups: 4}, mine, other]"))
    assert "unknown level 'mine'" in run("check", path)[1]
    folders = [tmp_path / "levels" / name for name in "ab"]
    if way == "variable":
        monkeypatch.setenv("ABLATE_COMPONENTS", ":".join(map(str, folders)))
        code, said = run("check", path)
    else:
        code, said = run("check", path, "--components", folders[0], "--components", folders[1])
    assert code == 0 and "3 treatments" in said


def test_an_installed_package_brings_levels_by_an_entry_point(tmp_path: Path) -> None:
    """A real distribution on sys.path, in a process of its own."""
    write_norm(tmp_path / "site" / "my_package" / "levels")
    info = tmp_path / "site" / "my_package-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-package\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[ablate.components]\nmine = my_package.levels\n")
    code = "from ablate.slots import discover, registry; from pathlib import Path\n"
    code += "registry.use(discover.discover(Path.cwd())); print(registry.own().folders[0].found)\n"
    code += "print(registry.level('norm', 'mine').path); import sys; print('my_package' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True,
        env={"PYTHONPATH": f"{ROOT}:{tmp_path / 'site'}", "PATH": ""},
    )  # fmt: skip
    found, path, imported = done.stdout.splitlines()
    assert found == "entry point 'mine' of my-package" and path.endswith("site/my_package/levels/norm/mine.py")
    assert imported == "False"


def test_the_folder_of_the_shipped_levels_is_no_own_one(tmp_path: Path) -> None:
    assert not discover.discover(ROOT)
    shutil.copytree(ROOT / "components", tmp_path / "components")
    assert not discover.discover(tmp_path)


def test_a_folder_of_the_same_name_for_something_else_is_let_be(tmp_path: Path) -> None:
    (tmp_path / "components" / "buttons").mkdir(parents=True)
    (tmp_path / "components" / "buttons" / "norm.py").write_text("raise SystemExit")
    assert not discover.discover(tmp_path)


def test_shadowing_names_both_files(write_study: Write, tmp_path: Path) -> None:
    path = write_study(*IN_FACTORS)
    file = write_norm(tmp_path / "components")
    other = write_norm(tmp_path / "more")
    code, said = run("check", path, "--components", tmp_path / "more")
    assert code and str(file) in said and str(other) in said and "rename" in said
    shipped = write_norm(tmp_path / "components", "group")
    for arguments in (("check", path), ("plan", path), ("table", path), ("sweep", path)):
        code, said = run(*arguments)
        assert code and str(shipped) in said and str(registry.ROOT / "norm" / "group.py") in said


def test_the_same_folder_twice_is_one(write_study: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_norm(tmp_path / "components")
    monkeypatch.setenv("ABLATE_COMPONENTS", str(tmp_path / "components"))
    assert run("check", write_study(*IN_FACTORS), "--components", tmp_path / "x" / ".." / "components")[0] == 1
    (tmp_path / "x").mkdir()
    assert run("check", write_study(*IN_FACTORS), "--components", tmp_path / "x" / ".." / "components")[0] == 0


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("class Norm", "1 / 0\n\n\nclass Norm", "norm/mine.py:21: cannot be imported: ZeroDivisionError"),
        ("class Norm", "import nowhere\n\n\nclass Norm", "norm/mine.py:21: cannot be imported: ModuleNotFoundError"),
        ("class Norm", "import sys\nsys.exit(3)\n\n\nclass Norm", "norm/mine.py:22: exits while it is imported"),
        ("from ._size", "from _size", "a file beside the level is imported as 'from ._size import …'"),
        ("from ._size", "from ._siez", "norm/mine.py:8: cannot be imported: ModuleNotFoundError"),
        ("config: Config, channels: int, latent_channels: int | None", "config", "norm/mine.py:17: build is given 3"),
        ("def build", "def biuld", "norm/mine.py:1: build is missing"),
        ("class Config", "class Cfg", "Config is missing"),
        ("def build", "def build(:", "invalid Python"),
        ("factor: float = 1.0", "factor: float = nn.pi", "Config uses 'nn'"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("command", ["check", "plan", "sweep"])
def test_what_is_wrong_with_a_file_is_said_at_its_line(
    command: str, old: str, new: str, expected: str, write_study: Write, tmp_path: Path
) -> None:
    assert old in NORM
    write_norm(tmp_path / "components", text=NORM.replace(old, new, 1))
    with pytest.raises(StudyError) as caught:
        code, _ = run_raising(command, write_study(*IN_FACTORS), tmp_path)
        assert code
    assert expected in str(caught.value)
    assert len(caught.value.problems) == 1


def run_raising(command: str, path: Path, folder: Path) -> tuple[int, str]:
    """A command in this process, whose StudyError `main` would print."""
    more = [] if command == "check" else ["--store", str(folder / "runs")]
    result = CliRunner().invoke(app, [command, str(path), *more])
    if isinstance(result.exception, StudyError):
        raise result.exception
    return result.exit_code, result.output


def test_a_loss_or_probe_that_cannot_be_imported_is_found_before_the_sweep(write_study: Write, tmp_path: Path) -> None:
    """The model can be built without them, so the models that are tried do not find it."""
    text = (registry.ROOT / "loss" / "l1.py").read_text() + "\n\nassert 1 > 2, 'never'\n"
    (tmp_path / "components" / "loss").mkdir(parents=True)
    (tmp_path / "components" / "loss" / "mine.py").write_text(text)
    path = write_study(("kl: 1e-4}", "kl: 1e-4, mine: 1.0}"))
    with pytest.raises(StudyError, match=r"loss/mine.py:.*: cannot be imported: AssertionError: never"):
        run_raising("check", path, tmp_path)


@pytest.mark.parametrize("wrong", ["folder", "file", "empty"])
def test_a_named_folder_without_levels_is_an_error(wrong: str, write_study: Write, tmp_path: Path) -> None:
    path = write_study()
    write_norm(tmp_path / "project" / "components")
    folder = {"folder": tmp_path / "gone", "file": path, "empty": tmp_path / "project"}[wrong]
    expected = {"folder": "no such folder", "file": "is a file", "empty": f"did you mean {folder / 'components'}?"}
    with pytest.raises(StudyError) as caught:
        raise CliRunner().invoke(app, ["check", str(path), "--components", str(folder)]).exception or AssertionError
    assert expected[wrong] in str(caught.value)


def test_an_edit_is_seen_at_once_and_makes_records_stale(write_study: Write, tmp_path: Path) -> None:
    """The edit of a helper too, in the same second and of the same length."""
    path = write_study(*IN_FACTORS)
    write_norm(tmp_path / "components")
    load_study(path)
    before = registry.level("norm", "mine").fingerprint
    h = torch.randn(1, 2, 3, 3)
    first = registry.build("norm", "mine", {}, 2, None)(h)
    helper = tmp_path / "components" / "norm" / "_size.py"
    helper.write_text(helper.read_text().replace("1e-6", "1e+6"))
    assert registry.level("norm", "mine").fingerprint == before  # of the code that was read, until it is read again
    load_study(path)
    assert registry.changed({"norm/mine": before}) == ["norm/mine"]
    assert not torch.allclose(registry.build("norm", "mine", {}, 2, None)(h), first)
    helper.write_text(helper.read_text().replace("1e+6", "1e-6") + "# a comment\n")
    (tmp_path / "components" / "norm" / "unrelated.py").write_text(NORM)
    load_study(path)
    assert registry.changed({"norm/mine": before}) == []


def test_where_a_level_is_changes_neither_fingerprint_nor_signature(write_study: Write, tmp_path: Path) -> None:
    path = write_study(*IN_FACTORS)
    write_norm(tmp_path / "components")
    trials = expand(load_study(path))
    before = registry.level("norm", "mine").fingerprint
    (tmp_path / "components").rename(tmp_path / "elsewhere")
    discover.given = (tmp_path / "elsewhere",)
    assert [trial.signature for trial in expand(load_study(path))] == [trial.signature for trial in trials]
    assert registry.level("norm", "mine").fingerprint == before


def test_modules_beside_the_study_can_be_imported_and_count(write_study: Write, tmp_path: Path) -> None:
    text = NORM.replace("from ._size import size", "from my_blocks.sizes import size")
    write_norm(tmp_path / "components", text=text)
    package = tmp_path / "my_blocks"
    package.mkdir()
    (package / "sizes.py").write_text("from my_blocks import deep\n\n\ndef size(h):\n    return deep.TWO * h.abs()\n")
    (package / "deep.py").write_text("TWO = 2\n")
    (package / "other.py").write_text("THREE = 3\n")
    path = write_study(*IN_FACTORS)
    load_study(path)
    before = registry.level("norm", "mine").fingerprint
    h = torch.rand(1, 2, 3, 3) + 1
    assert torch.allclose(registry.build("norm", "mine", {}, 2, None)(h), torch.full_like(h, 0.5))
    (package / "deep.py").write_text("TWO = 4\n")
    load_study(path)
    assert registry.changed({"norm/mine": before}) == ["norm/mine"]
    assert torch.allclose(registry.build("norm", "mine", {}, 2, None)(h), torch.full_like(h, 0.25))
    assert {"my_blocks.deep", "my_blocks.sizes"} <= registry.own().plain()["modules"].keys()
    assert "my_blocks.other" not in registry.own().plain()["modules"]


def test_two_studies_in_one_process_keep_their_own_levels(tmp_path: Path) -> None:
    """As in a notebook: a plan is made with the levels of its own study, whichever was read last."""
    from ablate.adaptive.recall import plan_study
    from tests.support.studies import write_study

    studies = []
    for name, text in (("a", NORM), ("b", NORM.replace("self.factor *", "self.factor +"))):
        (tmp_path / name).mkdir()
        write_norm(tmp_path / name / "components", text=text)
        studies.append(load_study(write_study(tmp_path / name, *IN_FACTORS)))
    prints = []
    for study in (*studies, studies[0]):
        order = plan_study(study, Store(tmp_path / "runs")).trials[-1].order()
        prints.append(component_sources(order)["norm/mine"])
    assert prints[0] == prints[2] != prints[1]


def swept(path: Path, store: Store) -> None:
    """Leave behind what a sweep writes of a study before it runs."""
    write_card(make_plan(load_study(path), store))


def test_the_store_keeps_what_a_study_needs(write_study: Write, tmp_path: Path) -> None:
    """By its name a study has its own levels as they were last run, wherever its folder is now."""
    components = tmp_path / "components"
    file = write_norm(components)
    store = Store(tmp_path / "runs")
    swept(write_study(*IN_FACTORS), store)
    key = registry.own().shipped
    order = expand(load_study(tmp_path / "tiny.yaml"))[0].order()
    assert "code" not in order  # of a study that was not shipped
    before = registry.level("norm", "mine").fingerprint
    for change in ("edited", "moved"):
        registry.use(discover.discover(None))
        if change == "edited":
            file.write_text(NORM.replace("self.factor *", "2 *"))
        else:
            components.rename(tmp_path / "elsewhere")
        found = find_document(StudyRequest("tiny"), store)
        assert (str(file) if change == "edited" else str(components)) in found.note
        read_study(found.document, found.scale, found.overrides, gpu=False)
        assert registry.level("norm", "mine").fingerprint == before
        norm = registry.build("norm", "mine", {"factor": 3.0}, 2, None)
        assert norm(torch.ones(1, 2, 1, 1)).mean().item() == pytest.approx(3)
    shutil.rmtree(store.root / "code")
    with pytest.raises(StudyError, match=r"both its copy in the store .* and the folder .* are gone.*--components DIR"):
        find_document(StudyRequest("tiny"), store)
    discover.given = (tmp_path / "elsewhere",)
    read_study(find_document(StudyRequest("tiny"), store).document, None, (), gpu=False)
    assert registry.level("norm", "mine").fingerprint != before
    assert key


def test_a_copy_in_the_store_is_the_same_code(write_study: Write, tmp_path: Path) -> None:
    write_norm(tmp_path / "components", text=NORM + "\n# bytes that are no UTF-8: \xff\n")
    (tmp_path / "components" / "norm" / "_odd.py").write_bytes(b"# \xff\n")
    store = Store(tmp_path / "runs")
    swept(write_study(*IN_FACTORS), store)
    own = registry.own()
    again = fetch(own.shipped, store)
    assert again is not None and again.folders[0].files == own.folders[0].files
    assert from_plain(json.loads(json.dumps(own.plain())), "x").plain() == own.plain()
    assert fetch("gone", store) is None


def test_commands_without_a_study_see_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_norm(tmp_path / "components")
    monkeypatch.chdir(tmp_path)
    code, said = run("components", "norm")
    assert code == 0 and f"own level: {tmp_path / 'components' / 'norm' / 'mine.py'}" in said
    assert "mine" in json.loads(run("components", "norm", "--json")[1])["norm"]
    code, said = run("check-level", "norm/mine")
    assert code == 0 and "14 of 14" in said
    assert '"mine"' in run("schema")[1]
    monkeypatch.chdir(tmp_path.parent)
    assert '"mine"' not in run("schema")[1]


def test_a_level_in_the_current_folder_is_a_hint(
    write_study: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_study(*IN_FACTORS)
    (tmp_path / "here").mkdir()
    write_norm(tmp_path / "here" / "components")
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(StudyError, match="in the current folder: add --components components"):
        run_raising("check", path, tmp_path)


def test_a_broken_level_is_listed_with_its_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_norm(tmp_path / "components", text="def build(config): ...\n")
    monkeypatch.chdir(tmp_path)
    assert "cannot be used" in run("components", "norm")[1]
    with pytest.raises(LevelError):
        registry.level("norm", "mine")
