"""Names and texts of a study of somebody else's: they are shown as they are, run nothing, and lead out of no store."""

import csv
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from ablate.adaptive.recall import plan_study
from ablate.analysis.figures import save_figure
from ablate.analysis.report import write_report
from ablate.analysis.study_results import gather
from ablate.analysis.typeset.spreadsheet import harmless, write_csv
from ablate.errors import StudyError
from ablate.plan.trials import expand
from ablate.probing.load import load_vae
from ablate.store.folders import Store
from ablate.store.names import file_name
from ablate.study.study import Study, load_study
from tests.support.command import inside
from tests.support.finished import finish
from tests.support.studies import Write

HOSTILE = (
    "=HYPERLINK(x)", "@SUM(1)", "+x", "-2+3", "<script>alert(1)</script>", "</title><img src=x onerror=alert(1)>",
    "$\\input{/etc/passwd}$", "[a](javascript:alert)", "a|b`c`", "[/red] [bold]", "%0A\\write18{x}", "x\\ny",
)  # fmt: skip
"""Texts that a spreadsheet, a browser, LaTeX, Markdown, matplotlib or the terminal would run."""

CPU = torch.device("cpu")


@pytest.fixture
def study(write_study: Write) -> Study:
    """A study whose levels and question are hostile texts: the folders of pictures that it compares."""
    path = write_study(
        ("level: leaves, ", "level: folder, path: plain, "),
        ("  loss.kl: [1, 1e-4]", f"  data.path: {json.dumps(['plain', *HOSTILE])}"),
        ("Does a strong KL weight cost PSNR?", json.dumps("Is </title><script>x</script> $\\alpha$ [/v2] safe?")),
    )
    return load_study(path)


@pytest.fixture
def store(study: Study, tmp_path: Path) -> Store:
    store = Store(tmp_path / "runs")
    for trial in expand(study):
        finish(store, trial, {"psnr": 20.0 + trial.seed + len(trial.treatment.label) / 50})
    return store


class Tags(HTMLParser):
    """Collects the tags of a page, and its attributes that hold scripts."""

    def __init__(self) -> None:
        super().__init__()
        self.scripts = 0
        self.handlers: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.scripts += tag == "script"
        self.handlers += [name for name, value in attrs if name.startswith("on") or "javascript:" in (value or "")]


def test_no_text_of_a_study_is_markup(study: Study, store: Store, tmp_path: Path) -> None:
    results = gather(plan_study(study, store))

    # HTML: the page has its own scripts and no other
    write_report(results, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    for text in (page, results.table.html()):
        tags = Tags()
        tags.feed(text)
        assert not tags.handlers and tags.scripts <= 2
        assert "<script>alert" not in text and "<script>x" not in text and "<img src=x" not in text

    # CSV: no cell of text begins as a formula does, and numbers are numbers
    rows = list(csv.reader(io.StringIO(results.table.csv())))
    cells = [cell for row in rows for cell in row]
    assert "'=HYPERLINK(x)" in cells and "'@SUM(1)" in cells and "'-2+3" in cells
    assert all(harmless(cell) == cell for cell in cells)

    # Markdown: as many columns in every line, no tag and no link
    lines = [line for line in results.table.markdown().splitlines() if line.startswith("|")]
    assert len({len(line) for line in lines}) == 1
    text = results.table.markdown()
    assert not re.search(r"(?<!\\)(<[a-z/]|\]\()", text)

    # LaTeX: none of its commands
    text = results.table.latex()
    assert "\\input{/etc" not in text and "\\write18" not in text and "$\\alpha$" not in text

    # Figures and the terminal
    save_figure(results, "effects", ["psnr"], tmp_path / "effects.svg")
    assert "<script>" not in (tmp_path / "effects.svg").read_text()


def test_the_command_shows_texts_as_they_are(study: Study, store: Store) -> None:
    for command in ("table", "status", "show", "plan", "studies"):
        words = [study.document.file] if command != "studies" else []
        done = inside(command, *words, "--store", store.root)
        assert done.returncode in {0, 2} and "MarkupError" not in done.stderr and "Traceback" not in done.stderr
    assert "[/red] [bold]" in inside("show", study.document.file, "--store", store.root).stdout


@pytest.mark.parametrize(
    ("cell", "shown"),
    [
        ("=1+1", "'=1+1"), ("+scn", "'+scn"), ("-scn", "'-scn"), ("@a", "'@a"), ("\tx", "'\tx"), ("\rx", " x"),
        ("-0.5", "-0.5"), ("+1e-06", "+1e-06"), ("-inf", "-inf"), ("1e-4", "1e-4"), (-0.5, -0.5), ("kl=1", "kl=1"),
        ("-1-2", "'-1-2"), ("", ""), ("–", "–"), (None, None),
    ],
)  # fmt: skip
def test_only_texts_that_spreadsheets_run_get_an_apostrophe(cell: object, shown: object) -> None:
    assert harmless(cell) == shown
    assert next(csv.reader(io.StringIO(write_csv([[cell, "x"]])))) == ["" if shown is None else str(shown), "x"]


@pytest.mark.parametrize(
    "name",
    ["../x", "/etc/x", "~", "~root", "a/b", "a\\b", ".", "..", "", " ", "CON", "nul", "Com1", "lpt9", "a b", "é",
     "x" * 65, "-x", "x\u200b", "$x", "a:b"],
)  # fmt: skip
@pytest.mark.parametrize("place", ["study: tiny", "scales", "- train:"])
def test_names_are_no_paths(name: str, place: str, write_study: Write) -> None:
    quoted = json.dumps(name)
    change = {
        "study: tiny": ("study: tiny", f"study: {quoted}"),
        "scales": ("primary: psnr", f"primary: psnr\nscales:\n  {quoted}: {{seeds: 1}}"),
        "- train:": ("- train:", f"- {quoted}:"),
    }[place]
    with pytest.raises(StudyError) as caught:
        load_study(write_study(change))
    assert all(problem.line > 0 and problem.column > 0 for problem in caught.value.problems)


def test_a_name_of_a_device_with_a_suffix_is_refused(write_study: Write) -> None:
    for name in ("con.1", "aux.txt", "tiny."):
        with pytest.raises(StudyError, match="no folder can have it"):
            load_study(write_study(("study: tiny", f"study: {name}")))
    assert load_study(write_study(("study: tiny", "study: console.2"))).name == "console.2"


def test_a_scale_that_the_command_line_names_is_one_of_the_study(write_study: Write, tmp_path: Path) -> None:
    done = inside("sweep", write_study(), "--scale", "../../x", "--store", tmp_path / "runs", "--tracking", "none")
    assert done.returncode == 2 and "unknown scale" in done.stderr
    assert not (tmp_path / "runs").exists()


def test_file_names_stay_in_their_folder() -> None:
    assert [file_name(name) for name in ("grid/nat fold", "kl=1e-4", "a.b")] == ["grid_nat fold", "kl=1e-4", "a.b"]
    hostile = ["../x", "..", "", "~x", "x\0y", "a\\b", "x" * 5000, "é", "C:x", ".hidden", "a\nb"]
    found = [file_name(name) for name in hostile]
    assert len({*found}) == len(hostile)
    assert all(len(name) < 120 and name[:1] not in "~." and not {*name} & {*"/\\\0:\n"} for name in found)


@pytest.mark.parametrize(
    "change",
    [
        {"model": {"level": "python", "target": "subprocess:getoutput", "cmd": "touch MARK"}},
        {"model": {"level": "python", "target": "subprocess:Popen", "args": ["touch", "MARK"]}},
        {"model": {"level": "python", "target": "torch.hub:load", "repo_or_dir": "x/y", "model": "z"}},
        {"norm": {"level": "os:mkdir"}}, {"loss": {"subprocess:getoutput": {"weight": 1.0, "cmd": "touch MARK"}}},
        {"upsample": "shutil:rmtree"}, {"norm": {"level": "this:s"}},
    ],
)  # fmt: skip
def test_a_checkpoint_runs_no_code(change: dict, write_study: Write, tmp_path: Path) -> None:  # type: ignore[type-arg]
    """The settings in the header of a checkpoint may name any module; only the user's own are run."""
    mark = tmp_path / "mark"
    settings = expand(load_study(write_study()))[0].order()["recipe"] | json.loads(
        json.dumps(change).replace("MARK", str(mark))
    )
    file = tmp_path / "checkpoint.safetensors"
    header = {"settings": settings, "step": 1}
    save_file({"model.x": torch.zeros(1)}, file, {"ablate": json.dumps(header)})
    with pytest.raises(ValueError, match=r"which is not run, as a checkpoint may be from anybody"):
        load_vae(file, CPU)
    done = inside("probe", file)
    assert done.returncode == 2 and "not run" in done.stderr and not mark.exists()


def test_a_study_calls_no_function_of_an_installed_package(write_study: Write, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    text = f"model: {{level: python, target: 'subprocess:getoutput', cmd: 'touch {mark}'}}"
    path = write_study(("model: {level: image_kl, channels: [8, 8], latent_channels: 4, blocks: 1}", text))
    done = inside("check", path)
    assert done.returncode == 2 and "only classes of nn.Module" in " ".join(done.stderr.split()), done.stderr
    assert not mark.exists()


def test_the_key_of_own_code_is_no_path(tmp_path: Path) -> None:
    assert Store(tmp_path).code("0123abcdef").name == "0123abcdef.json"
    for key in ("../x", "/etc/x", "a/b", "", ".."):
        with pytest.raises(ValueError, match="is damaged"):
            Store(tmp_path).code(key)
