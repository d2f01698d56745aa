"""A real study at its `cpu` scale, trained and probed here: its report and its pages in MLflow, in a real browser."""

import io
import json
import re
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from ablate.driver.sweep import sweep
from ablate.schedule.resources import Resources
from ablate.store.folders import Store
from ablate.study.study import load_study
from ablate.track.server import serving

STUDY = """\
study: seen
question: Does a strong KL weight cost PSNR?
base:
  data: {level: leaves, crop: 32, resize: none, heldout_size: 64, heldout_count: 4}
  model: {level: image_kl, channels: [32, 32], latent_channels: 4, blocks: 1}
  norm: {level: group, groups: 4}
  padding: reflect
  loss: {l2: 1.0, kl: 1e-4}
factors:
  loss.kl: [1e-4, 1]
  padding: [reflect, zeros]
seeds: 2
stages:
  - train: {steps: 2000, batch: 2, lr: 3e-3, log_every: 2, checkpoint_every: 8, probe_every: 4}
probes: [reconstruction, grid, spectrum]
primary: psnr
scales:
  cpu: {model.channels: [8, 8], data.crop: 16, data.heldout_size: 32, stages.train.steps: 8}
"""


TREATMENTS = ["baseline", "kl=1", "padding=zeros"]


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Name -> address: the report's file, and the links that the sweep has printed, on a running server."""
    folder = tmp_path_factory.mktemp("seen")
    (folder / "seen.yaml").write_text(STUDY, encoding="utf-8")
    store = Store(folder / "runs")
    study = load_study(folder / "seen.yaml", None, (), gpu=False)
    assert study.scale == "cpu"
    ended = sweep(study, store, Resources(1, 0.0, None, None), store.mlflow_uri, Console(quiet=True), inline=True)
    assert not ended.failed and ended.ran == 6
    with serving(store.mlflow_uri, store.mlflow_artifacts, 0) as server:
        moved = {name: link.replace("http://127.0.0.1:5000", server.url) for name, link in ended.links.items()}
        yield {**{f"mlflow {name}": link for name, link in moved.items()}, "file": ended.files["report"].as_uri()}


@pytest.mark.parametrize("width", [1280, 500])
def test_the_report_fits_its_window_and_shows_what_was_measured(visit, swept, width):
    page = visit(swept["file"], width, 900)
    assert page.title() == "seen: Does a strong KL weight cost PSNR?"
    assert page.locator("h1").inner_text() == "Does a strong KL weight cost PSNR?"
    assert page.evaluate("document.documentElement.scrollWidth") == width, "only tables scroll sideways"
    headings = page.locator("h2").all_inner_texts()
    assert headings == [
        "Results", "Effects on PSNR", "Reconstructions", "Spectra of the latents",
        "Spectra of latents drawn from their posteriors", "Convergence", "Training loss",
        "Plan and cost", "What failed, and why", "How to run it again",
    ]  # fmt: skip
    assert re.search(r"clear effect|seed", page.locator("#answer .first").inner_text())
    rows = page.locator("#table tbody tr:has(td)")
    assert rows.count() == 3 and page.locator("#failures").inner_text().endswith("every trial finished.")
    for figure in page.locator("figure svg").all():
        box = figure.bounding_box()
        assert 150 < box["width"] <= width and box["height"] > 60
    assert _ink(page.locator("#spectra svg").first.screenshot()) > 0.01


def test_the_report_draws_a_line_per_treatment_with_its_band(visit, swept):
    page = visit(swept["file"], 1280, 900)
    for section, beside in {"spectra": 1, "convergence": 0, "curves": 0}.items():
        panels = page.locator(f"#{section} svg").all()
        assert len(panels) == 2, "a panel for each factor"
        for panel in panels:
            names = panel.locator("text").all_text_contents()
            assert sum("(baseline)" in name for name in names) == 1
            bands = (
                panel.locator("path[style*='opacity: 0.15']").count()
                + panel.locator("use[style*='opacity: 0.15']").count()
            )
            assert bands == 2, "of the baseline and the other level"
            assert len([name for name in names if name == "pictures at the latent’s size"]) == beside


def test_the_divider_and_the_choice_of_pictures_work(visit, swept):
    page = visit(swept["file"], 1280, 900)
    box = page.locator("#compare")
    box.scroll_into_view_if_needed()
    names = box.locator(".right-name option").all_inner_texts()
    assert names == ["original", *TREATMENTS]
    sources = json.loads(page.locator("#sources").inner_text())
    assert box.locator(".right").get_attribute("src") == sources[1]["source"]
    left, right = (box.locator(side).bounding_box() for side in (".left", ".right"))
    assert left == right, "one exactly over the other"
    before = box.locator(".pair").screenshot()
    box.locator(".right-name").select_option("kl=1")
    assert box.locator(".right").get_attribute("src") == sources[2]["source"]
    assert box.locator(".remark").inner_text().startswith("kl=1 PSNR")
    box.locator(".wipe").fill("10")
    assert box.locator(".right").evaluate("i => getComputedStyle(i).clipPath") == "inset(0px 0px 0px 10%)"
    assert box.locator(".pair").screenshot() != before
    box.locator(".which").fill("3")
    assert box.locator(".right-name").evaluate("s => s.selectedOptions[0].text") == "padding=zeros"


def test_mlflow_opens_on_a_flat_table_of_the_trials(visit, swept):
    page = visit(swept["mlflow runs"])
    page.get_by_role("link", name="baseline s0", exact=True).wait_for()
    names = [name for name in page.locator("a[href*='/runs/']").all_inner_texts() if re.search(r" s\d$", name)]
    assert sorted(names) == sorted(f"{label} s{seed}" for label in TREATMENTS for seed in (0, 1))


def test_mlflow_draws_a_curve_per_treatment(visit, swept):
    page = visit(swept["mlflow charts"], height=2400)
    for text in ("psnr [dB], higher is better", "train/loss", "during/psnr"):
        page.get_by_text(text, exact=True).first.wait_for()
    for label in TREATMENTS:
        assert page.get_by_text(f"Group: {label}", exact=True).first.is_visible()
    page.wait_for_function("document.querySelectorAll('.scatterlayer .trace').length >= 3")


def test_mlflow_shows_a_picture_per_treatment(visit, swept):
    page = visit(swept["mlflow images"])
    page.wait_for_function("[...document.images].filter(i => i.naturalWidth >= 128).length >= 3")
    text = page.inner_text("body").partition("pictures/reconstruction")[2]
    assert 0 < text.index("baseline s0") < text.index("kl=1 s0") < text.index("padding=zeros s0")


def test_mlflow_compares_the_treatments(visit, swept):
    page = visit(swept["mlflow compare"])
    page.get_by_text(re.compile(r"Comparing 3 Runs")).first.wait_for()
    for label in TREATMENTS:
        assert page.get_by_text(f"{label} s0").first.is_visible()
    assert page.get_by_text("loss.kl").first.is_visible()


def test_mlflow_shows_the_report_with_its_scripts(visit, swept):
    page = visit(swept["mlflow report"])
    frame = page.frame_locator("iframe").first
    frame.locator("h1").wait_for()
    assert frame.locator("h1").inner_text() == "Does a strong KL weight cost PSNR?"
    frame.locator(".right-name").select_option("kl=1")
    assert frame.locator(".remark").inner_text().startswith("kl=1 PSNR")


def _ink(png: bytes) -> float:
    """Share of a picture that is not white."""
    return float((np.asarray(Image.open(io.BytesIO(png)).convert("L")) < 200).mean())
