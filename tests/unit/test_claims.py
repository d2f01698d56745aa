"""Claims: the rule of the verdicts against planted truth and SciPy, how contexts are found, their table."""

import itertools
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from ablate.adaptive.recall import plan_study
from ablate.analysis.papers import Paper
from ablate.analysis.papers.vivat import PAPER
from ablate.analysis.records.frame import tidy
from ablate.analysis.statistics.claims import Claim, Direction, Extreme, Judgement, Named, decide, judge
from ablate.analysis.statistics.effects import Change, paired
from ablate.analysis.tables.build import build_table
from ablate.analysis.tables.claims import PAGE_ROWS, arrange_claims, contrast, pages
from ablate.analysis.tables.table import Table
from ablate.analysis.typeset.latex import latex
from ablate.analysis.typeset.markdown import markdown
from ablate.identity import signature
from ablate.plan.treatments import treatments
from ablate.plan.trials import expand
from ablate.store.folders import Store
from ablate.study.study import Study, load_study
from tests.support.command import ablate, document
from tests.support.finished import finish
from tests.support.studies import Write
from tests.support.typeset import compiled, lint

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
        if not math.isnan(value):
            finish(store, trial, {"psnr": value}, status)


def judgements(study: Study, folder: Path, results: Results, *claims: Claim) -> list[tuple[Claim, Judgement]]:
    """What records with these results say, in a store of their own."""
    store = Store(folder / signature(str(results)))
    fill(study, store, results)
    return judge(claims, study, treatments(study), tidy(expand(study), store))


def judged(study: Study, folder: Path, results: Results, what: Claim) -> Judgement:
    """The verdict on a claim that these results know one context of."""
    [(_, found)] = judgements(study, folder, results, what)
    return found


TREND = {"loss.kl": Extreme.MOST}, {"loss.kl": Extreme.LEAST}


@pytest.mark.parametrize(
    ("middle", "verdict"),
    [
        ([22.0, 22.5, 23.0], "reproduced"),
        ([24.5, 24.4, 25.6], "inconclusive"),
        ([26.0, 26.5, 27.2], "opposite"),
        ([math.nan, math.nan, math.nan], "inconclusive"),
    ],
)
def test_a_trend_is_a_claim_about_every_step(study: Study, tmp_path: Path, middle: list[float], verdict: str) -> None:
    """The ends are 24 to 25 dB at 1e-4 and 20 to 21 dB at 1; the middle is at 1e-2."""
    results = {**PSNR, "kl=0.01": middle}
    ends = claim(*TREND, direction="A below B")
    [(_, plain)] = judgements(study, tmp_path, results, ends)
    [(_, found)] = judgements(study, tmp_path, results, claim(*TREND, direction="A below B", along="loss.kl"))
    assert plain.verdict == "reproduced" and found.verdict == verdict
    assert (found.estimate, found.low, found.high) == (plain.estimate, plain.low, plain.high)
    rise = np.subtract(middle, PSNR["baseline"])
    low, high = stats.t.interval(0.95, 2, rise.mean(), rise.std(ddof=1) / math.sqrt(3))
    other_way = f"from loss.kl 0.0001 to 0.01 it goes the other way, {rise.mean():+.3g} [{low:+.3g}, {high:+.3g}]"
    no_pair = "; ".join(f"from loss.kl {step} there is no pair of seeds" for step in ("0.0001 to 0.01", "0.01 to 1"))
    assert found.reason == {"reproduced": ""}.get(verdict, no_pair if np.isnan(rise).any() else other_way)


def test_a_trend_whose_ends_are_not_as_claimed_has_their_verdict(study: Study, tmp_path: Path) -> None:
    [(_, found)] = judgements(study, tmp_path, PSNR, claim(*TREND, direction="A above B", along="loss.kl"))
    assert found.verdict == "opposite" and not found.reason
    trend = claim({"loss.kl": 1}, {"loss.kl": 0.0001}, direction="A below B", along="loss.kl")
    text = "".join(str(getattr(piece, "value", piece)) for piece in contrast(trend, {}).pieces)
    assert " < … < " in text


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


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (0.0, 0.0, "reproduced"),
        (-0.04, 0.03, "reproduced"),
        (0.01, 0.04, "reproduced"),
        (-0.04, 0.06, "inconclusive"),
        (0.04, 0.06, "inconclusive"),
        (-9.0, 9.0, "inconclusive"),
        (0.06, 0.07, "opposite"),
        (-0.07, -0.06, "opposite"),
        (math.nan, math.nan, "inconclusive"),
    ],
)
def test_equality_is_judged_by_the_margin(low: float, high: float, verdict: str) -> None:
    change = Change(3, (low + high) / 2, 0.1, low, high, 0.5)
    assert decide("A equals B", change, 0.05) == verdict


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


def grid(write_study: Write, factors: str, *others: tuple[str, str]) -> Study:
    return load_study(
        write_study(("loss.kl: [1, 1e-4]", f"{factors}\ndesign: grid"), ("seeds: 2", "seeds: 3"), *others)
    )


def distinct(study: Study) -> Results:
    """A result of its own for each treatment and seed, so that a difference tells which two were compared."""
    rng = np.random.default_rng(5)
    return {treatment.label: rng.normal(20, 1, 3).tolist() for treatment in treatments(study)}


def test_a_claim_is_judged_in_every_context_of_a_grid(write_study: Write, tmp_path: Path) -> None:
    study = grid(write_study, "loss.kl: [1e-4, 1, 1e-2]\n  padding: [reflect, zeros, circular]\n  loss.l1: [0, 1]")
    results, every = distinct(study), treatments(study)
    found = judgements(study, tmp_path, results, claim({"padding": "zeros"}, {"padding": "circular"}))
    truth = {}
    for t, u in itertools.product(every, every):
        rest = {path for path in t.levels if t.levels[path] != u.levels[path]}
        if rest == {"padding"} and (t.levels["padding"], u.levels["padding"]) == ("zeros", "circular"):
            given = {path: level for path, level in t.changed.items() if path != "padding"}
            truth[str(given)] = float(np.mean(np.subtract(results[t.label], results[u.label])))
    assert {str(verdict.given): verdict.estimate for _, verdict in found} == pytest.approx(truth)
    assert len(found) == len(truth) == 6
    assert found[0][1].given == {}
    assert found[1][1].given == {"loss.l1": 1.0}


def test_levels_that_a_claim_names_are_no_context(write_study: Write, tmp_path: Path) -> None:
    study = grid(write_study, "loss.kl: [1e-4, 1]\n  padding: [reflect, zeros]\n  loss.l1: [0, 1]")
    results = distinct(study)
    both = claim({"padding": "zeros", "loss.kl": 1}, {"padding": "reflect", "loss.kl": 1})
    found = judgements(study, tmp_path, results, both)
    assert [verdict.given for _, verdict in found] == [{}, {"loss.l1": 1.0}]
    expected = np.subtract(results["kl=1 padding=zeros"], results["kl=1"]).mean()
    assert found[0][1].estimate == pytest.approx(expected)
    one_sided = claim({"padding": "zeros"}, {"loss.kl": 1}), claim({"loss.kl": 1}, {})
    assert [verdict.given for _, verdict in judgements(study, tmp_path, results, *one_sided)] == [
        {}, {"loss.l1": 1.0},
        {}, {"loss.l1": 1.0}, {"padding": "zeros"}, {"padding": "zeros", "loss.l1": 1.0},
    ]  # fmt: skip


def test_a_context_needs_both_sides(write_study: Write, tmp_path: Path) -> None:
    """The baseline has no partner; two treatments that are far from it have each other."""
    listed = ["kl: 1, norm.groups: 2", "kl: 1, norm.groups: 2, padding: zeros", "kl: 1, padding: circular"]
    rows = "".join(f"\n  - {{loss.{row}}}" for row in listed)
    study = load_study(write_study(("factors:\n  loss.kl: [1, 1e-4]", f"design: list\ntreatments:{rows}")))
    results = distinct(study)
    _, bare, padded, _ = results
    found = judged(study, tmp_path, results, claim({"padding": "zeros"}, {"padding": "reflect"}))
    assert found.given == {"loss.kl": 1.0, "norm.groups": 2}
    assert found.estimate == pytest.approx(np.subtract(results[padded][:2], results[bare][:2]).mean())
    for other in ({"padding": "circular"}, {"loss.kl": 1e-4}):
        apart = judged(study, tmp_path, results, claim({"padding": "zeros"}, other))
        words = ", ".join(f"{path} {level}" for path, level in other.items())
        assert apart.reason == f"the treatments with padding zeros and with {words} differ in more than that"


def test_contexts_that_train_alike_are_one(write_study: Write, tmp_path: Path) -> None:
    """A discriminator without its loss term is as good as none, whatever its width."""
    factors = "loss.kl: [1e-4, 1]\n  discriminator.width: [64, 8]\n  loss.adversarial: [0, 0.1]"
    study = grid(write_study, factors, ("crop: 16", "crop: 32"))
    found = judgements(study, tmp_path, distinct(study), claim({"loss.kl": 1}, {"loss.kl": 1e-4}))
    assert [verdict.given for _, verdict in found] == [
        {}, {"loss.adversarial": 0.1}, {"discriminator.width": 8, "loss.adversarial": 0.1}
    ]  # fmt: skip


def test_a_diverged_context_does_not_hide_the_others(write_study: Write, tmp_path: Path) -> None:
    study = grid(write_study, "loss.kl: [1e-4, 1]\n  padding: [reflect, zeros]")
    results = {**distinct(study), "padding=zeros": [-math.inf] * 3}
    found = [verdict for _, verdict in judgements(study, tmp_path, results, claim({"loss.kl": 1}, {}))]
    assert [(verdict.verdict == "not observed", verdict.given) for verdict in found] == [
        (False, {}), (True, {"padding": "zeros"})
    ]  # fmt: skip
    assert found[1].reason == "3 of 3 trials of 'padding=zeros' diverged"


def test_extremes_are_those_of_the_study(write_study: Write, tmp_path: Path) -> None:
    study = grid(write_study, "stages.train.steps: [6, 3, 9]\n  padding: [reflect, zeros]")
    results = distinct(study)
    path = "stages.train.steps"
    trend = claim({path: Extreme.MOST}, {path: Extreme.LEAST})
    found = judgements(study, tmp_path, results, trend)
    assert all((exact.a, exact.b) == ({path: 9}, {path: 3}) for exact, _ in found)
    assert [verdict.given for _, verdict in found] == [{}, {"padding": "zeros"}]
    assert found[0][1].estimate == pytest.approx(np.subtract(results["steps=9"], results["steps=3"]).mean())
    elsewhere = judged(study, tmp_path, results, claim({"stages.tune.steps": Extreme.MOST}, {}))
    assert elsewhere.reason == "no treatment has stages.tune.steps most"


def test_a_named_level_has_the_settings_of_the_study(write_study: Write, tmp_path: Path) -> None:
    """If there is one such level."""
    named = claim({"norm": Named("scn")}, {"norm": "group"})
    study = grid(write_study, "norm: [group, {level: scn, groups: 2}]")
    [(exact, found)] = judgements(study, tmp_path, distinct(study), named)
    assert exact.a == {"norm": {"level": "scn", "groups": 2}} and not found.lacks
    several = grid(write_study, "norm: [group, {level: scn, groups: 2}, {level: scn, groups: 1}]")
    [(exact, found)] = judgements(several, tmp_path, distinct(several), named)
    assert exact.a == {"norm": "scn"} and found.reason == "no treatment has norm scn"


@pytest.fixture
def table(study: Study, tmp_path: Path) -> Table:
    store = Store(tmp_path / "store")
    fill(study, store, {**PSNR, "perceptual=1": [25.0, -math.inf, -math.inf]})
    return build_table(plan_study(study, store), paper="vivat")


def test_json_has_a_row_per_claim_and_context(table: Table, write_study: Write, tmp_path: Path) -> None:
    rows = json.loads(json.dumps(table.json(), allow_nan=False))["claims"]
    assert [row["id"] for row in rows] == [one.id for one in PAPER.claims]
    keys = {"id", "text", "verdict", "estimate", "low", "high", "n", "metric", "contrast", "source", "reason", "given"}
    assert all(keys <= row.keys() for row in rows)
    first = rows[0]
    assert first["contrast"] == {"A": {"loss.adversarial": 0.01}, "B": {"loss.adversarial": 0.0}}
    assert (first["verdict"], first["estimate"], first["direction"]) == ("not observed", None, "A above B")
    study = grid(write_study, "loss.kl: [1e-4, 1e-3]\n  norm: [group, {level: scn, groups: 2}]")
    rows = build_table(plan_study(study, Store(tmp_path / "store")), paper="vivat").json()["claims"]
    assert [row["given"] for row in rows if row["id"] == "C1c"] == [{}, {"norm": {"level": "scn", "groups": 2}}]


def test_a_study_without_a_paper_has_no_claims(study: Study, tmp_path: Path) -> None:
    table = build_table(plan_study(study, Store(tmp_path / "store")))
    assert table.json()["claims"] == []
    assert "Claims" not in table.markdown() + table.latex()
    with pytest.raises(ValueError, match="unknown paper 'none'"):
        build_table(plan_study(study, Store(tmp_path / "store")), paper="none")


def sample(study: Study, folder: Path) -> tuple[Paper, list[tuple[Claim, Judgement]]]:
    """Claims of every verdict, one with a published figure, one in two contexts, two that are not in the study."""
    claims = (
        claim({}, {"loss.kl": 1}, id="K1", published=3.5),
        claim({"loss.kl": 1}, {"loss.kl": 0.01}, id="K2", said_by="us"),
        claim({"loss.kl": 0.01}, {}, "A below B", id="K3", metric="ssim"),
        claim({"loss.kl": 1, "norm": "scn"}, {"loss.kl": 1, "norm": "group"}, id="N_1", metric="grid/comb_db"),
        claim({"loss.kl": 1, "norm": "scn"}, {"loss.kl": 1, "norm": "group"}, id="N2", metric="grid/comb_db"),
    )
    found = judgements(study, folder, PSNR, *claims)
    found[1:1] = [(claims[0], Judgement("inconclusive", 1.0, -1.0, 3.0, 3, given={"padding": "zeros"}))]
    return Paper("R&D", "Müller et al., 50 % done", {}, claims), found


def cells(text: str) -> list[list[str]]:
    """The rows of a Markdown table, the rule below its head left out."""
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len({len(row) for row in rows}) == 1
    found = [[" ".join(cell.split()) for cell in row.strip("|").split("|")] for row in rows]
    return [found[0], *found[2:]]


def test_markdown_shows_contrast_estimate_and_verdict(study: Study, tmp_path: Path) -> None:
    paper, verdicts = sample(study, tmp_path)
    text = markdown(arrange_claims(study, paper, verdicts))
    assert text.startswith("tiny: Claims of R&D (Müller et al., 50 % done)\n")
    assert cells(text) == [
        ["claim", "metric", "higher or lower", "published Δ", "Δ [95 % CI]", "n", "verdict"],
        ["K1", "psnr (dB)", "baseline > kl 1", "+3.50", "+3.97 [+3.59, +4.35]", "3", "reproduced"],
        ["K1", "psnr (dB)", "baseline > kl 1 (padding zeros)", "+3.50", "+1.00 [−1.00, +3.00]", "3", "inconclusive"],
        ["K2 (ours)", "psnr (dB)", "kl 1 > 0.01", "–", "−3.73 [−5.33, −2.14]", "3", "opposite"],
        ["K3", "ssim", "kl 0.01 < baseline", "–", "–", "0", "inconclusive"],
    ]
    assert text.splitlines()[-1].endswith(": N_1, N2 (loss.kl, norm).")
    reason = "no probe of the study reports grid/comb_db; no treatment has loss.kl 1, norm scn"
    assert verdicts[-1][1].reason == reason
    assert "The best mean" not in text
    assert "published" not in markdown(arrange_claims(study, paper, verdicts[2:]))


def test_what_a_study_lacks_is_said_in_one_note(study: Study, table: Table, tmp_path: Path) -> None:
    gone = {**PSNR, "kl=1": [-math.inf] * 3}
    claims = [
        claim({}, {"loss.kl": 1}, id="K1"),
        claim({}, {"loss.kl": 2}, id="K2"),
        claim({}, {"loss.kl": 0.01}, id="K3", metric="grid/comb_db"),
        claim({"loss.kl": 3, "norm": "scn"}, {"norm": "scn"}, id="K4", metric="grid/comb_db"),
        claim({"loss.kl": 3}, {}, id="K5"),
    ]
    paper = Paper("P", "2025", {}, tuple(claims))
    text = markdown(arrange_claims(study, paper, judgements(study, tmp_path, gone, *claims)))
    assert [(row[0], row[-1]) for row in cells(text)[1:]] == [("K1", "not observed")]
    assert "K1: 3 of 3 trials of 'kl=1' diverged." in text.splitlines()
    assert text.splitlines()[-1].endswith(": K2, K5 (loss.kl); K3 (grid/comb_db); K4 (loss.kl, norm).")
    _, nothing = table.markdown().split("tiny: Claims")
    assert [row[0] for row in cells(nothing)] == ["claim", "none"]
    assert nothing.count("Not observed here") == 1
    assert all(one.id in nothing for one in PAPER.claims)


def test_contrasts_name_what_differs() -> None:
    def words(what: Claim, given: Mapping[str, Any]) -> tuple[list[str], list[str]]:
        phrase = contrast(what, given)
        pieces, remark = (
            [str(getattr(piece, "value", piece)) for piece in side] for side in (phrase.pieces, phrase.remark)
        )
        return pieces, remark

    two = claim({"loss.kl": 1, "norm": "scn"}, {"loss.kl": 0.1, "norm": "group"})
    assert words(two, {}) == (["kl ", "1", ", norm ", "scn", " > ", "kl ", "0.1", ", norm ", "group"], [])
    steps = claim({"stages.tune.steps": 5, "norm": "scn"}, {"stages.tune.steps": 0, "norm": "scn"}, "A below B")
    assert words(steps, {"loss.kl": 1}) == (["tune.steps ", "5", " < ", "0"], ["norm ", "scn", ", kl ", "1"])
    equal = claim({"loss.kl": 1}, {"loss.kl": 0.1}, "A equals B", margin=0.05)
    assert words(equal, {"padding": "zeros"}) == (
        ["kl ", "1", " = ", "0.1"], ["within ", "0.05", ", padding ", "zeros"]
    )  # fmt: skip


def test_latex_of_claims_compiles(study: Study, table: Table, tmp_path: Path) -> None:
    tex = latex(arrange_claims(study, *sample(study, tmp_path)))
    lint(tex)
    assert r"\label{tab:tiny-claims}" in tex
    assert r"$10^{-2}$" in tex
    text, log = compiled(tex, tmp_path)
    assert "Overfull" not in log
    for words in [
        "Claims of R&D (M",
        "judged by study tiny",
        "kl 1 > 10",
        "(padding zeros)",
        "reproduced",
        "+3.97",
    ]:
        assert words in text
    both = table.latex()
    assert both.count(r"\begin{table}") == 2
    text, log = compiled(both, tmp_path)
    assert "Overfull" not in log
    assert "Table 2: Claims of VIVAT" in text
    assert "Not observed here" in text


def test_the_command_refuses_an_unknown_paper(write_study: Write, tmp_path: Path) -> None:
    command = ("table", write_study(), "--store", tmp_path, "--paper")
    wrong = ablate(*command, "vivvat")
    assert wrong.returncode == 2
    assert "did you mean 'vivat'?" in " ".join(wrong.stderr.replace("│", " ").split())
    right = document(*command, "vivat")
    assert [row["id"] for row in right["claims"]] == [one.id for one in PAPER.claims]


def test_a_long_table_of_claims_fits_its_pages(study: Study, tmp_path: Path) -> None:
    claim = next(one for one in PAPER.claims if one.metric == "psnr")
    verdicts = [(claim, Judgement("reproduced", 1.0, 0.5, 1.5, 3)) for _ in range(2 * PAGE_ROWS + 5)]
    layout = arrange_claims(study, PAPER, verdicts)
    parts = pages(layout)
    assert [len(part.groups[0].rows) for part in parts] == [PAGE_ROWS, PAGE_ROWS, 5]
    assert sum((part.groups[0].rows for part in parts), ()) == layout.groups[0].rows
    assert len({part.label for part in parts}) == 3
    assert parts[0].notes == layout.notes and "continued" in str(parts[2].notes)
    text, log = compiled("\n".join(map(latex, parts)), tmp_path)
    assert "too large" not in log and text.count("reproduced") >= len(verdicts)
    assert pages(parts[2]) == [parts[2]]
