"""Tables of claims: their rows, sentences and notes, pages of LaTeX, JSON; papers whose claims cannot be judged."""

import json
import math
import re
import shutil
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ablate.adaptive.recall import plan_study
from ablate.analysis import papers, report
from ablate.analysis.papers import Paper, check_claims
from ablate.analysis.papers.vivat import PAPER
from ablate.analysis.records.frame import frame_of
from ablate.analysis.statistics.claims import Claim, Requirement
from ablate.analysis.statistics.findings import Finding
from ablate.analysis.study_results import StudyResults
from ablate.analysis.tables.build import build_table
from ablate.analysis.tables.claims import PAGE, ROW, arrange_claims, contrast, pages
from ablate.analysis.tables.table import Table
from ablate.analysis.typeset.html import html
from ablate.analysis.typeset.latex import latex
from ablate.analysis.typeset.markdown import markdown
from ablate.driver.preflight import validate
from ablate.errors import StudyError
from ablate.slots import registry
from ablate.slots.settings import Metric
from ablate.store.folders import Store
from ablate.study.document import read_document
from ablate.study.study import Study, load_study
from tests.support.claims import Results, claim, fill, findings
from tests.support.command import ablate, document
from tests.support.studies import Write
from tests.support.typeset import compiled, lint

FACTORS = "loss.kl: [1e-4, 1, 1e-2]\n  padding: [reflect, zeros]\ndesign: grid"

PSNR: Results = {
    "baseline": [24.0, 24.5, 25.1], "kl=1": [20.0, 20.7, 21.0], "kl=0.01": [23.0, 24.9, 25.0],
    "padding=zeros": [24.1, 24.38, 25.13], "kl=1 padding=zeros": [20.0, 20.7, 21.4], "kl=0.01 padding=zeros": [1, 2, 4],
}  # fmt: skip


@pytest.fixture
def study(write_study: Write) -> Study:
    return load_study(write_study(("loss.kl: [1, 1e-4]", FACTORS), ("seeds: 2", "seeds: 3")))


def sample(study: Study, folder: Path) -> tuple[Paper, tuple[Finding, ...]]:
    """Claims of most verdicts, one with a published figure, in one context and in several; two that are not judged."""
    zeros = {"padding": "zeros"}
    about: dict[str, Any] = {"source": "section 4", "caveat": "Or by 100 %."}
    claims = (
        claim({}, {"loss.kl": 1}, id="K1", text="KL costs PSNR.", published=3.5, **about),
        claim({"loss.kl": 1, **zeros}, {"loss.kl": 0.01, **zeros}, "A below B", id="K2", said_by="us", text="Less so."),
        claim(zeros, {}, id="P_1", text="Zeros help.", **about),
        claim({"loss.kl": 1}, 21.0, "A equals B", id="O1", text="It is 21 dB.", margin=2.0, **about),
        claim({"loss.kl": 1}, {}, id="N1", metric="grid/comb_db"),
        claim({"loss.kl": 3}, {}, id="N2", metric="grid/comb_db"),
    )
    return Paper("R&D", "Müller et al., 50 % done", {}, claims), findings(study, folder, PSNR, *claims)


def cells(text: str) -> list[list[str]]:
    """The rows of a Markdown table, the rule below its head left out."""
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len({len(row) for row in rows}) == 1
    found = [
        [" ".join(cell.split()).replace("[ ", "[").replace(",  ", ", ") for cell in row.strip("|").split("|")]
        for row in rows
    ]
    return [found[0], *found[2:]]


def test_markdown_has_a_row_per_claim_and_its_contexts_below(study: Study, tmp_path: Path) -> None:
    paper, found = sample(study, tmp_path)
    text = markdown(arrange_claims(study, paper, found))
    assert text.startswith("tiny: Claims of R&D (Müller et al., 50 % done)\n")
    head, *rows = cells(text)
    assert head == ["claim", "higher or lower", "published Δ", "Δ [95 % CI]", "n", "q", "verdict"]
    q = [row.pop(5) for row in rows]
    assert rows == [
        ["K1", "PSNR (dB): baseline > kl 1 (2 contexts)", "+3.50", "+3.90 [+3.52, +4.29]", "3", "reproduced"],
        ["", "– as in the baseline", "", "+3.97 [+3.59, +4.35]", "3", "reproduced"],
        ["", "– padding zeros", "", "+3.84 [+3.27, +4.41]", "3", "reproduced"],
        ["K2", "PSNR (dB): kl 1 < 0.01 (padding zeros)", "", "+18.37 [+16.25, +20.48]", "3", "opposite"],
        ["P_1", "PSNR (dB): padding zeros > baseline (3 contexts)", "", "−7.28 [−8.29, −6.26]", "3", "opposite"],
        ["", "– as in the baseline", "", "0.00 [−0.28, +0.28]", "3", "no effect ≥ 0.5 dB"],
        ["", "– kl 1", "", "+0.13 [−0.44, +0.71]", "3", "inconclusive"],
        ["", "– kl 0.01", "", "−21.97 [−24.33, −19.61]", "3", "opposite"],
        ["O1", "PSNR (dB) = 21 (within 2, kl 1, 2 contexts)", "", "−0.37 [−1.86, +1.13]", "3", "reproduced"],
        ["", "– as in the baseline", "", "−0.43 [−1.71, +0.84]", "3", "reproduced"],
        ["", "– padding zeros", "", "−0.30 [−2.04, +1.44]", "3", "inconclusive"],
    ]
    shown = [(each.overall, *(each.contexts if each.contexts[1:] else ())) for each in found]
    values = [one for part in shown for one in part if not one.lacks]
    assert q == ["<0.001" if one.q < 0.001 else f"{one.q:.3f}" for one in values]


def test_markdown_says_each_sentence_whose_it_is_and_its_caveat(study: Study, tmp_path: Path) -> None:
    paper, found = sample(study, tmp_path)
    lines = markdown(arrange_claims(study, paper, found)).splitlines()
    assert "- K1: KL costs PSNR. (R&D, section 4.) Caveat: Or by 100 %." in lines
    assert "- K2: Less so. (our hypothesis, s.) Caveat: c" in lines
    assert lines[-1].endswith(": N1 (grid/comb_db); N2 (loss.kl).")
    assert not [line for line in lines if line.startswith("- N")]
    [counts] = [line for line in lines if line.startswith("4 claims")]
    said, tested, *_ = counts.split(". ")
    assert said == "4 claims: 3 of R&D, 1 of ours; 8 judgements in contexts"
    assert tested.startswith("Of 4 claims tested, 4 are “reproduced” or “opposite”; if every difference were 0, ")
    assert "published" not in cells(markdown(arrange_claims(study, paper, found[1:])))[0]


def test_html_has_the_sentence_above_its_rows(study: Study, tmp_path: Path) -> None:
    text = html(arrange_claims(study, *sample(study, tmp_path)))
    heads = re.findall(r'<th colspan="6" scope="rowgroup" class="claim">(.*?)</th>', text)
    assert heads[0] == "<b>K1</b> KL costs PSNR. <small>R&amp;D, section 4. Caveat: Or by 100 %.</small>"
    assert len(heads) == 4
    for head, rows in zip(heads, (3, 1, 4, 3), strict=True):
        body = text[text.index(head) :].split("</tbody>")[0]
        assert body.count("<tr>") == rows, head


def test_chance_is_counted_over_claims_and_contexts(study: Study, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    fill(study, store, PSNR)
    found = build_table(plan_study(study, store), paper="vivat").json()
    for part, rows in (
        ("claims", found["claims"]),
        ("contexts", [one for row in found["claims"] for one in row["contexts"]]),
    ):
        tested = [row for row in rows if row["p"] is not None]
        counts = found["claims_by_chance"][part]
        assert counts["tested"] == len(tested) and counts["by_chance"] == pytest.approx(0.05 * len(tested))
        assert counts["decided"] == sum(row["verdict"] in {"reproduced", "opposite"} for row in tested)
        assert counts["judged"] == sum(not row["lacks"] for row in rows)


def test_the_answer_of_the_report_keeps_the_papers_claims_and_ours_apart(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paper, _ = sample(study, tmp_path)
    monkeypatch.setattr(papers, "load", lambda name: paper)
    store = Store(tmp_path / "store")
    fill(study, store, PSNR)
    plan = plan_study(study, store)
    results = StudyResults(plan, frame_of(plan), build_table(plan, paper="any"))
    text = " ".join(results.table.answer.sentences)
    assert "Claims of R&D: 2 reproduced, 1 opposite. Hypotheses of ours: 1 opposite. " in text
    assert "Chance alone would decide about 0.2 of 4 claims." in text
    page = report.page(results)
    assert "<b>K2</b> Less so. <small>our hypothesis, s. Caveat: c</small>" in page


@pytest.fixture
def table(study: Study, tmp_path: Path) -> Table:
    store = Store(tmp_path / "store")
    fill(study, store, {**PSNR, "padding=zeros": [25.0, -math.inf, -math.inf]})
    return build_table(plan_study(study, store), paper="vivat")


def test_json_has_a_row_per_claim_with_its_contexts(table: Table, write_study: Write, tmp_path: Path) -> None:
    rows = json.loads(json.dumps(table.json(), allow_nan=False))["claims"]
    assert [row["id"] for row in rows] == [one.id for one in PAPER.claims]
    keys = {"id", "text", "verdict", "estimate", "low", "high", "n", "metric", "contrast", "source", "reason", "given"}
    keys |= {"said_by", "caveat", "requires", "p", "q", "margin", "of", "against"}
    assert all(keys <= row.keys() for row in rows)
    first = rows[0]
    assert first["contrast"] == {"A": {"loss.adversarial": 0.01}, "B": {"loss.adversarial": 0.0}}
    assert (first["verdict"], first["estimate"], first["direction"]) == ("not observed", None, "A above B")
    assert first["requires"] == [{"metric": "color/bias_norm", "of": "A"}] and first["contexts"] == []
    study = load_study(write_study(("loss.kl: [1, 1e-4]", FACTORS.replace("1e-4, 1,", "1e-4, 1e-3,"))))
    rows = build_table(plan_study(study, Store(tmp_path / "store")), paper="vivat").json()["claims"]
    [row] = [row for row in rows if row["id"] == "C1c"]
    assert [one["given"] for one in row["contexts"]] == [{}, {"padding": "zeros"}]


def test_a_study_without_a_paper_has_no_claims(study: Study, tmp_path: Path) -> None:
    table = build_table(plan_study(study, Store(tmp_path / "store")))
    assert table.json()["claims"] == []
    assert "Claims" not in table.markdown() + table.latex()
    with pytest.raises(ValueError, match="unknown paper 'none'"):
        build_table(plan_study(study, Store(tmp_path / "store")), paper="none")


def test_what_a_study_lacks_is_said_in_one_note(study: Study, table: Table, tmp_path: Path) -> None:
    gone = {**PSNR, "kl=1": [-math.inf] * 3}
    claims = [
        claim({"padding": "reflect"}, {"loss.kl": 1, "padding": "reflect"}, id="K1"),
        claim({}, {"loss.kl": 2}, id="K2"),
        claim({}, {"loss.kl": 0.01}, id="K3", metric="grid/comb_db"),
        claim({"loss.kl": 3, "norm": "scn"}, {"norm": "scn"}, id="K4", metric="grid/comb_db"),
        claim({"loss.kl": 3}, {}, id="K5"),
    ]
    paper = Paper("P", "2025", {}, tuple(claims))
    text = markdown(arrange_claims(study, paper, findings(study, tmp_path, gone, *claims)))
    assert [(row[0], row[-1]) for row in cells(text)[1:]] == [("K1", "not observed")]
    assert "K1: 3 of 3 trials of 'kl=1' diverged." in text.splitlines()
    assert text.splitlines()[-1].endswith(": K2, K5 (loss.kl); K3 (grid/comb_db); K4 (loss.kl, norm).")
    nothing = markdown(arrange_claims(study, paper, findings(study, tmp_path, gone, *claims[1:])))
    assert [row[0] for row in cells(nothing)] == ["higher or lower", "none"]
    assert nothing.count("Not observed here") == 1
    assert all(one.id in nothing for one in claims[1:])


def test_contrasts_name_what_differs() -> None:
    def words(what: Claim, given: Mapping[str, Any], margin: float | None = None) -> tuple[list[str], list[str]]:
        phrase = contrast(what, Metric("psnr", "1", "up"), given, margin)
        pieces, remark = (
            [str(getattr(piece, "value", piece)) for piece in side] for side in (phrase.pieces, phrase.remark)
        )
        return pieces, remark

    two = claim({"loss.kl": 1, "norm": "scn"}, {"loss.kl": 0.1, "norm": "group"})
    assert words(two, {}) == (["PSNR: ", "kl ", "1", ", norm ", "scn", " > ", "kl ", "0.1", ", norm ", "group"], [])
    steps = claim({"stages.tune.steps": 5, "norm": "scn"}, {"stages.tune.steps": 0, "norm": "scn"}, "A below B")
    assert words(steps, {"loss.kl": 1}) == (["PSNR: ", "tune.steps ", "5", " < ", "0"], ["norm ", "scn", ", kl ", "1"])
    equal = claim({"loss.kl": 1}, {"loss.kl": 0.1}, "A equals B", margin=0.05)
    assert words(equal, {"padding": "zeros"}, 0.05) == (
        ["PSNR: ", "kl ", "1", " = ", "0.1"], ["within ", "0.05", ", ", "padding ", "zeros"]
    )  # fmt: skip
    trend = claim({"loss.kl": 1}, {"loss.kl": 0.0001}, "A below B", along="loss.kl")
    assert words(trend, {})[0] == ["PSNR: ", "kl ", "1", " < … < ", "0.0001"]
    number = claim({"norm": "scn"}, 0.5)
    assert words(number, {"loss.kl": 1}) == (["PSNR", " > ", "0.5"], ["norm ", "scn", ", kl ", "1"])
    tint = contrast(claim({"norm": "scn"}, 0.5, metric="color/db"), Metric("color/db", "b*", "target"), {})
    assert tint.pieces[0] == "Shift to yellow (b*, distance to 0)"
    own = claim({"norm": "scn"}, {"norm": "scn"}, "A differs from B", against="ssim")
    assert words(own, {}, 0.5) == (["PSNR", " ≠ ", "SSIM"], ["within ", "0.5", ", ", "norm ", "scn"])


def test_latex_of_claims_compiles(study: Study, table: Table, tmp_path: Path) -> None:
    tex = latex(arrange_claims(study, *sample(study, tmp_path)))
    lint(tex)
    assert r"\label{tab:tiny-claims}" in tex
    text, log = compiled(tex, tmp_path)
    assert "Overfull" not in log
    for words in ["Claims of R&D (M", "judged by study tiny", "KL costs PSNR. R&D, section 4. Caveat: Or by 100 %.",
                  "our hypothesis, s. Caveat: c", "padding zeros", "no effect", "+3.90"]:  # fmt: skip
        assert words in " ".join(text.split()), words
    both = table.latex()
    assert both.count(r"\begin{table}") == 3
    assert [line for line in both.splitlines() if line.startswith("% Not observed here")]
    text, log = compiled(both, tmp_path)
    assert "Overfull" not in log
    assert "Table 3: Claims of VIVAT" in text


def test_a_long_table_of_claims_fits_its_pages(study: Study, tmp_path: Path) -> None:
    """All claims of a paper, each with its real sentence, source and caveat, and one that fills pages alone."""
    _, (first, *_) = sample(study, tmp_path)
    found = [Finding(replace(one, metric="psnr"), first.overall, first.contexts) for one in PAPER.claims]
    found[5] = replace(found[5], contexts=first.contexts * int(PAGE / ROW))
    layout = arrange_claims(study, PAPER, found)
    parts = pages(layout)
    assert len(parts) > 3 and len({part.label for part in parts}) == len(parts)
    rows = [row for group in layout.groups for row in group.rows]
    assert [row for part in parts for group in part.groups for row in group.rows] == rows
    assert [group.name for part in parts for group in part.groups if group.heading] == [one.id for one in PAPER.claims]
    assert parts[0].notes == layout.notes and "continued" in str(parts[2].notes)
    text, log = compiled("\n".join(map(latex, parts)), tmp_path)
    assert "too large" not in log and "Overfull" not in log
    assert text.count("reproduced") >= len(rows)


def test_the_command_refuses_an_unknown_paper(write_study: Write, tmp_path: Path) -> None:
    command = ("table", write_study(), "--store", tmp_path, "--paper")
    wrong = ablate(*command, "vivvat")
    assert wrong.returncode == 2
    assert "did you mean 'vivat'?" in " ".join(wrong.stderr.replace("│", " ").split())
    right = document(*command, "vivat")
    assert [row["id"] for row in right["claims"]] == [one.id for one in PAPER.claims]


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"requires": (Requirement("droplet/incidense", at_least=0.2),)},
     "requires[0].metric: no probe reports 'droplet/incidense'; did you mean 'droplet/incidence'?"),
    ({"metric": "psnrr"}, "metric: no probe reports 'psnrr'; did you mean 'psnr'?"),
    ({"against": "ssmi"}, "against: no probe reports 'ssmi'; did you mean 'ssim'?"),
    ({"direction": "A equals B", "margin": -0.5},
     "margin: expected a difference above 0, in the metric's unit, found -0.5"),
    ({"direction": "A equals B", "metric": "health/kl_nats"},
     "margin: needed for 'A equals B', as health/kl_nats has no smallest effect of interest"),
    ({"requires": (Requirement("health/kl_nats"),)},
     "requires[0]: needs a bound, as health/kl_nats has no smallest effect of interest"),
    ({"requires": (Requirement("psnr", at_least=3, at_most=2),)}, "requires[0]: at_least 3 is above at_most 2"),
    ({"along": "loss.l1"}, "along: both ends of an order must name 'loss.l1'"),
    ({"b": 3.0, "along": "loss.kl"}, "along: both ends of an order must name 'loss.kl'"),
    ({"b": 3.0, "against": "ssim"}, "against: side B is a number and has no metric"),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "message"), WRONG)
def test_a_claim_that_cannot_be_judged_is_refused_with_its_place(fields: dict[str, Any], message: str) -> None:
    wrong = replace(claim({"loss.kl": 1}, {"loss.kl": 2}, id="A1a"), **fields)
    with pytest.raises(StudyError) as error:
        check_claims([PAPER.claims[1], wrong], registry.PAPERS / "vivat.py")
    [problem] = error.value.problems
    assert problem.message.startswith(f"claim A1a: {message}")
    assert problem.file == str(registry.PAPERS / "vivat.py") or (problem.line and "_vivat_weights.py" in problem.file)


def test_a_paper_of_ones_own_is_refused_at_the_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write_study: Write
) -> None:
    """A copy of VIVAT's files with wrong metrics and an id that is used twice; `check` refuses a study of the paper."""
    part = own_papers(tmp_path, monkeypatch) / "_vivat_layers.py"
    text = part.read_text(encoding="utf-8")
    text = text.replace('"droplet/incidence"', '"droplet/incidense"').replace('id="D2a"', 'id="E2a"')
    part.write_text(text, encoding="utf-8")
    line = next(n for n, one in enumerate(text.splitlines(), 1) if "incidense" in one)
    with pytest.raises(StudyError) as error:
        papers.load("vivat")
    found = [(one.file, one.line, one.message) for one in error.value.problems]
    wrong = "claim E1a: requires[0].metric: no probe reports 'droplet/incidense'; did you mean 'droplet/incidence'?"
    assert (str(part), line, wrong) in [(file, n, text.split(" (valid")[0]) for file, n, text in found]
    assert any(message == "claim E2a: its id is used twice" and line for _, line, message in found)
    path = write_study(("study: tiny", "study: tiny\npaper: vivat"))
    with pytest.raises(StudyError, match="incidense"):
        validate(read_document(path), None, (), gpu=False)


def own_papers(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of all papers that is used instead of them."""
    own = folder / "papers"
    own.mkdir()
    for path in registry.PAPERS.glob("*.py"):
        shutil.copy(path, own)
    monkeypatch.setattr(registry, "PAPERS", own)
    monkeypatch.setattr(papers, "__path__", [str(own)])
    for name in [name for name in sys.modules if re.search(r"analysis\.papers\._?vivat", name)]:
        monkeypatch.delitem(sys.modules, name)
    return own


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("PAPER = Paper(", "PAPERS = Paper(", "AttributeError: module 'ablate.analysis.papers.vivat' has no attribute"),
        ("PAPER = Paper(", "PAPER = Papper(", "NameError: name 'Papper' is not defined"),
        ("PAPER = Paper(", "PAPER = = Paper(", "SyntaxError: invalid syntax"),
        ('PAPER = Paper("VIVAT", ', 'PAPER = Paper("VIVAT", "", ', "TypeError: Paper.__init__() takes"),
    ],
)
def test_a_papers_file_that_cannot_be_used_is_refused_at_its_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: str, new: str, message: str
) -> None:
    path = own_papers(tmp_path, monkeypatch) / "vivat.py"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace(old, new), encoding="utf-8")
    line = next(n for n, one in enumerate(text.splitlines(), 1) if one.startswith("PAPER"))
    with pytest.raises(StudyError) as error:
        papers.load("vivat")
    [problem] = error.value.problems
    assert problem.message.startswith(message) and problem.file == str(path)
    assert problem.line == (0 if new == "PAPERS = Paper(" else line)
