"""The report: its answer says what the records carry and no more; the page is whole, safe and needs nothing else."""

import base64
import html
import io
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ablate.adaptive.recall import plan_study
from ablate.analysis.report import page, pictures, write_report
from ablate.analysis.study_results import StudyResults, gather
from ablate.plan.trials import Trial, expand
from ablate.store.files import write_json
from ablate.store.folders import Store
from ablate.study.study import Study, load_study
from tests.support.finished import finish_all, sheet
from tests.support.studies import Write

LEVELS = ("loss.kl: [1, 1e-4]", "loss.kl: [1e-4, 1, 1e-2]")


SEEDS = ("seeds: 2", "seeds: 3")


VOID = {"meta", "img", "input", "br", "path", "use", "rect"}


@pytest.fixture
def study(write_study: Write) -> Study:
    return load_study(write_study(LEVELS, SEEDS))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "runs")


def results(study: Study, store: Store) -> StudyResults:
    return gather(plan_study(study, store))


def planted(effects: dict[str, float], noise: float = 0.1) -> Callable[[Trial], dict[str, float]]:
    """PSNR 20 plus an effect per treatment, a seed's part that all share, and a little of its own."""

    def values(trial: Trial) -> dict[str, float]:
        own = noise * ((trial.seed * 7 + len(trial.treatment.label) * 3) % 5 - 2)
        return {"psnr": 20 + effects.get(trial.treatment.label, 0.0) + trial.seed + own, "ssim": 0.5 + own}

    return values


def test_a_failure_is_listed_with_its_reason_and_its_place(study: Study, store: Store) -> None:
    finish_all(study, store, lambda trial: {} if trial.name == "kl=1 s2" else planted({})(trial))
    lost = next(trial for trial in expand(study) if trial.name == "kl=1 s2")
    trace = 'Traceback:\n  File "norm.py", line 7, in forward\n    raise\nValueError: no groups'
    write_json(store.stage(lost.signature).error, {"reason": "ValueError: no groups", "trace": trace})
    text = page(results(study, store))
    assert "ValueError: no groups" in text and "norm.py&#34;, line 7" in text


class Reader(HTMLParser):
    """Checks that tags pair up; keeps links, and the text of each section."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.sources: list[str] = []
        self.sections: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        named = dict(attributes)
        self.sources += [value for key in ("src", "href", "xlink:href") if (value := named.get(key))]
        if tag == "section":
            self.sections.append(str(named["id"]))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag


def test_the_page_is_well_formed_and_refers_to_nothing_outside(study: Study, store: Store) -> None:
    finish_all(study, store, planted({"kl=1": -3.0}))
    text, reader = page(results(study, store)), Reader()
    reader.feed(text)
    assert reader.open == []
    assert all(source.startswith(("data:", "#")) for source in reader.sources)
    assert not re.search(r"@import|url\((?!#)", text)
    assert reader.sections == ["table", "effects", "pictures", "curves", "plan", "failures", "again"]
    assert "ablate 0.1.0, commit c0ffeec0ffee" in text and "a processor, 1 thread" in text
    assert re.search(r"<pre>ablate sweep \S+tiny\.yaml</pre>", text)


def test_the_page_begins_with_the_answer_and_its_figure(study: Study, store: Store) -> None:
    finish_all(study, store, planted({"kl=1": -3.0}, noise=0.01))
    found = results(study, store)
    header = page(found).partition("<header>")[2].partition("</header>")[0]
    shown = html.unescape(header).replace("\u00a0", " ")
    assert all(sentence in shown for sentence in found.table.answer.sentences) and len(found.table.answer.sentences) > 2
    assert header.count("<svg") == 1 and "smallest effect of interest" in header.partition("<svg")[2]


def test_there_is_no_figure_of_the_answer_before_there_are_results(study: Study, store: Store) -> None:
    text = page(results(study, store))
    assert "No answer yet" in text and 'id="sizes"' not in text


def test_a_factorial_study_shows_its_main_effects(write_study: Write, store: Store) -> None:
    grid = "design: grid\nfactors:\n  padding: [reflect, zeros]\n  "
    study = load_study(write_study(SEEDS, ("factors:\n  ", grid)))
    finish_all(study, store, planted({"kl=1": -3.0, "kl=1 padding=zeros": -3.0}))
    text, reader = page(results(study, store)), Reader()
    reader.feed(text)
    assert reader.open == [] and "main-effects" in reader.sections
    section = text.partition('id="main-effects"')[2].partition("</section>")[0]
    assert "padding × kl" in section and "0.0001 → 1" in section and "corrected for 3 tests by Holm’s method" in section


def test_text_of_a_study_is_never_markup(write_study: Write, store: Store) -> None:
    attack = "</script><script>alert(1)</script>"
    study = load_study(write_study(LEVELS, ("Does a strong KL weight cost PSNR?", f"'{attack}'")))
    finish_all(study, store, planted({}))
    text = page(results(study, store))
    assert attack not in text and "alert(1)" in text


def test_pictures_are_the_pixels_of_the_sheet(study: Study, store: Store) -> None:
    finish_all(study, store, planted({}, noise=0))
    shown = pictures.compare(results(study, store))
    assert [one.name for one in shown] == ["original", "baseline", "kl=1", "kl=0.01"]
    assert shown[1].remark == "PSNR 21.00 ± 1.00 dB"
    decoded = [np.asarray(Image.open(io.BytesIO(base64.b64decode(one.source.partition(",")[2])))) for one in shown]
    assert decoded[0].shape == (16, 16, 3), "four crops of 8 px, two by two"
    assert [int(decoded[0][y, x, 0]) for y, x in ((0, 0), (0, 8), (8, 0), (8, 8))] == [10, 20, 30, 40]
    assert (decoded[0].astype(int) - decoded[1] == 1).all(), "the first seed's, 1 darker"
    held = re.search(r'id="sources">(.*?)</script>', page(results(study, store)), re.DOTALL)
    assert held and json.loads(held[1]) == [vars(one) for one in shown]


def test_sources_that_differ_are_each_kept(study: Study, store: Store) -> None:
    finish_all(study, store, planted({}))
    other = next(trial for trial in expand(study) if trial.name == "kl=1 s0")
    Image.fromarray(255 - sheet(other)).save(store.stage(other.signature).pictures / "reconstruction.png")
    names = [one.name for one in pictures.compare(results(study, store))]
    assert names == ["original", "original (kl=1)", "baseline", "kl=1", "kl=0.01"]


def test_a_search_names_its_best_and_tests_nothing(write_study: Write, store: Store) -> None:
    search = "primary: psnr\ndesign: search\nsearch: {sampler: brute_force}"
    study = load_study(write_study(LEVELS, ("primary: psnr", search)))
    suggestions = [{"levels": {"loss.kl": level}, "notes": {}} for level in (1.0, 0.01)]
    write_json(store.study(study.name, study.scale).searched(), suggestions)
    finish_all(study, store, planted({}))
    text = page(results(study, store))
    assert "the results of a search are not tested" in text and "no intervals" in text


def test_a_report_of_a_store_is_written_whole(study: Study, store: Store, tmp_path: Path) -> None:
    finish_all(study, store, planted({}))
    write_report(results(study, store), tmp_path / "out" / "report.html")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["report.html"]
    assert (tmp_path / "out" / "report.html").read_text(encoding="utf-8").startswith("<!doctype html>")
