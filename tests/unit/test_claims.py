"""Claims: the rule of the verdicts against planted truth and SciPy, how treatments are found, what papers hold."""

import json
import math
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from ablate import registry
from ablate.design import treatments
from ablate.identity import signature
from ablate.spec import Study, load_study
from ablate.store import Record, Store
from ablate.strict_yaml import StudyError
from ablate.trials import expand
from analysis import papers
from analysis.claims import Claim, Direction, Judgement, decide, judge
from analysis.effects import paired
from analysis.emit_latex import latex
from analysis.emit_text import markdown
from analysis.frame import tidy
from analysis.layout import arrange_claims, contrast
from analysis.papers import Paper
from analysis.papers.vivat import PAPER
from analysis.tables import Table, build_table
from tests.typeset import compiled, lint

Write = Callable[..., Path]
Results = Mapping[str, list[float]]
FACTORS = "loss.kl: [1, 0.0001, 1e-2]\n  loss.perceptual: [0, 1]\n  norm: [group, {level: scn, groups: 2}]"
PSNR: Results = {"baseline": [24.0, 24.5, 25.1], "kl=1": [20.0, 20.7, 21.0], "kl=0.01": [23.0, 24.9, 25.0]}
"""psnr of seeds 0, 1 and 2; -inf stands for a trial that diverged, NaN for one that is pending."""


@pytest.fixture
def study(write_study: Write) -> Study:
    random_features = "kl: 1e-4, perceptual: {weight: 0, backbone: random_features}}"
    return load_study(
        write_study(("loss.kl: [1, 1e-4]", FACTORS), ("kl: 1e-4}", random_features), ("seeds: 2", "seeds: 3"))
    )


def claim(a: Mapping[str, Any], b: Mapping[str, Any], direction: Direction = "A above B", **others: Any) -> Claim:
    return Claim(
        **{"id": "X1", "text": "t", "metric": "psnr", "source": "s", "said_by": "paper", "caveat": "c"} | others,
        a=a, b=b, direction=direction,
    )  # fmt: skip


def fill(study: Study, store: Store, results: Results) -> None:
    for trial in expand(study):
        value = results.get(trial.treatment.label, [math.nan] * 3)[trial.seed]
        status = "diverged" if value == -math.inf else "done"
        record = Record(
            trial.signature, trial.seed, status, "", trial.steps, {"psnr": value}, probes=trial.probe_keys
        )  # fmt: skip
        if not math.isnan(value):
            store.stage(trial.signature).finish(record)


def judged(study: Study, folder: Path, results: Results, what: Claim) -> Judgement:
    """The verdict on records with these results, in a store of their own."""
    store = Store(folder / signature(str(results)))
    fill(study, store, results)
    return judge(what, study, treatments(study), tidy(expand(study), store))


# the rule


def shares(direction: Direction, effect: float, noise: float, pairs: int, repeats: int = 4000) -> dict[str, float]:
    """How often each verdict comes up where the truth of A - B is `effect` and differences have sd `noise`."""
    rng = np.random.default_rng(11)
    level = rng.normal(20, 3, (repeats, pairs))
    a = level + effect + rng.normal(0, noise / math.sqrt(2), (repeats, pairs))
    b = level + rng.normal(0, noise / math.sqrt(2), (repeats, pairs))
    verdicts = [decide(direction, paired(x, y)) for x, y in zip(a, b, strict=True)]
    return {word: verdicts.count(word) / repeats for word in ("reproduced", "opposite", "inconclusive")}


@pytest.mark.parametrize("direction", ["A above B", "A below B"])
@pytest.mark.parametrize("pairs", [2, 3, 8])
def test_without_an_effect_each_side_is_wrong_in_one_of_forty_studies(direction: Direction, pairs: int) -> None:
    found = shares(direction, 0.0, 0.5, pairs)
    bound = 3.3 * math.sqrt(0.025 * 0.975 / 4000)
    assert found["reproduced"] == pytest.approx(0.025, abs=bound)
    assert found["opposite"] == pytest.approx(0.025, abs=bound)
    assert found["inconclusive"] == pytest.approx(0.95, abs=2 * bound)


@pytest.mark.parametrize(("pairs", "ratio"), [(3, 2.0), (3, 4.0), (5, 1.5)])
def test_power_is_that_of_the_noncentral_t_distribution(pairs: int, ratio: float) -> None:
    found = shares("A above B", ratio * 0.5, 0.5, pairs)
    power = stats.nct.sf(stats.t.ppf(0.975, pairs - 1), pairs - 1, ratio * math.sqrt(pairs))
    assert found["reproduced"] == pytest.approx(power, abs=3.3 * math.sqrt(power * (1 - power) / 4000))
    assert found["opposite"] < 0.001
    mirrored = shares("A below B", ratio * 0.5, 0.5, pairs)
    assert mirrored["opposite"] == found["reproduced"]


def test_no_difference_at_all_is_inconclusive_and_a_constant_one_is_not() -> None:
    assert decide("A above B", paired([1.0, 2.0], [1.0, 2.0])) == "inconclusive"
    assert decide("A above B", paired([1.5, 2.5], [1.0, 2.0])) == "reproduced"
    assert decide("A below B", paired([1.5, 2.5], [1.0, 2.0])) == "opposite"
    assert decide("A above B", paired([1.5], [1.0])) == "inconclusive"
    assert decide("A above B", paired([math.inf, 2.0, 3.0], [1.0, 1.0, 1.0])) == "inconclusive"


# a claim against a study


def test_the_estimate_and_interval_are_those_of_the_paired_t_test(study: Study, tmp_path: Path) -> None:
    found = judged(study, tmp_path, PSNR, claim({"loss.kl": 0.01}, {"loss.kl": 1}))
    truth = stats.ttest_rel(PSNR["kl=0.01"], PSNR["kl=1"])
    low, high = truth.confidence_interval(0.95)
    assert (found.estimate, found.low, found.high) == pytest.approx((low / 2 + high / 2, low, high))
    assert (found.verdict, found.n, found.reason) == ("reproduced", 3, "")


def test_each_verdict(study: Study, tmp_path: Path) -> None:
    high, low, noisy = {}, {"loss.kl": 1.0}, {"loss.kl": 0.01}
    assert judged(study, tmp_path, PSNR, claim(high, low)).verdict == "reproduced"
    assert judged(study, tmp_path, PSNR, claim(low, high, "A below B")).verdict == "reproduced"
    assert judged(study, tmp_path, PSNR, claim(low, high)).verdict == "opposite"
    assert judged(study, tmp_path, PSNR, claim(noisy, high)).verdict == "inconclusive"
    assert judged(study, tmp_path, PSNR, claim(low, high, metric="ssim")).verdict == "inconclusive"
    assert judged(study, tmp_path, PSNR, claim(low, high, metric="blur/mtf50")).verdict == "not observed"


@pytest.mark.parametrize(
    ("levels", "label"),
    [
        ({}, "baseline"),
        ({"loss.kl": 1e-4}, "baseline"),
        ({"loss.kl": 0.0001, "norm": "group", "padding": "reflect"}, "baseline"),
        ({"loss.kl": 1}, "kl=1"),
        ({"loss.kl": 10.0**-2}, "kl=0.01"),
        ({"norm": "scn", "norm.groups": 2}, "norm=scn(groups=2)"),
        ({"stages.train.steps": 6, "loss.perceptual": 1}, "perceptual=1"),
        ({"loss.adversarial": 0.0}, "baseline"),
    ],
)
def test_treatments_are_found_by_value(study: Study, tmp_path: Path, levels: dict[str, Any], label: str) -> None:
    values: Results = {t.label: [float(i), float(i), float(i)] for i, t in enumerate(treatments(study))}
    other, against = ({"loss.kl": 1}, "kl=1") if label != "kl=1" else ({}, "baseline")
    found = judged(study, tmp_path, values, claim(levels, other))
    assert found.estimate == values[label][0] - values[against][0]


@pytest.mark.parametrize(
    ("a", "reason"),
    [
        ({"loss.kl": 1e-3}, "no treatment has loss.kl 0.001"),
        ({"loss.kl": 1, "loss.perceptual": 1}, "no treatment has loss.kl 1, loss.perceptual 1"),
        ({"norm": "scn"}, "no treatment has norm scn"),
        ({"padding": "zeros"}, "no treatment has padding zeros"),
        ({"stages.train.steps": 7}, "no treatment has stages.train.steps 7"),
        ({"stages.decoder.steps": 5}, "no treatment has stages.decoder.steps 5"),
        ({"loss.kl": 0.0001}, "both sides are the treatment 'baseline'"),
    ],
)
def test_a_missing_treatment_is_named(study: Study, tmp_path: Path, a: dict[str, Any], reason: str) -> None:
    found = judged(study, tmp_path, PSNR, claim(a, {}))
    assert (found.verdict, found.reason) == ("not observed", reason)


def test_everything_that_is_missing_is_named(study: Study, tmp_path: Path) -> None:
    found = judged(study, tmp_path, PSNR, claim({"loss.kl": 2}, {"loss.kl": 3}, metric="blur/mtf50"))
    assert found.reason == "no probe of the study reports blur/mtf50; no treatment has loss.kl 2 or loss.kl 3"
    assert (found.verdict, found.n) == ("not observed", 0)
    assert math.isnan(found.estimate)


def test_diverged_trials(study: Study, tmp_path: Path) -> None:
    gone = {**PSNR, "kl=1": [-math.inf] * 3}
    found = judged(study, tmp_path, gone, claim({}, {"loss.kl": 1}))
    assert (found.verdict, found.reason) == ("not observed", "3 of 3 trials of 'kl=1' diverged")
    some = {**PSNR, "kl=1": [20.0, -math.inf, 21.0]}
    found = judged(study, tmp_path, some, claim({}, {"loss.kl": 1}))
    assert (found.verdict, found.n, found.reason) == ("reproduced", 2, "1 of 3 trials of 'kl=1' diverged")


def test_only_shared_seeds_count(study: Study, tmp_path: Path) -> None:
    holes = {"baseline": [24.0, math.nan, 25.0], "kl=1": [math.nan, 20.0, 21.0]}
    found = judged(study, tmp_path, holes, claim({}, {"loss.kl": 1}))
    assert (found.verdict, found.n, found.estimate) == ("inconclusive", 1, 4.0)
    assert judged(study, tmp_path, {}, claim({}, {"loss.kl": 1})).verdict == "inconclusive"


# papers


@pytest.mark.parametrize("name", registry.papers())
def test_claims_are_well_formed(name: str) -> None:
    reported = {m.name for probe in registry.levels("probe") for m in registry.level("probe", probe).metrics}
    paper = papers.load(name)
    assert paper.claims
    assert len({one.id for one in paper.claims}) == len(paper.claims)
    for one in paper.claims:
        assert one.metric in reported, one
        assert one.direction in {"A above B", "A below B"}
        assert one.said_by in {"paper", "us"}
        assert one.text.strip() and one.source.strip() and one.caveat.strip()
        assert dict(one.a) != dict(one.b)
        for path in {**one.a, **one.b}:
            slot, *rest = path.split(".")
            assert slot in {*registry.SLOTS, "stages"}, path
            assert slot != "loss" or rest[0] in registry.levels("loss"), path
    for table in paper.tables.values():
        assert table.source.strip() and table.rows
        assert {len(row) for row in table.rows.values()} == {len(table.columns)}


def test_vivats_claims_are_found_in_its_study() -> None:
    """All treatments but those of B2a, which need two factors at once, are in the study of one factor at a time."""
    path = Path(__file__).parents[2] / "search_spaces" / "vivat_losses.yaml"
    for scale in ("cpu", "gpu", "paper"):
        study = load_study(path, scale)
        frame = tidy(expand(study), Store(Path("nowhere")))
        found = {one.id: judge(one, study, treatments(study), frame) for one in PAPER.claims}
        lacking = {name for name, verdict in found.items() if "no treatment" in verdict.reason}
        assert lacking == {"B2a"}
        weights = {name: study.baseline.value(f"loss.{name}") for name in PAPER.tables["3"].rows}
        assert weights == {name: row[0] for name, row in PAPER.tables["3"].rows.items()}


def test_vivats_tables_have_the_papers_numbers() -> None:
    psnr, ssim = PAPER.tables["1 PSNR"], PAPER.tables["1 SSIM"]
    assert psnr.rows["VIVAT"] == (31.25, 33.82, 32.61, 39.35)
    assert psnr.rows["Flux VAE"][1:3] == (33.99, 32.65)
    assert (psnr.rows["DC-VAE"][0], ssim.rows["DC-VAE"][0]) == (23.7, 0.65)
    assert ssim.rows["Stable Diffusion 3 VAE"] == (0.86, 0.89, 0.87, 0.93)
    best = {
        column: max(psnr.rows, key=lambda row: float(psnr.rows[row][i] or 0)) for i, column in enumerate(psnr.columns)
    }
    assert list(best.values()) == ["VIVAT", "Flux VAE", "Flux VAE", "VIVAT"]
    assert psnr.rows.keys() == ssim.rows.keys()
    assert PAPER.tables["2"].rows["EMA decay"] == (0.9999,)
    assert PAPER.tables["3"].rows == {"kl": (1e-4,), "l2": (1.0,), "adversarial": (0.01,), "perceptual": (0.1,)}
    assert PAPER.tables["4"].rows["beta 2"] == (0.95,)


def test_unknown_papers_are_refused_where_they_are_named(write_study: Write) -> None:
    with pytest.raises(ValueError, match=r"unknown paper 'vivatt'; did you mean 'vivat'\? \(valid: .*vivat"):
        papers.load("vivatt")
    with pytest.raises(StudyError) as error:
        load_study(write_study(("study: tiny", "study: tiny\npaper: vivatt")))
    assert [(p.line, p.column) for p in error.value.problems] == [(2, 8)]
    assert "unknown paper 'vivatt'; did you mean 'vivat'?" in str(error.value)
    assert load_study(write_study(("study: tiny", "study: tiny\npaper: vivat"))).paper == "vivat"


# tables


@pytest.fixture
def table(study: Study, tmp_path: Path) -> Table:
    store = Store(tmp_path / "store")
    fill(study, store, {**PSNR, "perceptual=1": [25.0, -math.inf, -math.inf]})
    return build_table(study, expand(study), store, paper="vivat")


def test_json_has_a_row_per_claim(table: Table) -> None:
    rows = json.loads(json.dumps(table.json(), allow_nan=False))["claims"]
    assert [row["id"] for row in rows] == [one.id for one in PAPER.claims]
    keys = {"id", "text", "verdict", "estimate", "low", "high", "n", "metric", "contrast", "source", "reason"}
    assert all(keys <= row.keys() for row in rows)
    first = rows[0]
    assert first["contrast"] == {"A": {"loss.adversarial": 0.01}, "B": {"loss.adversarial": 0.0}}
    assert (first["verdict"], first["estimate"], first["direction"]) == ("not observed", None, "A above B")


def test_a_study_without_a_paper_has_no_claims(study: Study, tmp_path: Path) -> None:
    table = build_table(study, expand(study), Store(tmp_path / "store"))
    assert table.json()["claims"] == []
    assert "Claims" not in table.markdown() + table.latex()
    with pytest.raises(ValueError, match="unknown paper 'none'"):
        build_table(study, expand(study), Store(tmp_path / "store"), paper="none")


def sample(study: Study, folder: Path) -> tuple[Paper, list[tuple[Claim, Judgement]]]:
    """Claims of every verdict, one with a published figure."""
    claims = (
        claim({}, {"loss.kl": 1}, id="K1", published=3.5),
        claim({"loss.kl": 1}, {"loss.kl": 0.01}, id="K2", said_by="us"),
        claim({"loss.kl": 0.01}, {}, "A below B", id="K3", metric="ssim"),
        claim({"loss.kl": 1, "norm": "scn"}, {"loss.kl": 1, "norm": "group"}, id="N_1", metric="grid/comb_db"),
    )
    return Paper("R&D", "Müller et al., 50 % done", {}, claims), [(c, judged(study, folder, PSNR, c)) for c in claims]


def test_markdown_shows_contrast_estimate_and_verdict(study: Study, tmp_path: Path) -> None:
    lines = markdown(arrange_claims(study, *sample(study, tmp_path))).splitlines()
    assert lines[0] == "tiny: Claims of R&D (Müller et al., 50 % done)"
    rows = [line for line in lines if line.startswith("|")]
    assert len({len(row) for row in rows}) == 1
    cells = [[" ".join(cell.split()) for cell in row.strip("|").split("|")] for row in rows]
    assert cells[0] == ["claim", "metric", "higher or lower", "published Δ", "Δ [95 % CI]", "n", "verdict"]
    assert cells[2] == ["K1", "psnr (dB)", "baseline > kl 1", "+3.50", "+3.97 [+3.59, +4.35]", "3", "reproduced"]
    assert cells[3][0] == "K2 (ours)"
    assert cells[3][2:4] == ["kl 1 > 0.01", "–"]
    assert cells[3][-1] == "opposite"
    assert cells[4][2:] == ["kl 0.01 < baseline", "–", "–", "0", "inconclusive"]
    assert cells[5][2:] == ["norm scn > group (kl 1)", "–", "–", "0", "not observed"]
    assert any(line.startswith("N_1: no probe of the study reports grid/comb_db; no treatment has") for line in lines)
    assert "The best mean" not in "\n".join(lines)
    hidden = arrange_claims(study, sample(study, tmp_path)[0], sample(study, tmp_path)[1][1:])
    assert "published" not in markdown(hidden)


def test_contrasts_name_what_differs() -> None:
    two = claim({"loss.kl": 1, "norm": "scn"}, {"loss.kl": 0.1, "norm": "group"})
    assert [str(getattr(piece, "value", piece)) for piece in contrast(two).pieces] == (
        ["kl ", "1", ", norm ", "scn", " > ", "kl ", "0.1", ", norm ", "group"]
    )


def test_latex_of_claims_compiles(study: Study, table: Table, tmp_path: Path) -> None:
    tex = latex(arrange_claims(study, *sample(study, tmp_path)))
    lint(tex)
    assert r"\label{tab:tiny-claims}" in tex
    assert r"$10^{-2}$" in tex
    text, log = compiled(tex, tmp_path)
    assert "Overfull" not in log
    for words in [
        "Claims of R&D (M",
        "held against study tiny",
        "kl 1 > 10",
        "reproduced",
        "+3.97",
    ]:
        assert words in text
    both = table.latex()
    assert both.count(r"\begin{table}") == 2
    text, log = compiled(both, tmp_path)
    assert "Overfull" not in log
    assert "Table 2: Claims of VIVAT" in text
    assert "not observed" in text


def test_the_command_refuses_an_unknown_paper(write_study: Write, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "ablate.cli", "table", str(write_study()), "--store", str(tmp_path), "--paper"]
    wrong = subprocess.run([*command, "vivvat"], capture_output=True, text=True, check=False)
    assert wrong.returncode == 2
    assert "did you mean 'vivat'?" in " ".join(wrong.stderr.replace("│", " ").split())
    right = subprocess.run([*command, "vivat", "--json"], capture_output=True, text=True, check=True)
    assert [row["id"] for row in json.loads(right.stdout)["claims"]] == [one.id for one in PAPER.claims]
