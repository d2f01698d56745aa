"""Effects against closed forms, against SciPy's tests and against simulation with a fixed generator."""

import itertools
import math
import time

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from ablate.analysis.statistics.chance import bootstrap_interval, expected_best
from ablate.analysis.statistics.effects import Change, analyse, holm, paired
from ablate.analysis.statistics.paired import paired_rows
from ablate.analysis.statistics.power import detectable
from ablate.analysis.statistics.verdicts import verdict
from ablate.slots.settings import Metric
from tests.support.simulated import compare, noise_of

PSNR = Metric("psnr", "dB", "up")


FOLD = Metric("fold", "gl", "down")


BIAS = Metric("bias", "gl", "target", target=0.0)


COHERENCE = Metric("coherence", "1", "none")


def arms(*rows: list[float]) -> dict[str, dict[int, float]]:
    return {f"t{i}" if i else "baseline": dict(enumerate(row)) for i, row in enumerate(rows)}


@pytest.mark.parametrize("n", [2, 3, 5, 20])
def test_interval_and_p_are_those_of_the_paired_t_test(n: int) -> None:
    rng = np.random.default_rng(n)
    for _ in range(20):
        a, b = rng.normal(20, 3, n), rng.normal(21, 3, n)
        found, truth = paired(a, b), stats.ttest_rel(a, b)
        low, high = truth.confidence_interval(0.95)
        assert found.n == n
        assert found.mean == pytest.approx((a - b).mean())
        assert found.sd == pytest.approx(np.std(a - b, ddof=1))
        assert (found.low, found.high, found.p) == pytest.approx((low, high, truth.pvalue), rel=1e-9)


@pytest.mark.parametrize("n", [3, 5, 10])
def test_intervals_of_few_seeds_cover_the_truth_as_often_as_they_say(n: int) -> None:
    rng = np.random.default_rng(n)
    common, noise = rng.normal(0, 2, (1000, n)), rng.normal(0, 1, (2, 1000, n))
    found = [paired(a, b) for a, b in zip(common + 0.5 + noise[0], common + noise[1], strict=True)]
    assert 0.93 <= np.mean([change.low <= 0.5 <= change.high for change in found]) <= 0.97


def test_a_difference_without_spread_has_an_interval_without_width() -> None:
    found = paired([20.1, 21.1, 22.1], [20.0, 21.0, 22.0])
    assert found.sd == 0
    assert found.low == found.mean == found.high == pytest.approx(0.1)
    assert found.constant and math.isnan(found.p), "equal differences say nothing about chance"
    assert paired([1.0, 2.0], [1.0, 2.0]) == Change(2, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0)


def test_differences_by_rounding_alone_are_none() -> None:
    found = paired([0.1 + 0.2, 1.0], [0.3, 1.0])
    assert (found.mean, found.sd, found.p) == (0.0, 0.0, 1.0)


def test_one_pair_or_an_infinite_value_has_no_interval() -> None:
    assert paired([], []).n == 0
    assert paired([2.0], [1.0]).mean == 1.0
    assert math.isnan(paired([2.0], [1.0]).low)
    infinite = paired([math.inf, 1.0], [1.0, 1.0])
    assert infinite.mean == math.inf
    assert math.isnan(infinite.p)
    assert math.isnan(paired([math.inf, 1.0], [math.inf, 1.0]).mean)


def test_holm_by_hand() -> None:
    # sorted .005 .01 .03 .04, times 4 3 2 1: .02 .03 .06 .04, never falling: .02 .03 .06 .06
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []


def test_holm_is_the_closed_test_of_bonferroni() -> None:
    """Adjusted p = the largest Bonferroni p of all sets of hypotheses with it (Marcus, Peritz, Gabriel 1976)."""
    for p in np.random.default_rng(3).uniform(0, 0.3, (20, 5)).tolist():
        sets = [s for size in range(1, 6) for s in itertools.combinations(range(5), size)]
        truth = [max(min(1.0, len(s) * min(p[j] for j in s)) for s in sets if i in s) for i in range(5)]
        assert holm(p) == pytest.approx(truth)


@pytest.mark.parametrize(("p", "seed"), [(5, 0), (40, 1)])
def test_holm_is_that_of_statsmodels(p: int, seed: int) -> None:
    values = np.random.default_rng(seed).beta(0.3, 1, p)
    assert holm(values.tolist()) == pytest.approx(multipletests(values, method="holm")[1], rel=1e-8)


def test_ten_treatments_without_effect_win_in_one_study_of_twenty_at_most() -> None:
    rng = np.random.default_rng(11)
    values = rng.normal(0, 1, (1000, 11, 3)) + rng.normal(0, 2, (1000, 1, 3))
    found = [compare(PSNR, arms(*study.tolist()), primary=True) for study in values]
    wrong = np.mean([any(effect.clear for effect in effects.values()) for effects in found])
    assert 0 < wrong <= 0.05


@pytest.mark.parametrize(("effect", "n"), [(0.0, 3), (0.5, 3), (1.0, 5), (0.2, 10)])
def test_a_verdict_is_wrong_in_one_of_forty_studies_at_most(effect: float, n: int) -> None:
    """Of 1,000 studies with one treatment that is better by `effect` sd of a difference, those that call it worse."""
    differences = np.random.default_rng(n).normal(effect, 1, (1000, n))
    words = [verdict(PSNR, change, change.p) for change in (paired(row, np.zeros(n)) for row in differences)]
    assert words.count("worse") / 1000 <= 0.025 + 2 * math.sqrt(0.025 * 0.975 / 1000) * (effect == 0)
    power = stats.nct.sf(stats.t.ppf(0.975, n - 1), n - 1, effect * math.sqrt(n))
    assert words.count("better") / 1000 == pytest.approx(power, abs=3 * math.sqrt(power * (1 - power) / 1000))


@pytest.mark.parametrize(
    ("metric", "change", "word"),
    [
        (PSNR, +1.0, "better"),
        (PSNR, -1.0, "worse"),
        (FOLD, +1.0, "worse"),
        (FOLD, -1.0, "better"),
        (BIAS, +1.0, "worse"),
        (BIAS, -1.0, "better"),
        (COHERENCE, +1.0, "higher"),
        (COHERENCE, -1.0, "lower"),
    ],
)
def test_a_verdict_follows_the_direction(metric: Metric, change: float, word: str) -> None:
    assert verdict(metric, Change(3, change, 0.1, change - 0.5, change + 0.5, 0.01), None) == word
    assert verdict(metric, Change(3, change, 0.1, change - 0.5, change + 0.5, 0.01), 0.049) == word
    assert verdict(metric, Change(3, change, 0.1, change - 0.5, change + 0.5, 0.01), 0.05) == "unclear"
    assert verdict(metric, Change(3, change, 0.1, -2.0, 2.0, 0.6), None) == "within noise"


def test_verdicts_without_enough_to_go_by() -> None:
    found = compare(PSNR, arms([1, 2, 3], [4], [1, 2, 3], [math.inf, 1, 2]), primary=True)
    assert [effect.verdict for effect in found.values()] == ["baseline", "too few seeds", "identical", "not finite"]


def test_the_correction_is_for_the_primary_metric_alone() -> None:
    rows = [[20.0, 21.0, 22.5], [21.0, 22.1, 23.45], [20.4, 21.0, 22.0], [19.0, 22.0, 23.0]]
    primary, other = compare(PSNR, arms(*rows), primary=True), compare(PSNR, arms(*rows), primary=False)
    assert [primary[f"t{i}"].p_holm for i in (1, 2, 3)] == pytest.approx(
        holm([primary[f"t{i}"].change.p for i in (1, 2, 3)])
    )
    assert all(math.isnan(effect.p_holm) for effect in other.values())
    assert primary["t1"].change == other["t1"].change


def test_only_shared_seeds_are_paired() -> None:
    values = {"baseline": {0: 10.0, 1: 11.0, 2: 12.0}, "a": {1: 12.0, 2: 13.5, 3: 99.0}}
    effect = compare(PSNR, values, primary=True)["a"]
    assert effect.n == 3
    assert effect.mean == pytest.approx((12.0 + 13.5 + 99.0) / 3)
    assert effect.change.n == 2
    assert effect.change.mean == pytest.approx(1.25)


def test_a_target_is_compared_by_the_distance() -> None:
    effect = compare(BIAS, arms([-2.0, -2.1, -1.9], [0.3, 0.32, 0.31]), primary=True)["t1"]
    assert effect.mean == pytest.approx(0.31)
    assert effect.change.mean == pytest.approx(-1.69)
    assert effect.verdict == "better"
    mirrored = compare(BIAS, arms([-2.0, -2.1, -1.9], [2.01, 1.95, 2.0]), primary=False)["t1"]
    assert mirrored.change.low <= 0 <= mirrored.change.high
    assert mirrored.verdict == "within noise"


@pytest.mark.parametrize("n", [3, 5, 10])
def test_the_detectable_difference_is_detected_four_times_of_five(n: int) -> None:
    rng = np.random.default_rng(n)
    differences = rng.normal(detectable(0.7, n), 0.7, (40000, n))
    assert (stats.ttest_1samp(differences, 0, axis=1).pvalue < 0.05).mean() == pytest.approx(0.8, abs=0.01)


def test_the_interval_over_pictures_is_the_bootstrap_and_covers_the_mean() -> None:
    rng = np.random.default_rng(4)
    values = rng.gamma(2, 3, 300)
    truth = stats.bootstrap((values,), np.mean, method="percentile", rng=rng).confidence_interval
    assert bootstrap_interval(values) == pytest.approx((truth.low, truth.high), rel=0.01)
    found = [bootstrap_interval(row) for row in rng.gamma(2, 3, (300, 60))]
    assert np.mean([low <= 6 <= high for low, high in found]) == pytest.approx(0.94, abs=0.04)
    assert math.isnan(bootstrap_interval(values[:19])[0])
    assert math.isnan(bootstrap_interval([*values, math.inf])[0])


def test_expected_best_is_the_order_statistic() -> None:
    assert expected_best(1) == pytest.approx(0, abs=1e-9)
    assert expected_best(2) == pytest.approx(1 / math.sqrt(math.pi))
    assert expected_best(3) == pytest.approx(1.5 / math.sqrt(math.pi))
    best = np.random.default_rng(0).standard_normal((100000, 12)).max(axis=1).mean()
    assert expected_best(12) == pytest.approx(best, abs=0.01)


def test_noise_is_measured() -> None:
    """Many seeds with known parts: a common one of sd 3 and one of sd 1 for each treatment."""
    rng = np.random.default_rng(5)
    values = rng.normal(0, 3, 4000) + rng.normal(0, 1, (9, 4000))
    noise = noise_of(PSNR, arms(*values.tolist()))
    assert (noise.comparisons, noise.pairs) == (8, 4000)
    assert noise.sd == pytest.approx(math.sqrt(2), rel=0.03)
    assert noise.correlation == pytest.approx(0.9, abs=0.01)
    z = stats.norm.isf(0.025 / 8) + stats.norm.ppf(0.8)
    assert noise.detectable == pytest.approx(z * noise.sd / math.sqrt(4000), rel=1e-3)


def test_one_unstable_treatment_does_not_speak_for_all() -> None:
    rng = np.random.default_rng(8)
    values = rng.normal(0, 1, (400, 10, 3))
    calm = np.mean([noise_of(PSNR, arms(*study.tolist())).sd for study in values])
    values[:, 9] *= 30
    assert np.mean([noise_of(PSNR, arms(*study.tolist())).sd for study in values]) == pytest.approx(calm, rel=0.12)
    assert calm == pytest.approx(math.sqrt(2), rel=0.08)


def test_the_gain_by_chance_is_what_identical_treatments_show() -> None:
    rng = np.random.default_rng(6)
    values = rng.normal(0, 3, (4000, 1, 3)) + rng.normal(0, 1, (4000, 13, 3))
    means = values.mean(axis=2)
    shown = (means[:, 1:].max(axis=1) - means[:, 0]).mean()
    predicted = np.mean([noise_of(PSNR, arms(*study.tolist())).chance_gain for study in values[:400]])
    assert predicted == pytest.approx(shown, rel=0.05)


def test_too_few_seeds_tell_nothing_of_noise() -> None:
    noise = noise_of(PSNR, arms([1.0], [2.0]))
    assert noise.comparisons == 0
    assert math.isnan(noise.detectable)


def frame(**treatments: dict[str, list[float]]) -> pd.DataFrame:
    rows = [
        {"treatment": label, "seed": seed, "status": "done", **dict(zip(columns, values, strict=True))}
        for label, columns in treatments.items()
        for seed, values in enumerate(zip(*columns.values(), strict=True))
    ]
    return pd.DataFrame(rows)


METRICS = {"psnr": PSNR, "fold": FOLD}


def test_diverged_trials_have_no_values_and_are_told() -> None:
    data = frame(
        baseline={"psnr": [20.0, 21.0], "fold": [1.0, 1.1]},
        a={"psnr": [22.0, 23.1], "fold": [0.5, 0.7]},
        b={"psnr": [5.0, 5.0], "fold": [9.0, 9.0]},
    )
    data.loc[data["treatment"] == "b", "status"] = "diverged"
    data.loc[3, "status"] = "diverged"
    found = analyse(data, METRICS, "psnr").effects
    assert {label: row["psnr"].verdict for label, row in found.items()} == {
        "baseline": "baseline", "a": "diverges 1/2", "b": "diverges 2/2"
    }  # fmt: skip
    assert (found["a"]["psnr"].n, found["b"]["psnr"].n) == (1, 0)
    assert math.isnan(found["b"]["psnr"].mean)


def test_identical_treatments_are_reported_together() -> None:
    same = {"psnr": [20.0, 21.0], "fold": [1.0, math.nan]}
    data = frame(baseline=same, a=same, b={"psnr": [20.0, 21.0], "fold": [1.0, 2.0]}, c=same)
    (warning,) = analyse(data, METRICS, "psnr").warnings
    assert warning.startswith("numerically identical in every metric of every shared seed: baseline, a, c;")


def test_nothing_measured_is_not_identical() -> None:
    nothing = {"psnr": [math.nan, math.nan], "fold": [math.nan, math.nan]}
    assert analyse(frame(baseline=nothing, a=nothing), METRICS, "psnr").warnings == ()


def test_a_difference_without_spread_is_stated() -> None:
    data = frame(baseline={"psnr": [20.0, 21.0], "fold": [1.0, 1.5]}, a={"psnr": [20.5, 21.5], "fold": [1.1, 1.7]})
    (warning,) = analyse(data, METRICS, "psnr").warnings
    assert warning.endswith("its interval has zero width: psnr of a")


def test_a_loss_term_without_influence_is_reported() -> None:
    data = frame(
        baseline={"psnr": [20.0, 21.0], "share/kl": [0.01, 0.02], "share/l2": [0.9, 0.9]},
        a={"psnr": [20.5, 21.7], "share/kl": [9e-5, 2e-6], "share/l2": [0.9, 0.9]},
        b={"psnr": [20.6, 21.5], "share/kl": [2e-4, 2e-6], "share/l2": [0.9, 0.9]},
        c={"psnr": [20.6, 21.9], "share/kl": [math.nan, math.nan], "share/l2": [0.9, 0.9]},
    )
    (warning,) = analyse(data, {"psnr": PSNR}, "psnr").warnings
    assert warning == "loss term 'kl' had at most 9e-05 of the gradient in: a; it hardly influenced training"


def test_rows_at_once_are_the_same_as_each_by_itself() -> None:
    rng = np.random.default_rng(3)
    values, reference = rng.normal(0, 1, (2, 400, 5))
    values[rng.random(values.shape) < 0.3] = math.nan
    reference[rng.random(values.shape) < 0.1] = math.inf
    values[7] = reference[7] + 0.25
    for ours, theirs, found in zip(values, reference, paired_rows(values, reference), strict=True):
        there = ~(np.isnan(ours) | np.isnan(theirs))
        a, b = ours[there], theirs[there]
        assert found.n == len(a)
        if len(a) > 1 and np.isfinite(a - b).all() and np.ptp(a - b) > 1e-9:
            truth = stats.ttest_rel(a, b)
            interval = truth.confidence_interval(0.95)
            expected = [(a - b).mean(), (a - b).std(ddof=1), interval.low, interval.high, truth.pvalue]
            assert [found.mean, found.sd, found.low, found.high, found.p] == pytest.approx(expected, rel=1e-9)
        elif not (len(a) > 1 and np.isfinite(a - b).all()):
            assert math.isnan(found.low) and math.isnan(found.p)


def test_the_time_of_an_analysis_grows_with_the_treatments_and_not_their_square() -> None:
    """Four times the treatments may take eight times the CPU time; their square would take sixteen times."""

    def seconds(treatments: int) -> float:
        labels, last = [f"t{i}" for i in range(treatments)], f"t{treatments - 1}"
        rng = np.random.default_rng(0)
        rows = [{"treatment": label, "seed": seed, "status": "done"} for label in labels for seed in range(5)]
        frame = pd.DataFrame(rows).assign(**{f"m{i}": rng.normal(0, 1, len(rows)) for i in range(20)})
        twin = frame.loc[frame["treatment"] == "t5", frame.columns[3:]].to_numpy()
        frame.loc[frame["treatment"] == last, frame.columns[3:]] = twin
        metrics = {f"m{i}": Metric(f"m{i}", "1", "up") for i in range(20)}
        begun = time.process_time()
        found = analyse(frame, metrics, "m0")
        used = time.process_time() - begun
        assert len(found.effects) == treatments
        assert [warning for warning in found.warnings if f"t5, {last}" in warning]
        return used

    seconds(10)  # imports
    assert seconds(2000) < 8 * seconds(500)
