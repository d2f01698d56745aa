"""The documents: relative links resolve, and the files and calls that they name exist."""

import json
import re
from pathlib import Path

import pytest

from ablate.adaptive.recall import plan_study
from ablate.driver.preflight import validate
from ablate.plan.labels import Names
from ablate.store.folders import Store
from ablate.study.document import parse
from ablate.study.study import load_study
from tests.support.command import inside

ROOT = Path(__file__).parents[2]
FOLDERS = ("docs", "search_spaces", "benchmarks", "analysis", ".github")
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.md"))])
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
CODE = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"`((?:ablate|analysis|components|docs|search_spaces)/[\w/.-]+\.(?:py|md|yaml))`")
"""A file in backticks; one named `my_…` is an example."""


def test_there_are_documents() -> None:
    assert {"README.md", "CONTRIBUTING.md", "CHANGELOG.md"} <= {path.name for path in DOCUMENTS}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_relative_links_resolve(document: Path) -> None:
    broken = []
    for link in LINK.findall(CODE.sub("", document.read_text(encoding="utf-8"))):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = document.parent / name if name else document
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert not broken, f"{document.relative_to(ROOT)} links to what is not there: {', '.join(broken)}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_named_files_exist(document: Path) -> None:
    named = [name for name in FILE.findall(document.read_text(encoding="utf-8")) if "/my_" not in name]
    missing = [name for name in named if not (ROOT / name).exists()]
    assert not missing, f"{document.relative_to(ROOT)} names files that do not exist: {', '.join(missing)}"


def test_calls_of_the_architecture_page_are_in_the_files_beside_them() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| \d \| (.+?) \| (.+?) \|", text, re.MULTILINE)
    assert len(rows) == 8
    for calls, files in rows:
        sources = "".join((ROOT / name).read_text(encoding="utf-8") for name in re.findall(r"`([^`]+)`", files))
        for call in re.findall(r"`([^`(]+)\(", calls):
            assert f"def {call.rpartition('.')[2]}(" in sources, f"{call} is not in {files}"


def test_the_page_of_artifacts_has_the_numbers_of_the_calibration() -> None:
    text = (ROOT / "docs" / "artifacts.md").read_text(encoding="utf-8")
    calibration = json.loads((ROOT / "docs" / "calibration.json").read_text(encoding="utf-8"))
    planted = {"grid": ("lines", 2), "blur": ("blur", 1), "color": ("tint", 2), "border": ("frame", 2),
               "droplet": ("blob", 2)}  # fmt: skip
    rows = re.findall(r"^\| `([\w/]+)`[^|]*\| (\S+) \| (\S+) \|$", text, re.MULTILINE)
    assert len(rows) == 16
    for metric, good, defect in rows:
        name, strength = planted[metric.partition("/")[0]]
        measured = (
            calibration["metrics"][metric]["without"],
            calibration["defects"][name]["values"][metric][strength],
        )
        for shown, value in zip((good, defect), measured, strict=True):
            last_digit = 10.0 ** -len(shown.partition(".")[2])
            assert float(shown) == pytest.approx(value, abs=0.51 * last_digit), metric


def anchors(document: Path) -> set[str]:
    """The anchors of a document's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", CODE.sub("", document.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def studies() -> list[str]:
    """The studies in the documents: blocks of YAML that begin with `study:`."""
    blocks = [
        block
        for path in DOCUMENTS
        for block in re.findall(r"```yaml\n(.*?)```", path.read_text(encoding="utf-8"), re.S)
    ]
    return [block for block in blocks if block.startswith("study:")]


def test_studies_in_the_documents_are_good() -> None:
    assert studies()
    for text in studies():
        validate(parse(text, "document.yaml"), None, (), gpu=False)


def test_the_study_of_the_readme_is_shipped_and_its_table_has_its_treatments() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (study,) = (block for block in re.findall(r"```yaml\n(.*?)```", text, re.S) if block.startswith("study:"))
    file = ROOT / "search_spaces" / "grid_and_border.yaml"
    assert file.read_text(encoding="utf-8").endswith(study)
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in re.findall(r"^\|.*\|$", text, re.M)]
    found = load_study(file)
    names = Names(found)
    shown = [row[1] for row in cells if row[-1] == str(len(found.seeds))][1:]
    treatments = [treatment for treatment in plan_study(found, Store(ROOT / "runs")).treatments if treatment.changed]
    assert len(shown) == len(treatments) == 5
    for name, treatment in zip(shown, treatments, strict=True):
        ((path, level),) = treatment.changed.items()
        assert name == names.level(path, level)


def test_the_typing_error_in_the_readme_is_said_as_it_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    study = next(block for block in re.findall(r"```yaml\n(.*?)```", text, re.S) if block.startswith("study:"))
    shown = re.findall(r"```console\n\$ ablate check study.yaml\n(.*?)```", text, re.S)
    (tmp_path / "study.yaml").write_text(study.replace("padding: reflect", "padding: refelct"), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert [inside("check", "study.yaml").stderr] == shown
