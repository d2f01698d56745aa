"""VIVAT's first table: the paper's figures, ours beside them, in all forms; and which folder fills which column."""

import csv
import io
import math
import re
from pathlib import Path

import pytest

from ablate.analysis.tables.published import ListedTable
from ablate.analysis.tables.vivat_table1 import PUBLISHED, ImageSet, Measured, build, image_set
from ablate.probing.paper_tables import paper_table
from tests.support.command import python
from tests.support.typeset import compiled, lint

KODAK = ImageSet("kodak 512x512", 512)


INTERVALS = {"psnr": (31.3, 31.6), "ssim": (math.nan, math.nan)}


OURS = {
    "ours_a": {PUBLISHED[0]: Measured(31.5, 0.91234, 50000, 3, INTERVALS), KODAK: Measured(30.125, 0.88, 24, 0)},
    "ours b": {PUBLISHED[0]: Measured(0.0, 0.0, 50000, 3), KODAK: Measured(float("inf"), 1.0, 24, 0)},
}


def cells(table: ListedTable) -> list[list[str]]:
    """The rows of both halves as Markdown shows them."""
    lines = [line for line in table.markdown().splitlines() if line.startswith("|") and "---" not in line]
    return [[" ".join(cell.split()) for cell in line.strip("|").split("|")] for line in lines]


def published(number: str) -> ListedTable:
    return paper_table("vivat", number, [], [], None, print)


def test_the_published_rows_stand_as_the_paper_prints_them() -> None:
    rows = cells(published("1"))
    assert rows[0][2:] == [
        "ImageNet/256x256 (dB) ↑", "ImageNet/512x512 (dB) ↑", "COCO/512x512 (dB) ↑",
        "FFHQ/1024x1024 (dB) ↑",
    ]  # fmt: skip
    assert rows[5] == ["VIVAT", "paper", "**31.25**", "_33.82_", "_32.61_", "**39.35**"]
    assert rows[9] == ["Flux VAE", "paper", "_0.89_", "**0.93**", "**0.91**", "**0.96**"]
    assert len(rows) == 12
    assert "arXiv 2506.07863, table 1, lower half" in published("1").markdown()
    assert "Ours:" not in published("1").markdown()


def test_ours_follow_and_what_was_not_measured_is_missing() -> None:
    rows = cells(build(OURS))
    assert rows[0][-1] == "kodak/512x512 (dB) ↑"
    assert rows[5] == ["VIVAT", "paper", "_31.25_", "_33.82_", "_32.61_", "**39.35**", "–"]
    assert rows[6] == ["ours_a", "ours", "**31.50**", "–", "–", "–", "_30.12_"]
    assert rows[7] == ["ours b", "ours", "0.00", "–", "–", "–", "**∞**"]
    assert "ImageNet 256x256, 50000 pictures (3 smaller ones left out); kodak 512x512, 24 pictures." in " ".join(
        build(OURS).markdown().split()
    )


def test_csv_and_json_hold_full_precision_and_the_number_of_pictures() -> None:
    table = build(OURS)
    rows = list(csv.DictReader(io.StringIO(table.csv())))
    assert len(rows) == 5 * 4 + 4
    assert rows[0] == {
        "model": "DC-VAE", "from": "paper", "images": "ImageNet 256x256", "size": "256", "psnr": "23.7",
        "ssim": "0.65", "n": "", "skipped": "", "psnr_low": "", "psnr_high": "", "ssim_low": "", "ssim_high": "",
    }  # fmt: skip
    assert table.json()["rows"][20] == {
        "model": "ours_a", "from": "ours", "images": "ImageNet 256x256", "size": 256, "psnr": 31.5, "ssim": 0.91234,
        "n": 50000, "skipped": 3, "psnr_low": 31.3, "psnr_high": 31.6, "ssim_low": None, "ssim_high": None,
    }  # fmt: skip


@pytest.mark.parametrize("table", [build({}), build(OURS), published("2"), published("3"), published("4")])
def test_latex_compiles_with_booktabs_alone_and_fits_the_page(table: ListedTable, tmp_path: Path) -> None:
    text = table.latex()
    for part in re.split(r"(?<=\\end\{table\})\n", text):
        if part.strip():
            lint(part)
    page, log = compiled(text, tmp_path)
    assert "arXiv 2506.07863" in " ".join(page.split())
    assert "Overfull" not in log


def test_the_widest_interval_over_pictures_is_told() -> None:
    text = build(OURS).markdown()
    assert "The 95 % intervals of our means (percentile bootstrap over pictures) are at most psnr ± 0.150 dB" in text
    assert "percentile bootstrap" not in build({}).markdown()


def test_the_latex_page_shows_both_halves(tmp_path: Path) -> None:
    page, _ = compiled(build(OURS).latex(), tmp_path)
    assert re.search(r"VIVAT\s+paper\s+31\.25\s+33\.82\s+32\.61\s+39\.35\s+–", page)
    assert re.search(r"ours.a\s+ours\s+0\.91\s+–\s+–\s+–\s+0\.88", page)


@pytest.mark.parametrize(
    ("number", "row"),
    [
        ("2", ["EMA decay", "0.9999"]),
        ("3", ["adversarial", "0.01"]),
        ("4", ["schedule", "constant + 1000 warmup"]),
    ],
)
def test_the_other_tables_are_printed_as_published(number: str, row: list[str]) -> None:
    assert row in cells(published(number))


@pytest.mark.parametrize(
    ("name", "size", "found"),
    [
        ("imagenet256", None, PUBLISHED[0]),
        ("ImageNet 512x512", None, PUBLISHED[1]),
        ("imagenet 512 × 512", 512, PUBLISHED[1]),
        ("COCO512", None, PUBLISHED[2]),
        ("ffhq1024", 1024, PUBLISHED[3]),
        ("kodak", 512, KODAK),
    ],
)
def test_a_name_finds_its_column(name: str, size: int | None, found: ImageSet) -> None:
    assert image_set(name, size) == found


@pytest.mark.parametrize(
    ("checkpoints", "images", "message"),
    [
        (["a=x"], ["imagenet256=pics@512"], "ImageNet 256x256 is of 256 px, not 512"),
        (["a=x"], ["imagnet256=pics"], r"needs a size, NAME=DIR@SIZE; did you mean 'imagenet256'\?"),
        (["a=x"], [], "go together"),
        ([], ["kodak=pics@512"], "go together"),
        (["x"], ["kodak=pics@512"], "'x': expected checkpoint NAME=PATH"),
        (["a=x", "a=y"], ["kodak=pics@512"], "the name 'a' is given twice"),
    ],
)
def test_what_is_not_understood_is_an_error(checkpoints: list[str], images: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        paper_table("vivat", "1", checkpoints, images, None, print)


def test_only_the_first_table_takes_measurements() -> None:
    with pytest.raises(ValueError, match="only table 1"):
        paper_table("vivat", "2", ["a=x"], ["kodak=pics@512"], None, print)
    with pytest.raises(ValueError, match=r"no table '5'.*valid: 1, 2, 3, 4"):
        published("5")
    with pytest.raises(ValueError, match="unknown paper 'vivatt'; did you mean 'vivat'"):
        paper_table("vivatt", "1", [], [], None, print)
    with pytest.raises(ValueError, match="--paper and --table"):
        paper_table("vivat", None, [], [], None, print)


def test_published_tables_load_no_torch() -> None:
    code = (
        "import sys; from ablate.probing.paper_tables import paper_table\n"
        "paper_table('vivat', '1', [], [], None, print).markdown(); print('torch' in sys.modules)"
    )
    done = python(code)
    assert done.stdout.strip() == "False"
