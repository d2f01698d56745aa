"""The tables of main effects and interactions, from a study and its records to LaTeX."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ablate.adaptive.recall import plan_study
from ablate.analysis.statistics.factorial import Decomposition
from ablate.analysis.tables.build import build_table
from ablate.analysis.tables.factorial import _uneven
from ablate.analysis.tables.table import Table
from ablate.plan.labels import Names
from ablate.plan.treatments import Treatment
from ablate.plan.trials import expand
from ablate.store.folders import Store
from ablate.study.study import Study, load_study
from tests.support.finished import finish
from tests.support.studies import ROOT, Write
from tests.support.typeset import cells, compiled, lint

Designed = Callable[..., Study]


TWO = "loss.kl: [1e-4, 1]\n  padding: [reflect, zeros]"


THREE = "loss.kl: [1e-4, 1]\n  padding: [reflect, zeros, circular]"


FOUR = f"{TWO}\n  norm: [group, scn]\n  loss.l2: [1, 2]"


@pytest.fixture
def designed(write_study: Write) -> Designed:
    def read(factors: str, design: str = "grid", seeds: int = 3) -> Study:
        head = f"design: {design}\nfactors:\n  {factors}\nseeds: {seeds}\n"
        return load_study(write_study(("factors:\n  loss.kl: [1, 1e-4]\nseeds: 2\n", head)))

    return read


def fill(study: Study, folder: Path, metrics: list[str] | None = None, lost: tuple[str, ...] = ()) -> Table:
    """A strong KL weight costs 4 dB, zeros cost 1 dB, both together 2 dB more; `lost` are treatments that diverged."""
    store, rng = Store(folder / "store"), np.random.default_rng(3)
    for trial in expand(study):
        strong, zeros = trial.treatment.levels["loss.kl"] == 1, trial.treatment.levels["padding"] == "zeros"
        psnr = 25 - 4 * strong - zeros - 2 * strong * zeros + trial.seed + rng.normal(0, 0.2)
        values = {"psnr": psnr, "ssim": psnr / 40}
        status = "diverged" if trial.treatment.label in lost else "done"
        finish(store, trial, values, status)
    return build_table(plan_study(study, store), metrics)


def test_what_was_planted_is_printed(designed: Designed, tmp_path: Path) -> None:
    table = fill(designed(THREE), tmp_path)
    text = table.markdown().partition("Main effects and interactions in PSNR")[2]
    rows = cells(text)
    assert rows[0] == ["group", "change", "Δ PSNR (dB) [95 % CI]", "share", "F (df)", "p (Holm)"]
    assert [row[:2] for row in rows[2:]] == [
        ["kl", "0.0001 → 1"],
        ["padding", "any"],
        ["", "reflect → zeros"],
        ["", "reflect → circular"],
        ["interactions", "kl × padding"],
        ["other", "seeds"],
        ["", "error"],
    ]
    assert rows[2][2].startswith("−4.") and rows[2][2].endswith("*")
    assert rows[4][2].startswith(("−1.9", "−2.0", "−2.1")) and rows[4][2].endswith("*")
    assert rows[5][2].startswith(("+0.", "−0.")) and not rows[5][2].endswith("*")
    assert rows[2][5] == "<0.001"
    assert "p is corrected for 3 tests by Holm’s method" in text


def test_a_grid_with_holes_is_analysed_where_it_is_whole(designed: Designed, tmp_path: Path) -> None:
    """As if the factor that constraints have holes in were not varied, beside a ladder that asks for another row."""
    third = f"{TWO}\n  norm: [group, scn]"
    holes = "[ladder, grid]\nwhere: [\"norm == 'group' or (loss.kl == 1 and padding == 'zeros')\"]"
    table = fill(designed(third, holes), tmp_path)
    mean = {
        (arm.treatment.levels["loss.kl"] == 1, arm.treatment.levels["padding"] == "zeros"): arm.effects["psnr"].mean
        for arm in table.arms
        if arm.treatment.levels["norm"] == "group"
    }
    assert (len(table.arms), len(mean)) == (5, 4)
    found = table.factorial["psnr"]
    assert [term.factors for term in found.terms] == [(0,), (1,), (0, 1)] and found.error_df == 3 * 2
    kl, padding, both = (term.contrasts[0].estimate for term in found.terms)
    assert both == pytest.approx(mean[True, True] - mean[True, False] - mean[False, True] + mean[False, False])
    assert kl == pytest.approx((mean[True, False] - mean[False, False] + mean[True, True] - mean[False, True]) / 2)
    assert padding == pytest.approx((mean[False, True] - mean[False, False] + mean[True, True] - mean[True, False]) / 2)
    assert "Only treatments with norm GroupNorm, the largest full grid that the constraints leave." in table.markdown()
    assert "largest full grid" not in fill(designed(TWO), tmp_path / "whole").markdown()


def test_json_names_levels_and_stays_json(designed: Designed, tmp_path: Path) -> None:
    table = fill(designed(THREE), tmp_path, ["psnr", "ssim"])
    found = json.loads(json.dumps(table.json(), allow_nan=False))["factorial"]
    assert set(found) == {"psnr", "ssim"}
    kl, padding, both = found["psnr"]["terms"]
    assert (kl["factors"], padding["factors"], both["factors"]) == (["loss.kl"], ["padding"], ["loss.kl", "padding"])
    assert [one["levels"] for one in both["contrasts"]] == [
        {"loss.kl": 1.0, "padding": "zeros"},
        {"loss.kl": 1.0, "padding": "circular"},
    ]
    assert both["contrasts"][0]["estimate"] == pytest.approx(-2, abs=0.5)
    assert found["psnr"]["error_df"] == 10
    assert found["ssim"]["terms"][0]["p_holm"] is None


def test_a_table_for_each_metric_that_is_asked_for(designed: Designed, tmp_path: Path) -> None:
    table = fill(designed(TWO), tmp_path, ["ssim", "psnr"])
    assert [layout.label for layout in table.factorial_layouts] == ["tiny-effects-ssim", "tiny-effects-psnr"]
    first, second = table.markdown().split("Study tiny, ")[1:]
    assert first.startswith("SSIM") and "p is not corrected" in first and "p is corrected for 3 tests" in second
    assert "kl × padding" in table.html()


def test_latex_compiles_and_shows_the_cells(designed: Designed, tmp_path: Path) -> None:
    tex = fill(designed(FOUR, "fraction\nfraction: {runs: 8}", 2), tmp_path).latex()
    start = tex.index("% needs", 1)
    for part in (tex[:start], tex[start:]):
        lint(part)
    text, log = compiled(tex, tmp_path)
    assert "Overfull" not in log
    for words in ["Table 2: Study tiny, PSNR in dB", "kl × padding (or", "reflect → zeros", "seeds", "<0.001"]:
        assert words in text


def test_a_d_optimal_fraction_tells_adjusted_effects_and_on_what_they_rest(designed: Designed, tmp_path: Path) -> None:
    """Interactions of the planted size are there, and the row of what was left out finds them."""
    factors = f"{THREE}\n  norm: [group, scn]"
    study = designed(factors, "fraction\nfraction: {runs: 8, interactions: [[padding, loss.kl]]}")
    text = fill(study, tmp_path).markdown().partition("Main effects and interactions in PSNR")[2]
    rows = {row[1]: row for row in cells(text)}
    assert rows["kl × padding"][5] == "<0.001"
    assert rows["interactions left out"][4].endswith("(1)")
    assert "by least squares: main effects and kl × padding, each adjusted for the others" in text
    assert "the row “interactions left out” tests this" in text and "explains beyond all other terms" in text
    saturated = designed(factors, "fraction\nfraction: {runs: 5}")
    text = fill(saturated, tmp_path / "other").markdown().partition("Main effects and interactions in PSNR")[2]
    assert "Other interactions are assumed to be zero; nothing here tests this" in text and "left out" not in text


def test_an_error_that_is_not_the_same_everywhere_is_told() -> None:
    names = Names(load_study(ROOT / "search_spaces" / "smoke.yaml"))
    some = Decomposition((), 0, 0, 0, 0, 0, 1, 26, 1.0, (3, 0.3), 0.004)
    rows = [Treatment({}, {}, f"t{i}", None, None, None, ()) for i in range(14)]  # type: ignore[arg-type]
    assert _uneven(names, rows, some)[0].startswith("half of the treatments contribute 0.4% of the error")
    assert "comes from the treatment 't3'" in _uneven(names, rows, replace(some, noisiest=(3, 0.6)))[0]
    assert _uneven(names, rows, replace(some, quiet_half_share=0.15)) == ()


def test_one_seed_has_no_tests(designed: Designed, tmp_path: Path) -> None:
    text = fill(designed(TWO, seeds=1), tmp_path).markdown().partition("Main effects")[2]
    assert cells(text)[0] == ["group", "change", "Δ PSNR (dB) [95 % CI]", "share"]
    assert "One seed: no estimate of the error, no intervals." in text and "*" not in text


@pytest.mark.parametrize(
    ("factors", "design", "lost", "reason"),
    [
        (
            TWO,
            "grid\nwhere: [\"loss.kl == 1e-4 or padding == 'reflect'\"]",
            (),
            "constraints leave no two factors crossed",
        ),
        (TWO, "grid", ("kl=1",), "no finite value yet of kl=1"),
    ],
)
def test_what_cannot_be_told_is_refused_with_a_reason(
    designed: Designed, tmp_path: Path, factors: str, design: str, lost: tuple[str, ...], reason: str
) -> None:
    table = fill(designed(factors, design), tmp_path, lost=lost)
    assert table.factorial_layouts == ()
    assert f"No main effects in PSNR: {reason}." in table.markdown()


def test_other_designs_have_none(designed: Designed, tmp_path: Path) -> None:
    table = fill(designed(TWO, "one_at_a_time"), tmp_path)
    assert (table.factorial, table.factorial_layouts) == ({}, ())
