"""Looks of a table: check marks, matrices, what is bold, widths of real papers, packages; LaTeX is typeset and read."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

from ablate.adaptive.recall import plan_study
from ablate.analysis.records.frame import tidy
from ablate.analysis.statistics.dunnett import dunnett
from ablate.analysis.statistics.effects import by_seed, paired
from ablate.analysis.statistics.ranks import indistinct
from ablate.analysis.tables.build import build_table
from ablate.analysis.tables.options import TableOptions, read_options
from ablate.analysis.tables.table import Table
from ablate.analysis.typeset.cells import words
from ablate.analysis.typeset.latex import latex
from ablate.plan.trials import expand
from ablate.slots.settings import Metric
from ablate.store.folders import Store
from ablate.study.study import Study, load_study
from tests.support.finished import finish
from tests.support.studies import Write
from tests.support.typeset import CVPR, ICML, ONE_COLUMN, cells, compiled, lint

Built = Callable[..., Table]


Artifacts = Callable[..., Table]


ROOT = Path(__file__).parents[2]


LADDER = (
    "design: [ladder, leave_one_out]\nfactors:\n  loss.kl: [1e-4, 1]\n  norm: [group, scn]\n  padding: [reflect, zeros]"
)


GRID = "design: grid\nfactors:\n  loss.kl: [1e-4, 1]\n  padding: [reflect, zeros, circular]"


def fill(study: Study, store: Store, lost: Mapping[str, tuple[int, ...]] | None = None) -> None:
    """Finish all trials with random numbers; those of `lost`, label -> seeds, diverged."""
    rng = np.random.default_rng(0)
    for trial in expand(study):
        values = {name: 20 + rng.normal() + 3 * len(trial.treatment.changed) for name in study.metrics}
        status = "diverged" if trial.seed in (lost or {}).get(trial.treatment.label, ()) else "done"
        finish(store, trial, values, status)


@pytest.fixture
def built(write_study: Write, tmp_path: Path) -> Built:
    def build(design: str, metrics: list[str] | None = None, lost: Mapping[str, tuple[int, ...]] | None = None,
              **look: object) -> Table:  # fmt: skip
        probes = ("probes: [reconstruction]", "probes: [reconstruction, grid, border]")
        study = load_study(write_study(("factors:\n  loss.kl: [1, 1e-4]\nseeds: 2", f"{design}\nseeds: 3"), probes))
        fill(study, Store(tmp_path / "store"), lost)
        return build_table(plan_study(study, Store(tmp_path / "store")), metrics, options=TableOptions(**look))  # type: ignore[arg-type]

    return build


def test_components_have_check_marks(built: Built, tmp_path: Path) -> None:
    table = built(LADDER, layout="components")
    rows = cells(table.markdown())
    assert rows[0][:4] == ["group", "kl 1", "norm SCN", "padding zeros"]
    assert [row[:4] for row in rows[2:]] == [
        ["", "", "", ""],
        ["ladder", "✓", "", ""],
        ["", "✓", "✓", ""],
        ["", "✓", "✓", "✓"],
        ["leave one out", "", "✓", "✓"],
        ["", "✓", "", "✓"],
    ]
    tex = table.latex()
    lint(tex)
    assert tex.startswith("% needs \\usepackage{booktabs,amssymb}\n")
    text, log = compiled(tex, tmp_path)
    assert "Overfull" not in log
    assert re.search(r"kl +norm +padding +mean", text) and re.search(r"1 +SCN +zeros", text)
    assert table.html().count("✓") == 10


def test_a_factor_of_many_levels_shows_them_beside_check_marks(built: Built) -> None:
    rows = cells(built(GRID, layout="components").markdown())
    assert rows[0][:2] == ["kl 1", "padding"]
    assert [row[:2] for row in rows[2:5]] == [["", "reflect"], ["", "zeros"], ["", "circular"]]


def test_a_matrix_has_one_metric_over_two_factors(built: Built, tmp_path: Path) -> None:
    table = built(GRID, ["grid/nat_fold"], {"kl=1 padding=zeros": (0, 1, 2), "padding=zeros": (1,)}, layout="matrix")
    rows = cells(table.markdown())[:4]
    assert rows[0] == ["kl"] + [f"padding/{level} (gl) ↓" for level in ("reflect", "zeros", "circular")]
    assert [row[0] for row in rows[2:]] == ["0.0001", "1"]
    assert (rows[2][2], rows[3][2]) == ("diverges 1/3", "diverges 3/3")
    effects = table.analysis.effects
    for label, cell in {"baseline": rows[2][1], "kl=1 padding=circular": rows[3][3]}.items():
        assert cell.strip("*_").split()[0].strip("*_") == f"{effects[label]['grid/nat_fold'].mean:.3f}"
    tex = table.latex()
    lint(tex[: tex.index("% needs", 1)] if tex.count("% needs") > 1 else tex)
    text, _ = compiled(tex, tmp_path)
    assert re.search(r"padding\n.*kl +reflect +zeros +circular", text)


@pytest.mark.parametrize(
    ("design", "metrics", "message"),
    [
        (LADDER, None, "layout 'matrix' is for a grid of two factors; tiny is a ladder + leave_one_out of 3 factors"),
        (GRID, ["psnr", "ssim"], "layout 'matrix' shows one metric, not 2"),
    ],
)
def test_what_is_no_matrix_is_refused(built: Built, design: str, metrics: list[str] | None, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        built(design, metrics, layout="matrix")


def test_bold_is_what_a_paired_test_does_not_tell_from_the_best() -> None:
    up = Metric("m", "", "up")
    rng = np.random.default_rng(1)
    common = rng.normal(0, 5, 6)
    arms = [dict(enumerate(row)) for row in (common + np.array([[0.0], [0.1], [-3.0]]) + rng.normal(0, 0.3, (3, 6)))]
    assert indistinct(up, arms, corrected=True) == [1, 1, 0]
    p = paired(list(arms[2].values()), list(arms[1].values())).p
    assert p < 0.01 < paired(list(arms[0].values()), list(arms[1].values())).p
    down = Metric("m", "", "down")
    assert indistinct(down, arms, corrected=True) == [0, 0, 1]
    target = Metric("m", "", "target", target=10.0)
    assert indistinct(target, [{0: 12.0, 1: 12.4}, {0: 8.1, 1: 7.9}, {0: 3.0, 1: 3.1}], corrected=False) == [1, 1, 0]


def test_nothing_is_bold_where_nothing_is_told() -> None:
    up = Metric("m", "", "up")
    assert indistinct(up, [{0: 1.0}, {0: 2.0}], corrected=True) == [0, 0]
    assert indistinct(up, [{0: 1.0, 1: 3.0}, {0: 2.0, 1: 1.0}], corrected=True) == [0, 0]
    assert indistinct(up, [{}, {0: 1.0, 1: 1.1}, {0: 5.0, 1: 5.1001}], corrected=True) == [0, 0, 1]
    assert indistinct(Metric("m", "", "none"), [{0: 1.0, 1: 1.1}, {0: 5.0, 1: 5.1}], corrected=True) == [0, 0]


def test_holm_keeps_more_bold_in_the_primary_metric() -> None:
    up = Metric("m", "", "up")
    rng = np.random.default_rng(2)
    arms = [dict(enumerate(rng.normal(0, 0.3, 4) + level)) for level in (3, *[2.1] * 9, -90)]
    plain, corrected = (sum(indistinct(up, arms, corrected=kind)) for kind in (False, True))
    assert 0 < plain < corrected < 11


def test_the_rule_is_printed(built: Built) -> None:
    table = built(LADDER, bold="indistinct")
    for text in (table.markdown(), table.latex(), table.html()):
        assert "all means that do not differ from it significantly" in text
        assert "second best" not in text
    assert "_" not in "".join(cell for row in cells(table.markdown())[2:] for cell in row[2:4])


def test_unpaired_comparisons_are_dunnetts(built: Built, tmp_path: Path) -> None:
    table = built(GRID)
    study = table.study
    found = build_table(plan_study(study, Store(tmp_path / "store")), ["psnr"], unpaired=True)
    assert (
        "are from Dunnett’s test" in found.markdown() and "paired by seed" not in found.markdown().partition("Main")[0]
    )
    values = by_seed(tidy(expand(study), Store(tmp_path / "store")), "psnr")
    for label, change in dunnett(values).items():
        effect = found.analysis.effects[label]["psnr"]
        assert (effect.change, effect.p_holm) == (change, change.p)
    with pytest.raises(ValueError, match="unpaired comparisons need a study"):
        built_ladder = built(LADDER)
        build_table(plan_study(built_ladder.study, Store(tmp_path / "store")), unpaired=True)


def test_decimals_caption_and_label(built: Built) -> None:
    table = built(LADDER, decimals={"psnr": 1}, caption="Ours & theirs.", label="main-table")
    tex = table.latex()
    assert r"\caption{Ours \& theirs.}" in tex
    assert r"\label{tab:main-table}" in tex
    assert "% Study tiny at scale base: 6 steps" in tex
    lint(tex)
    assert table.markdown().startswith("Ours & theirs.\n")
    assert re.fullmatch(r"[*_]*\d\d\.\d[*_]* +± \d\.\d", cells(table.markdown())[2][2])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"layout": "matrx"}, "layout 'matrx'; did you mean 'matrix'?"),
        ({"bold": "all"}, "bold 'all' (valid: best, indistinct)"),
        ({"decimals": "psrn=2"}, "unknown metric 'psrn'; did you mean 'psnr'?"),
        ({"decimals": "psnr=x"}, "decimals 'psnr=x': expected a number from 0 to 9, or METRIC=NUMBER"),
        ({"label": "a}b"}, "label 'a}b': '}' is not allowed in a label"),
    ],
)
def test_a_look_is_checked(given: dict[str, str], message: str) -> None:
    asked = {"layout": "rows", "bold": "best", "decimals": "", "caption": "", "label": ""} | given
    with pytest.raises(ValueError, match=re.escape(message)):
        read_options(**asked, metrics={"psnr": Metric("psnr", "dB", "up")})


def test_decimals_for_all_and_for_one() -> None:
    metrics = {"psnr": Metric("psnr", "dB", "up"), "ssim": Metric("ssim", "1", "up")}
    assert read_options("rows", "best", "1,ssim=4", "", "", metrics).decimals == {"psnr": 1, "ssim": 4}


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> Artifacts:
    """The table of the study `vivat_artifacts`, with random results in place of its own, in some metrics."""
    study = load_study(ROOT / "search_spaces" / "vivat_artifacts.yaml", "cpu")
    store = Store(tmp_path_factory.mktemp("artifacts"))
    fill(study, store)
    return lambda metrics=None: build_table(plan_study(study, store), metrics)


@pytest.mark.parametrize("paper", [CVPR, ICML], ids=["cvpr", "icml"])
def test_vivat_artifacts_fits_a_paper_of_two_columns(artifacts: Artifacts, paper: str, tmp_path: Path) -> None:
    tex = artifacts().latex(paper_columns=2)
    assert r"\begin{table*}" in tex
    text, log = compiled(tex, tmp_path, paper)
    assert "Overfull \\hbox" not in log
    for part in ("+ norm SCN", "w/o padding reflect", "Table 1: Study vivat_artifacts".replace("_", " ")):
        assert part in text.replace("_", " ")


@pytest.mark.parametrize(("paper", "columns"), [(CVPR, 2), (ICML, 2), (ONE_COLUMN, 1)])
def test_a_caption_has_three_lines_at_most_and_the_rest_is_a_note(
    artifacts: Artifacts, paper: str, columns: int, tmp_path: Path
) -> None:
    table = artifacts(["psnr"])
    text, _ = compiled(latex(table.layout, columns), tmp_path, paper)
    lines = text[text.index("Table 1") :].splitlines()
    caption = lines[
        : next(i for i, line in enumerate(lines) if not line.strip() or line.split()[0] in {"PSNR", "treatment"})
    ]
    assert 1 <= len(caption) <= 3
    flat = " ".join(text.replace("-\n", "").split())
    for note in table.layout.notes[-2:]:
        assert " ".join(words(note).split()[:3]) in flat


def test_what_does_not_fit_says_which_option_helps(artifacts: Artifacts, tmp_path: Path) -> None:
    tex = artifacts().latex()
    advice = "% wider than a page: choose fewer metrics, or --columns 2 in a paper of two columns\n"
    assert advice in tex.partition(r"\begin{table}")[0]
    narrow = artifacts(["psnr", "droplet/blob"])
    assert "% too wide for one column of a two-column paper: use --columns 2 there\n" in narrow.latex()
    assert "Overfull \\hbox" in compiled(tex, tmp_path, CVPR)[1]


@pytest.mark.parametrize("paper", [CVPR, ICML], ids=["cvpr", "icml"])
def test_few_metrics_fit_one_of_two_columns(built: Built, paper: str, tmp_path: Path) -> None:
    tex = built(LADDER, ["psnr", "border/excess_b4"]).latex(paper_columns=2)
    assert r"\begin{table}[t]" in tex and "table*" not in tex
    assert "Overfull \\hbox" not in compiled(tex, tmp_path, paper)[1]


@pytest.mark.parametrize("packages", [("multirow",), ("siunitx",), ("multirow", "siunitx")], ids="+".join)
@pytest.mark.parametrize("metrics", [["psnr"], ["psnr", "ssim", "grid/nat_fold"]], ids=["one", "three"])
def test_packages_are_named_and_used(
    built: Built, packages: tuple[str, ...], metrics: list[str], tmp_path: Path
) -> None:
    table = built(LADDER, metrics, {"+ kl=1": (0, 1, 2)})
    tex = table.latex(packages=packages)
    lint(tex)
    assert tex.startswith(f"% needs \\usepackage{{booktabs,{','.join(packages)}}}\n")
    assert (r"\multirow" in tex, "S[table-format=" in tex) == ("multirow" in packages, "siunitx" in packages)
    text, log = compiled(tex, tmp_path)
    assert "Overfull \\hbox" not in log
    lines = text.splitlines()
    for label in ("baseline", "+ norm scn"):
        mean = table.analysis.effects["baseline" if label == "baseline" else "+ norm=scn"]["psnr"].mean
        assert any(label in line and f"{mean:.2f}" in line for line in lines)
    assert "div. 3/3" in text
    assert "leave one out" in text
