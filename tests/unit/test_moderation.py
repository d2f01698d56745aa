"""Moderated variances against the distribution that they are fitted to, its simulation, and closed forms."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import integrate, stats

from ablate.analysis.statistics.effects import analyse, difference, holm
from ablate.analysis.statistics.moderation import Moderation, fit_moderation
from ablate.analysis.statistics.paired import paired, paired_rows
from ablate.analysis.statistics.power import detectable, seeds_needed
from ablate.slots.settings import Metric
from tests.support.simulated import LADDER, STAR, UNSTABLE, noise_of

PSNR = Metric("psnr", "dB", "up", interest=0.5)


@pytest.mark.parametrize("df", [4, 9])
def test_the_fitted_distribution_has_the_moments_of_the_logs(df: int) -> None:
    """Smyth 2004, section 6.2: variances are s0^2 F(d, d0); mean and variance of their logs are those observed."""
    variances = np.random.default_rng(df).chisquare(df, 12) * np.geomspace(0.1, 20, 12) / df
    found = fit_moderation(variances, np.full(12, df))
    assert found is not None and math.isfinite(found.df)
    law = stats.f(df, found.df, scale=found.variance)

    def moment(power: int) -> float:
        return float(integrate.quad(lambda x: x**power * law.pdf(math.exp(x)) * math.exp(x), -40, 40, limit=500)[0])

    logs = np.log(variances)
    assert moment(1) == pytest.approx(logs.mean(), abs=1e-6)
    assert moment(2) - moment(1) ** 2 == pytest.approx(logs.var(ddof=1), rel=1e-6)


def test_a_known_distribution_is_found_again() -> None:
    rng = np.random.default_rng(0)
    true = 0.3 * 6 / rng.chisquare(6, 40_000)
    found = fit_moderation(true * rng.chisquare(4, 40_000) / 4, np.full(40_000, 4))
    assert found is not None
    assert (found.df, found.variance) == pytest.approx((6, 0.3), rel=0.05)


def test_equal_variances_are_pooled() -> None:
    found = fit_moderation([1.0, 1.1, 0.9, 1.0], [4, 4, 4, 4])
    assert found == Moderation(math.inf, 1.0, 4, 16)
    variance, df = found.squeeze([1.0, 0.5, 1.2], 4)
    assert variance == pytest.approx([1.0, 1.0, 1.2], rel=1e-6), "never below the row's own"
    assert df == pytest.approx([16, 16, 16]), "never more than the rows have together"


def test_the_posterior_variance_is_the_weighted_mean() -> None:
    prior = Moderation(8.0, 2.0, 5, 100.0)
    (variance,), (df,) = prior.squeeze([1.0], [4])
    assert (variance, df) == pytest.approx(((8 * 2 + 4 * 1) / 12, 12))
    kept = prior.squeeze([0.0, 100.0, 1.0, math.nan], [4, 4, 3, 4])
    assert kept[0].tolist() == pytest.approx([0.0, 100.0, 1.0, math.nan], nan_ok=True)
    assert kept[1].tolist() == [4, 4, 3, 4], "no spread, a surprising variance, too few pairs, no value"
    limit = 2.0 * stats.f.isf(0.05, 4, 8)
    assert prior.squeeze([0.99 * limit, 1.01 * limit], [4, 4])[1].tolist() == [12, 4]


@pytest.mark.parametrize(
    "rows", [([1.0, 2.0], [4, 4]), ([1.0, 2.0, 3.0], [4, 4, 3]), ([1.0, 2.0, 0.0], [4, 4, 4]), ([], [])]
)
def test_too_few_rows_tell_nothing_of_variances(rows: tuple[list[float], list[int]]) -> None:
    assert fit_moderation(*rows) is None


def test_the_test_of_a_row_is_that_of_its_variance() -> None:
    prior = Moderation(8.0, 2.0, 5, 100.0)
    values = np.array([0.5, 1.9, 1.2, 2.0, 0.9])
    found = paired(values, np.zeros(5), moderation=prior)
    variance = max((8 * 2 + 4 * values.var(ddof=1)) / 12, values.var(ddof=1))
    error = math.sqrt(variance / 5)
    assert found.p == pytest.approx(2 * stats.t.sf(values.mean() / error, 12))
    assert found.high - found.mean == pytest.approx(stats.t.ppf(0.975, 12) * error)
    assert found.high90 - found.mean == pytest.approx(stats.t.ppf(0.95, 12) * error)
    assert found.sd == pytest.approx(values.std(ddof=1))
    assert difference(dict(enumerate(values)), dict.fromkeys(range(5), 0.0), moderation=prior) == found
    with pytest.raises(ValueError, match="not moderated where results decide"):
        paired(values, np.zeros(5), bounds=(3, 5), moderation=prior)


def frame(seeds: int, treatments: int) -> pd.DataFrame:
    rng = np.random.default_rng(seeds)
    rows = [("baseline" if i == 0 else f"t{i}", seed) for i in range(treatments + 1) for seed in range(seeds)]
    values = rng.normal(20, 1, len(rows))
    return pd.DataFrame(rows, columns=["treatment", "seed"]).assign(status="done", psnr=values)


def test_it_is_the_default_from_five_seeds_and_three_rows_on() -> None:
    assert analyse(frame(5, 3), {"psnr": PSNR}, "psnr").moderation["psnr"].rows == 3
    for seeds, treatments in ((4, 3), (5, 2)):
        assert not analyse(frame(seeds, treatments), {"psnr": PSNR}, "psnr").moderation
        with pytest.raises(ValueError, match="fewer than 3 rows have 5 pairs or more, with spread, in psnr"):
            analyse(frame(seeds, treatments), {"psnr": PSNR}, "psnr", moderated=True)
    assert not analyse(frame(5, 3), {"psnr": PSNR}, "psnr", moderated=False).moderation
    with pytest.raises(ValueError, match="results decide how many seeds"):
        analyse(frame(5, 3), {"psnr": PSNR}, "psnr", bounds=(3, 8), moderated=True)


@pytest.mark.parametrize(("comparisons", "pairs"), [(1, 3), (9, 3), (9, 10)])
def test_the_detectable_difference_has_the_power_of_the_corrected_test(comparisons: int, pairs: int) -> None:
    effect = detectable(0.7, pairs, comparisons)
    differences = np.random.default_rng(pairs).normal(effect, 0.7, (20_000, pairs))
    p = stats.ttest_1samp(differences, 0, axis=1).pvalue
    assert (p < 0.05 / comparisons).mean() == pytest.approx(0.8, abs=0.015)


def test_the_detectable_difference_of_the_moderated_test() -> None:
    prior = Moderation(8.0, 0.49, 9, 36.0)
    effect = detectable(0.7, 5, 9, prior)
    differences = np.random.default_rng(1).normal(effect, 0.7, (20_000, 5))
    variance, df = prior.squeeze(differences.var(axis=1, ddof=1), 4)
    p = 2 * stats.t.sf(np.abs(differences.mean(axis=1)) / np.sqrt(variance / 5), df)
    assert (p < 0.05 / 9).mean() == pytest.approx(0.8, abs=0.015)
    assert effect < detectable(0.7, 5, 9)


@pytest.mark.parametrize(("treatments", "seeds"), [(1, 3), (2, 3), (1, 5), (2, 5), (1, 10), (9, 5)])
def test_a_difference_as_large_as_printed_is_found_four_times_of_five(treatments: int, seeds: int) -> None:
    """As the spread that it is printed from is an estimate itself: in other studies with the same true spread."""
    rng, labels = np.random.default_rng(treatments), [f"t{i}" for i in range(treatments + 1)]
    metric = Metric("x", "1", "up")  # without a smallest effect of interest
    level, found = 0.05 / treatments, []
    for _ in range(400):
        values = rng.normal(0, 0.3, (treatments + 1, seeds))
        printed = noise_of(metric, {label: dict(enumerate(row)) for label, row in zip(labels, values, strict=True)})
        differences = rng.normal(printed.detectable, 0.3 * math.sqrt(2), (200, seeds))
        found.append((stats.ttest_1samp(differences, 0, axis=1).pvalue < level).mean())
    assert np.mean(found) == pytest.approx(0.8, abs=0.03)


def test_the_seeds_needed_are_the_fewest_that_detect() -> None:
    for difference_ in (2.0, 0.5, 0.2):
        needed = seeds_needed(0.7, difference_, 4)
        assert needed is not None
        assert detectable(0.7, needed, 4) <= difference_ < detectable(0.7, needed - 1, 4)
    assert seeds_needed(0.7, 1e-3, 4) is None


@pytest.mark.parametrize(
    ("sds", "references", "limit", "gain"),
    [(np.ones(10), STAR, 0.05, 1.3), (UNSTABLE, LADDER, 0.056, 1.15), (UNSTABLE, STAR, 0.056, 1.15)],
)
def test_at_five_seeds_it_finds_more_and_is_not_wrong_more_often(
    sds: np.ndarray, references: list[int], limit: float, gain: float
) -> None:
    """1,200 studies without effects, and as many with one effect of two standard deviations of its difference."""
    rng = np.random.default_rng(5)
    told = {False: 0, True: 0}
    wrong = 0
    for i in range(1200):
        values = rng.normal(0, 1, (10, 5)) * sds[:, None] + rng.normal(0, 1, 5)
        changes = paired_rows(values[1:], values[references])
        prior = fit_moderation([change.sd**2 for change in changes], np.full(9, 4))
        wrong += min(holm([change.p for change in paired_rows(values[1:], values[references], None, prior)])) < 0.05
        row = i % 9
        values[row + 1] += 2 * math.hypot(sds[row + 1], sds[references[row]])
        for moderated in told:  # the rows that are compared with this one keep their own null values
            reference = values[references]
            for other, index in enumerate(references):
                if index == row + 1:
                    reference[other] -= 2 * math.hypot(sds[row + 1], sds[references[row]])
            found = paired_rows(values[1:], reference, None, prior if moderated else None)
            told[moderated] += holm([change.p for change in found])[row] < 0.05
    assert wrong / 1200 <= limit + 2 * math.sqrt(limit * (1 - limit) / 1200)
    assert told[True] >= gain * told[False] > 0
