"""MLflow's pages as a user meets them: the links open on the saved views, in a real browser, and show the study."""

import re

import pytest

from ablate.plan.trials import expand
from ablate.store.folders import Store
from ablate.track.mirror import sync
from ablate.track.server import serving
from tests.support import mirrored


@pytest.fixture(scope="module")
def links(tmp_path_factory):
    """Links into a server over a mirrored study."""
    folder = tmp_path_factory.mktemp("ui")
    with pytest.MonkeyPatch.context() as patch:
        mirrored.use_levels(patch, folder / "levels")
        study, store = mirrored.make_study(), Store(folder / "runs")
        store.root.mkdir()
        trials = expand(study)
        for trial in trials:
            mirrored.write_steps(store, trial)
            mirrored.write_record(store, trial)
        note = "What came out\n\n| treatment | psnr |\n|---|---|\n| kl=1 | 25.85 |\n"
        mirror = sync(
            store.mlflow_uri, store.mlflow_artifacts, study, trials, store, {"tables/table.csv": "a,b\n"}, note
        )
        with serving(store.mlflow_uri, store.mlflow_artifacts, 0) as server:
            yield mirror.links(server.url)
    mirrored.registry.level.cache_clear()


@pytest.fixture
def open_page(visit, links):
    """Opens a link by its name."""
    return lambda name: visit(links[name])


def test_runs_link_opens_a_flat_table_sorted_by_the_primary_metric(open_page):
    page = open_page("runs")
    page.get_by_role("link", name="kl=1 s1", exact=True).wait_for()
    names = page.locator("a[href*='/runs/']").all_inner_texts()
    trials = [name for name in names if re.search(r" s\d$", name)]
    assert len(trials) == 12 and trials[0] == "padding=reflect s0" and trials[-1] == "kl=1 s1"
    assert "tiny_losses" not in trials
    for header in ("psnr", "grid/fold", "loss.kl"):
        assert page.get_by_role("columnheader", name=header, exact=True).first.is_visible()


def test_charts_link_opens_on_means_by_treatment(open_page):
    page = open_page("charts")
    for text in ("psnr [dB], higher is better", "grid/fold", "train/loss"):
        page.get_by_text(text, exact=True).first.wait_for()
    assert page.get_by_text("Group: baseline", exact=True).is_visible()
    assert page.get_by_text("Unassigned").count() == 0
    page.locator("text=32.77").first.wait_for()


def test_images_link_shows_the_pictures_pixel_for_pixel_with_the_baseline_first(open_page):
    page = open_page("images")
    picture = page.locator("img[src^='blob:'], img[src*='images']").first
    picture.wait_for()
    page.wait_for_function("[...document.images].filter(i => i.naturalWidth == 256).length >= 6")
    assert picture.evaluate("i => [i.naturalWidth, i.naturalHeight]") == [256, 256]
    assert picture.bounding_box()["width"] == 256, "not scaled, so a checkerboard stays one"
    text = page.inner_text("body").partition("pictures/reconstruction")[2]
    assert 0 < text.index("baseline s0") < text.index("kl=1 s0") < text.index("padding=reflect s0")


def test_factors_link_opens_on_parallel_coordinates(open_page):
    page = open_page("factors")
    axis = page.locator("svg >> text=model.channels").first
    axis.wait_for()
    assert axis.is_visible() and page.get_by_text("Parallel Coordinates", exact=True).first.is_visible()


def test_study_link_shows_the_table_in_the_description(open_page):
    page = open_page("study")
    page.get_by_text("Child runs", exact=True).wait_for()
    cell = page.get_by_role("cell", name="25.85")
    cell.wait_for()
    assert cell.inner_text().strip() == "25.85"
