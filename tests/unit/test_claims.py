"""Claims: the rule of the verdicts against planted truth and SciPy, and how contexts are found."""

import itertools
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from ablate.analysis.statistics.claims import Claim, Direction, Extreme, Named, Requirement
from ablate.analysis.statistics.effects import Change, paired
from ablate.analysis.statistics.findings import Judgement
from ablate.analysis.statistics.judgements import decide
from ablate.plan.treatments import treatments
from ablate.study.study import Study, load_study
from tests.support.claims import Results, claim, findings
from tests.support.studies import Write

FACTORS = "loss.kl: [1, 0.0001, 1e-2]\n  loss.perceptual: [0, 1]\n  norm: [group, {level: scn, groups: 2}]"


FEATURES = "kl: 1e-4, perceptual: {weight: 0, backbone: random_features}}"


PSNR: Results = {"baseline": [24.0, 24.5, 25.1], "kl=1": [20.0, 20.7, 21.0], "kl=0.01": [23.0, 24.9, 25.0]}


@pytest.fixture
def study(write_study: Write) -> Study:
    return load_study(write_study(("loss.kl: [1, 1e-4]", FACTORS), ("kl: 1e-4}", FEATURES), ("seeds: 2", "seeds: 3")))


def judgements(study: Study, folder: Path, results: Results, *claims: Claim) -> list[tuple[Claim, Judgement]]:
    """A judgement per claim and context, or the one that says why there is none."""
    found = findings(study, folder, results, *claims)
    return [(one.claim, judgement) for one in found for judgement in one.contexts or (one.overall,)]


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


def test_the_steps_of_a_trend_are_corrected_where_results_decide_how_many_seeds_there_are(
    write_study: Write, tmp_path: Path
) -> None:
    """A rise in the middle that three fixed seeds call clear, but not the first of several analyses."""
    results = {**PSNR, "kl=0.01": [24.7, 25.5, 26.45]}
    trend = claim(*TREND, direction="A below B", along="loss.kl")
    found = []
    for seeds in ("seeds: 3", "seeds: {from: 3, to: 8}"):
        path = write_study(("loss.kl: [1, 1e-4]", FACTORS), ("seeds: 2", seeds), ("kl: 1e-4}", FEATURES))
        found += [one.verdict for _, one in judgements(load_study(path), tmp_path, results, trend)]
    assert found == ["opposite", "inconclusive"]


def test_a_trend_whose_ends_are_not_as_claimed_has_their_verdict(study: Study, tmp_path: Path) -> None:
    [(_, found)] = judgements(study, tmp_path, PSNR, claim(*TREND, direction="A above B", along="loss.kl"))
    assert found.verdict == "opposite" and not found.reason


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
    some = {**PSNR, "kl=1": [20.0, -math.inf, 20.55]}
    found = judged(study, tmp_path, some, claim({}, {"loss.kl": 1}))
    assert (found.verdict, found.n, found.reason) == ("inconclusive", 2, "1 of 3 trials of 'kl=1' diverged")
    assert found.low > 0, "the survivors alone would decide"
    crashed = {**some, "baseline": [24.0, math.inf, 24.1]}
    found = judged(study, tmp_path, crashed, claim({}, {"loss.kl": 1}))
    assert found.verdict == "inconclusive"
    assert found.reason == "1 of 3 trials of 'baseline' failed; 1 of 3 trials of 'kl=1' diverged"
    between = {**PSNR, "kl=0.01": [22.0, -math.inf, 23.0]}
    trend = claim(*TREND, direction="A below B", along="loss.kl")
    [(_, found)] = judgements(study, tmp_path, between, trend)
    assert (found.verdict, found.reason) == ("inconclusive", "1 of 3 trials of 'kl=0.01' diverged")


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


WITH_COLOR = ("probes: [reconstruction]", "probes: [reconstruction, color, spectrum]")


def colored(write_study: Write, *others: tuple[str, str]) -> Study:
    return load_study(write_study(WITH_COLOR, ("seeds: 2", "seeds: 3"), *others))


SHIFT: Results = {"baseline": [3.0, 3.2, 3.1], "kl=1": [0.2, 0.4, 0.3]}
"""A shift of about 3 gl in the baseline and of 0.3 gl with a KL weight of 1."""


@pytest.mark.parametrize(
    ("required", "reason"),
    [
        (Requirement("color/bias_norm"), ""),
        (Requirement("color/bias_norm", "B", at_least=3.0), ""),
        (Requirement("color/bias_norm", {"loss.kl": 1e-4}, at_most=3.2), ""),
        (Requirement("color/bias_norm", "A"), "0.30 with loss.kl 1, below 1"),
        (Requirement("color/bias_norm", {"loss.kl": 1}, at_least=0.31), "0.30 with loss.kl 1, below 0.31"),
        (Requirement("color/bias_norm", "B", at_most=3.0), "3.10 with the baseline's levels, above 3"),
    ],
)
def test_a_claim_is_judged_only_where_its_requirement_is_met(
    write_study: Write, tmp_path: Path, required: Requirement, reason: str
) -> None:
    study = colored(write_study)
    what = claim({"loss.kl": 1}, {}, "A below B", requires=(required,))
    [found] = findings(study, tmp_path, PSNR, what, more={"color/bias_norm": SHIFT})
    verdict = "not observed" if reason else "reproduced"
    assert (found.overall.verdict, found.overall.lacks) == (verdict, ())
    assert found.overall.reason == (
        f"color/bias_norm is {reason}: what the claim is about is not there" if reason else ""
    )


def test_a_study_sets_what_is_there_by_its_smallest_effect_of_interest(write_study: Write, tmp_path: Path) -> None:
    study = colored(write_study, ("primary: psnr", "primary: psnr\ninterest: {color/bias_norm: 4}"))
    what = claim({"loss.kl": 1}, {}, "A below B", requires=(Requirement("color/bias_norm"),))
    [found] = findings(study, tmp_path, PSNR, what, more={"color/bias_norm": SHIFT})
    assert found.overall.verdict == "not observed" and "below 4" in found.overall.reason


def test_what_a_requirement_needs_is_named_where_it_is_missing(study: Study, tmp_path: Path) -> None:
    probe = claim({"loss.kl": 1}, {}, requires=(Requirement("droplet/incidence", at_least=0.2),))
    [found] = findings(study, tmp_path, PSNR, probe)
    assert (found.overall.reason, found.overall.lacks) == (
        "no probe of the study reports droplet/incidence", ("droplet/incidence",)
    )  # fmt: skip
    arm = claim({"loss.kl": 1}, {}, requires=(Requirement("psnr", {"padding": "zeros"}, at_least=0.2),))
    [found] = findings(study, tmp_path, PSNR, arm)
    assert (found.overall.reason, found.overall.lacks) == ("no treatment has padding zeros", ("loss.kl", "padding"))


def test_claims_about_one_treatment(write_study: Write, tmp_path: Path) -> None:
    """Held against a number, by SciPy's one-sample test, and against another metric of its own."""
    study = colored(write_study)
    tail: Results = {"baseline": [-4.0, -4.3, -4.1], "kl=1": [-3.0, -3.2, -3.1]}
    pictures: Results = {"baseline": [-4.4, -4.4, -4.4], "kl=1": [-4.4, -4.4, -4.4]}
    more = {"color/bias_norm": SHIFT, "spec/hf_tail": tail, "spec/hf_tail_rgb": pictures}
    claims = [
        claim({"loss.kl": 1}, 0.0, "A equals B", metric="color/bias_norm"),
        claim({"loss.kl": 1}, 0.0, "A equals B", metric="color/bias_norm", margin=0.2),
        claim({}, 0.0, "A equals B", metric="color/bias_norm"),
        claim({}, 1.0, metric="color/bias_norm"),
        claim({"loss.kl": 1}, {"loss.kl": 1}, metric="spec/hf_tail", against="spec/hf_tail_rgb"),
        claim({"loss.kl": 1}, {"loss.kl": 1}, "A differs from B", metric="spec/hf_tail", against="spec/hf_tail_rgb"),
    ]
    found = findings(study, tmp_path, PSNR, *claims, more=more)
    assert [one.overall.verdict for one in found] == [
        "reproduced", "inconclusive", "opposite", "reproduced", "reproduced", "reproduced"
    ]  # fmt: skip
    test = stats.ttest_1samp(SHIFT["baseline"], 1.0)
    low, high = test.confidence_interval(0.95)
    last = found[3].contexts[0]
    assert (last.low, last.high, last.p) == pytest.approx((low - 1, high - 1, test.pvalue))
    pair = stats.ttest_rel(tail["kl=1"], pictures["kl=1"])
    assert (found[4].overall.p, found[4].overall.estimate) == pytest.approx((pair.pvalue, 1.3))
    [every] = findings(
        study, tmp_path, PSNR, claim({}, {}, metric="spec/hf_tail", against="spec/hf_tail_rgb"), more=more
    )
    assert [one.given for one in every.contexts] == [{}, {"loss.kl": 1}]


def test_a_metric_with_a_target_is_ordered_by_its_distance_as_in_the_rows(write_study: Write, tmp_path: Path) -> None:
    study = colored(write_study)
    tint: Results = {"baseline": [-3.0, -3.2, -3.1], "kl=1": [1.0, 1.2, 1.05]}
    near = claim({"loss.kl": 1}, {}, "A below B", metric="color/db")
    yellow = claim({"loss.kl": 1}, {}, metric="color/db", of="value")
    equal = claim({"loss.kl": 1}, {}, "A equals B", metric="color/db", margin=1.9)
    distance, value, same = findings(study, tmp_path, PSNR, near, yellow, equal, more={"color/db": tint})
    assert (distance.overall.verdict, distance.overall.estimate) == ("reproduced", pytest.approx(-2.0167, abs=1e-3))
    assert (value.overall.verdict, value.overall.estimate) == ("reproduced", pytest.approx(4.1833, abs=1e-3))
    assert same.overall.verdict == "opposite", "equal distances on both sides of the target are not equal values"


def test_an_order_shown_to_be_smaller_than_the_interest_has_no_effect(study: Study, tmp_path: Path) -> None:
    """By the 90 % interval within half a decibel on either side; a clear order stays one, and says that it is small."""
    for offsets, verdict in (
        ([0.1, -0.12, 0.03], "no effect"),
        ([0.4, -0.4, 0.1], "inconclusive"),
        ([0.10, 0.11, 0.12], "reproduced"),
    ):
        results = {"baseline": [24.0, 24.5, 25.1], "kl=1": list(np.add([24.0, 24.5, 25.1], offsets))}
        found = judged(study, tmp_path, results, claim({"loss.kl": 1}, {}))
        mean = np.mean(offsets)
        low, high = stats.t.interval(0.90, 2, mean, stats.sem(offsets))
        assert (low > -0.5 and high < 0.5) == (verdict != "inconclusive")
        assert (found.verdict, found.margin) == (verdict, 0.5)
        assert found.reason == ("the difference is smaller than 0.5 dB" if verdict == "reproduced" else "")


def test_an_interval_without_width_decides_nothing_unless_the_metric_is_exact(study: Study, tmp_path: Path) -> None:
    results = {"baseline": [24.0, 24.5, 25.0], "kl=1": [23.0, 23.5, 24.0], "kl=0.01": [24.0, 24.5, 25.0]}
    for what in (
        claim({"loss.kl": 1}, {}, "A below B"),
        claim({"loss.kl": 0.01}, {}, "A below B"),
        claim({"loss.kl": 0.01}, {}, "A equals B"),
    ):
        found = judged(study, tmp_path, results, what)
        assert (found.verdict, found.low) == ("inconclusive", found.high)
        assert found.reason.startswith("every seed gives the same difference") and math.isnan(found.p)
    down = {**results, "kl=0.01": [23.9, 24.4, 24.9], "kl=1": [24.3, 24.78, 25.31]}
    trend = claim(*TREND, along="loss.kl")
    [(_, found)] = judgements(study, tmp_path, down, trend)
    assert found.verdict == "inconclusive" and "it goes the other way, -0.1 [-0.1, -0.1]" in found.reason


def test_an_exact_metric_needs_no_width(write_study: Write, tmp_path: Path) -> None:
    study = colored(write_study, ("spectrum]", "spectrum, diffusability]"), ("crop: 16", "crop: 32"))
    assert study.metrics["diff/tokens"].exact
    tokens: Results = {"baseline": [16.0] * 3, "kl=1": [64.0] * 3}
    more = {"diff/tokens": tokens}
    above, same = claim({"loss.kl": 1}, {}, metric="diff/tokens"), claim({"loss.kl": 1}, 64.0, "A equals B", margin=1.0)
    order, equal = findings(study, tmp_path, PSNR, above, replace(same, metric="diff/tokens"), more=more)
    assert (order.overall.verdict, order.overall.p) == ("reproduced", 0.0)
    assert (equal.overall.verdict, equal.overall.p) == ("reproduced", 0.0)


def test_the_verdict_on_a_claim_is_that_of_its_contexts_averaged_seed_by_seed(
    write_study: Write, tmp_path: Path
) -> None:
    """Seeds lost in one context count in none; a context without any pair, or with one side gone, is left out."""
    study = grid(write_study, "loss.kl: [1e-4, 1]\n  padding: [reflect, zeros]\n  loss.l1: [0, 1]")
    results = {label: list(values) for label, values in distinct(study).items()}
    what = claim({"loss.kl": 1}, {})

    def of(results: Mapping[str, list[float]]) -> Any:
        differences = [
            np.subtract(results[f"kl=1 {rest}".strip()], results[rest or "baseline"])
            for rest in ("", "padding=zeros", "l1=1", "padding=zeros l1=1")
        ]
        return stats.ttest_1samp(np.nanmean(differences, axis=0)[~np.isnan(differences).any(axis=0)], 0.0)

    [found] = findings(study, tmp_path, results, what)
    low, high = of(results).confidence_interval(0.95)
    assert (found.overall.low, found.overall.high, found.overall.n) == pytest.approx((low, high, 3))
    assert len(found.contexts) == 4 and found.overall.given == {}

    results["kl=1 padding=zeros"][1] = math.nan
    [found] = findings(study, tmp_path, results, what)
    assert (found.overall.p, found.overall.n) == (pytest.approx(of(results).pvalue), 2)

    gone = {**distinct(study), "padding=zeros": [-math.inf] * 3, "l1=1": [math.nan] * 3}
    [found] = findings(study, tmp_path, gone, what)
    assert [one.verdict == "not observed" for one in found.contexts].count(True) == 1
    rest = [np.subtract(gone[f"kl=1{x}"], gone[x.strip() or "baseline"]) for x in ("", " padding=zeros l1=1")]
    assert found.overall.estimate == pytest.approx(np.mean(rest))
    assert found.overall.reason == ""

    lost = {**distinct(study), "l1=1": [20.0, -math.inf, 21.0]}
    [found] = findings(study, tmp_path, lost, what)
    assert (found.overall.verdict, found.overall.reason) == ("inconclusive", "1 of 3 trials of 'l1=1' diverged")


def test_the_requirement_of_a_claim_is_met_on_average_over_its_contexts(write_study: Write, tmp_path: Path) -> None:
    study = grid(write_study, "loss.kl: [1e-4, 1]\n  padding: [reflect, zeros]", WITH_COLOR)
    results = distinct(study)
    for low, verdicts in ((0.1, ["inconclusive", "not observed"]), (-2.0, ["not observed", "not observed"])):
        shift = {label: [low if "zeros" in label else 3.0] * 3 for label in results}
        what = claim({"loss.kl": 1}, {}, requires=(Requirement("color/bias_norm"),))
        [found] = findings(study, tmp_path, results, what, more={"color/bias_norm": shift})
        seen = [found.overall.verdict, found.contexts[1].verdict]
        assert [word if word == "not observed" else "inconclusive" for word in seen] == verdicts
