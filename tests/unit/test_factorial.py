"""Main effects and interactions against statsmodels, closed forms and planted truth."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf
from statsmodels.stats.anova import anova_lm

from ablate.analysis.statistics.effects import holm
from ablate.analysis.statistics.factorial import Decomposition, decompose
from ablate.study.fraction import by_runs
from ablate.study.optimal import Optimal, choose

Cells = list[tuple[int, ...]]


def simulate(shape: tuple[int, ...], seeds: int, rng: np.random.Generator) -> tuple[Cells, np.ndarray]:
    """All combinations of levels, and values `treatment seed` of random means, common seeds and an error of sd 1."""
    places = list(itertools.product(*map(range, shape)))
    means = rng.normal(20, 2, (len(places), 1))
    return places, means + rng.normal(0, 3, seeds) + rng.normal(0, 1, (len(places), seeds))


def by_seed(values: np.ndarray) -> list[dict[int, float]]:
    return [{seed: value for seed, value in enumerate(row) if not math.isnan(value)} for row in values.tolist()]


def long(places: Cells, values: np.ndarray) -> pd.DataFrame:
    """A row per trial, as statsmodels wants it."""
    rows = [
        {**{"abc"[i]: level for i, level in enumerate(at)}, "seed": seed, "y": value}
        for at, row in zip(places, values, strict=True)
        for seed, value in enumerate(row)
    ]
    return pd.DataFrame(rows).dropna()


def check(found: Decomposition, truth: pd.DataFrame) -> None:
    total = truth["sum_sq"].drop("Intercept", errors="ignore").sum()
    for term in found.terms:
        name = ":".join(f"C({'abc'[i]}, Sum)" for i in term.factors)
        assert term.df == truth["df"][name]
        assert term.f == pytest.approx(truth["F"][name], rel=1e-8)
        assert term.p == pytest.approx(truth["PR(>F)"][name], rel=1e-8, abs=1e-14)
        if "Intercept" not in truth.index:
            assert term.share == pytest.approx(truth["sum_sq"][name] / total, rel=1e-8)
    assert found.error_df == truth["df"]["Residual"]
    assert found.error_sd == pytest.approx(math.sqrt(truth["sum_sq"]["Residual"] / truth["df"]["Residual"]), rel=1e-8)


@pytest.mark.parametrize(("shape", "seeds"), [((2, 2), 2), ((7, 2), 3), ((2, 3, 4), 3)])
def test_a_complete_grid_has_the_analysis_of_variance_of_statsmodels(shape: tuple[int, ...], seeds: int) -> None:
    places, values = simulate(shape, seeds, np.random.default_rng(1))
    found = decompose(places, by_seed(values))
    formula = "*".join(f"C({'abc'[i]}, Sum)" for i in range(len(shape)))
    truth = anova_lm(smf.ols(f"y ~ {formula} + C(seed, Sum)", long(places, values)).fit(), typ=2)
    check(found, truth)
    total = truth["sum_sq"].sum()
    assert found.seeds_share == pytest.approx(truth["sum_sq"]["C(seed, Sum)"] / total, rel=1e-8)
    shares = [*(term.share for term in found.terms), found.higher_share, found.seeds_share, found.error_share]
    assert sum(shares) == pytest.approx(1)
    if len(shape) == 3:
        three = "C(a, Sum):C(b, Sum):C(c, Sum)"
        assert (found.higher_df, found.higher_f) == (truth["df"][three], pytest.approx(truth["F"][three], rel=1e-8))
    else:
        assert (found.higher_df, found.higher_share) == (0, 0)


def test_missing_trials_give_the_tests_of_type_three() -> None:
    places, values = simulate((2, 3, 2), 4, np.random.default_rng(2))
    for treatment, seed in [(0, 0), (3, 1), (3, 2), (7, 0), (11, 3)]:
        values[treatment, seed] = math.nan
    model = smf.ols("y ~ C(a, Sum)*C(b, Sum)*C(c, Sum) + C(seed, Sum)", long(places, values)).fit()
    found = decompose(places, by_seed(values))
    check(found, anova_lm(model, typ=3))
    three = anova_lm(model, typ=3).loc["C(a, Sum):C(b, Sum):C(c, Sum)"]
    assert (found.higher_f, found.higher_p) == pytest.approx((three["F"], three["PR(>F)"]), rel=1e-8)


@pytest.mark.parametrize("missing", [(), ((1, 0), (1, 2), (4, 1))])
def test_contrasts_and_intervals_are_those_of_least_squares(missing: tuple[tuple[int, int], ...]) -> None:
    places, values = simulate((3, 2), 3, np.random.default_rng(3))
    for treatment, seed in missing:
        values[treatment, seed] = math.nan
    cells = long(places, values).assign(cell=lambda rows: rows["a"] * 2 + rows["b"])
    model = smf.ols("y ~ 0 + C(cell) + C(seed)", cells).fit()
    found = decompose(places, by_seed(values))
    # cells are a0b0 a0b1 a1b0 a1b1 a2b0 a2b1; then two seeds
    weights = {
        ((0,), (1,)): [-0.5, -0.5, 0.5, 0.5, 0, 0, 0, 0],
        ((0,), (2,)): [-0.5, -0.5, 0, 0, 0.5, 0.5, 0, 0],
        ((1,), (1,)): [-1 / 3, 1 / 3, -1 / 3, 1 / 3, -1 / 3, 1 / 3, 0, 0],
        ((0, 1), (1, 1)): [1, -1, -1, 1, 0, 0, 0, 0],
        ((0, 1), (2, 1)): [1, -1, 0, 0, -1, 1, 0, 0],
    }
    contrasts = {(term.factors, one.levels): one for term in found.terms for one in term.contrasts}
    assert contrasts.keys() == weights.keys()
    for key, one in contrasts.items():
        truth = model.t_test(weights[key])
        assert one.estimate == pytest.approx(truth.effect.item(), rel=1e-8)
        assert (one.low, one.high) == pytest.approx(tuple(truth.conf_int()[0]), rel=1e-8)
        assert one.p == pytest.approx(truth.pvalue.item(), rel=1e-8)


def test_a_fraction_tells_effects_and_names_what_it_cannot_tell_from_them() -> None:
    """2^(4-1) of resolution IV: d = a*b*c, so that a*b is aliased with c*d."""
    fraction = by_runs(4, 8)
    places, rng = fraction.runs, np.random.default_rng(4)
    signs = np.array(places)
    means = 3 * signs[:, 0] - 2 * signs[:, 3] + 4 * (signs[:, 0] * signs[:, 1])
    values = means[:, None] + rng.normal(0, 5, 2) + rng.normal(0, 1e-3, (8, 2))
    found = decompose(places, by_seed(values), fraction)
    estimates = {term.factors: term.contrasts[0].estimate for term in found.terms}
    assert len(found.terms) == 7 and found.higher_df == 0
    (mixed,) = [term for term in found.terms if (0, 1) in (term.factors, *term.aliases)]
    assert {mixed.factors, *mixed.aliases} == {(0, 1), (2, 3)}
    assert estimates[0,] == pytest.approx(3 + 4 / 2, abs=0.01)  # half of the runs have b
    assert estimates[3,] == pytest.approx(-2, abs=0.01)
    assert estimates[2,] == pytest.approx(0, abs=0.01)
    assert estimates[mixed.factors] == pytest.approx(4, abs=0.01)
    assert sum(term.share for term in found.terms) + found.seeds_share + found.error_share == pytest.approx(1)


def optimal() -> Optimal:
    """11 treatments of 3 x 3 x 2 for 8 parameters, four forbidden, so that main effects are not orthogonal."""
    return choose((3, 3, 2), 11, [(0, 2)], lambda cell: cell[:2] not in {(1, 2), (2, 1)})


@pytest.mark.parametrize("missing", [(), ((0, 0), (4, 1), (4, 2), (9, 2))])
def test_a_d_optimal_fraction_is_analysed_as_statsmodels_does(missing: tuple[tuple[int, int], ...]) -> None:
    """Least squares on the effects asked for, type III; against what treatments and seeds leave, not the model."""
    fraction, rng = optimal(), np.random.default_rng(11)
    values = rng.normal(20, 2, (11, 1)) + rng.normal(0, 3, 4) + rng.normal(0, 1, (11, 4))
    for treatment, seed in missing:
        values[treatment, seed] = math.nan
    rows = long(list(fraction.runs), values)
    rows["cell"] = rows["a"] * 100 + rows["b"] * 10 + rows["c"]
    model = smf.ols("y ~ C(a, Sum)*C(c, Sum) + C(b, Sum) + C(seed, Sum)", rows).fit()
    whole = smf.ols("y ~ C(cell) + C(seed)", rows).fit()
    found, truth = decompose(fraction.runs, by_seed(values), fraction), anova_lm(model, typ=3)
    names = {(0,): "C(a, Sum)", (1,): "C(b, Sum)", (2,): "C(c, Sum)", (0, 2): "C(a, Sum):C(c, Sum)"}
    assert [term.factors for term in found.terms] == [*names]
    for term in found.terms:
        line = truth.loc[names[term.factors]]
        assert term.df == line["df"]
        assert term.f == pytest.approx(line["sum_sq"] / line["df"] / whole.mse_resid, rel=1e-8)
    lack = anova_lm(model, whole).iloc[1]
    assert (found.higher_df, found.higher_f) == (lack["df_diff"], pytest.approx(lack["F"], rel=1e-8))
    assert (found.error_df, found.error_sd) == (whole.df_resid, pytest.approx(math.sqrt(whole.mse_resid), rel=1e-8))

    cells = pd.DataFrame(list(itertools.product(range(3), range(3), range(2))), columns=[*"abc"]).assign(seed=0)
    predicted = model.predict(cells).to_numpy().reshape(3, 3, 2)
    both = predicted.mean(axis=1)
    adjusted = {
        ((0,), (1,)): np.diff(predicted.mean(axis=(1, 2)))[0],
        ((1,), (2,)): np.ptp(predicted.mean(axis=(0, 2))[[0, 2]]) * np.sign(np.diff(predicted.mean(axis=(0, 2))).sum()),
        ((2,), (1,)): np.diff(predicted.mean(axis=(0, 1)))[0],
        ((0, 2), (2, 1)): both[2, 1] - both[2, 0] - both[0, 1] + both[0, 0],
    }
    estimates = {(term.factors, one.levels): one.estimate for term in found.terms for one in term.contrasts}
    for key, value in adjusted.items():
        assert estimates[key] == pytest.approx(value, rel=1e-8)


def test_effects_planted_in_a_d_optimal_fraction_are_found_where_raw_means_are_wrong() -> None:
    """1,000 studies with three main effects and an interaction that was asked for."""
    fraction, rng = optimal(), np.random.default_rng(12)
    a, b, c = np.array(fraction.runs).T
    means = 3.0 * (a == 2) - 2.0 * (b == 1) + 0.5 * c + 1.2 * ((a == 1) & (c == 1))
    truth = {
        ((0,), (1,)): 0.6, ((0,), (2,)): 3.0, ((1,), (1,)): -2.0, ((1,), (2,)): 0.0, ((2,), (1,)): 0.5 + 1.2 / 3,
        ((0, 2), (1, 1)): 1.2, ((0, 2), (2, 1)): 0.0,
    }  # fmt: skip
    raw = means[a == 2].mean() - means[a == 0].mean()
    assert abs(raw - 3.0) > 0.2
    exact = decompose(fraction.runs, by_seed(means[:, None] + np.array([0.0, 1.0, -2.0])), fraction)
    for term in exact.terms:
        for one in term.contrasts:
            assert one.estimate == pytest.approx(truth[term.factors, one.levels], abs=1e-12)
    covered, lacking = 0, 0
    for _ in range(1000):
        values = means[:, None] + rng.normal(0, 2, 3) + rng.normal(0, 0.5, (11, 3))
        found = decompose(fraction.runs, by_seed(values), fraction)
        lacking += found.higher_p < 0.05
        for term in found.terms:
            covered += sum(one.low <= truth[term.factors, one.levels] <= one.high for one in term.contrasts)
    assert covered / 1000 / len(truth) == pytest.approx(0.95, abs=0.01)
    assert lacking / 1000 == pytest.approx(0.05, abs=3 * math.sqrt(0.05 * 0.95 / 1000))


def test_planted_effects_are_covered_as_often_as_intervals_say() -> None:
    """1,000 studies of 3 x 2 x 2 treatments and 3 seeds: two main effects, one interaction, all else without effect."""
    rng = np.random.default_rng(5)
    places = list(itertools.product(range(3), range(2), range(2)))
    a, b = np.array(places)[:, :2].T
    means = 1.5 * (a == 1) + 0.8 * b + 1.2 * ((a == 1) & (b == 1))
    truth = {
        ((0,), (1,)): 1.5 + 1.2 / 2, ((0,), (2,)): 0.0, ((1,), (1,)): 0.8 + 1.2 / 3, ((2,), (1,)): 0.0,
        ((0, 1), (1, 1)): 1.2, ((0, 1), (2, 1)): 0.0, ((0, 2), (1, 1)): 0.0, ((0, 2), (2, 1)): 0.0,
        ((1, 2), (1, 1)): 0.0,
    }  # fmt: skip
    covered, wrong, told = 0, 0, 0
    for _ in range(1000):
        values = means[:, None] + rng.normal(0, 2, 3) + rng.normal(0, 0.5, (12, 3))
        found = decompose(places, by_seed(values))
        for term in found.terms:
            covered += sum(one.low <= truth[term.factors, one.levels] <= one.high for one in term.contrasts)
            told += term.factors == (0, 1) and term.p < 0.05
            wrong += term.factors == (2,) and term.p < 0.05
    assert covered / 1000 / len(truth) == pytest.approx(0.95, abs=0.01)
    assert wrong / 1000 == pytest.approx(0.05, abs=3 * math.sqrt(0.05 * 0.95 / 1000))
    assert told / 1000 > 0.8


def test_without_effects_a_term_is_told_in_one_study_of_twenty_at_most() -> None:
    rng = np.random.default_rng(8)
    places = list(itertools.product(range(2), range(3), range(2)))
    wrong = 0
    for _ in range(1000):
        found = decompose(places, by_seed(rng.normal(0, 2, 3) + rng.normal(0, 0.5, (12, 3))))
        wrong += min(holm([term.p for term in found.terms])) < 0.05
    assert 0 < wrong / 1000 <= 0.05


def test_one_seed_has_effects_without_intervals() -> None:
    places = [(0, 0), (0, 1), (1, 0), (1, 1)]
    found = decompose(places, by_seed(np.array([[1.0], [2.0], [4.0], [5.5]])))
    assert [term.contrasts[0].estimate for term in found.terms] == pytest.approx([3.25, 1.25, 0.5])
    assert found.error_df == 0 and math.isnan(found.error_sd)
    assert all(math.isnan(term.p) and math.isnan(term.contrasts[0].low) for term in found.terms)
    assert [term.share for term in found.terms] == pytest.approx(np.array([10.5625, 1.5625, 0.0625]) / 12.1875)


def test_constant_and_noiseless_metrics() -> None:
    places = [(0, 0), (0, 1), (1, 0), (1, 1)]
    constant = decompose(places, by_seed(np.full((4, 3), 0.1 + 0.2)))
    assert [(term.share, term.p) for term in constant.terms] == [(0, 1)] * 3
    exact = decompose(places, by_seed(np.array([[0.1], [0.1], [0.4], [0.4]]) + np.array([0.0, 0.7, 0.3])))
    assert [term.p for term in exact.terms] == pytest.approx([math.nan, 1, 1], nan_ok=True)
    assert exact.terms[0].contrasts[0].low == pytest.approx(0.3) == exact.terms[0].contrasts[0].high


def test_the_treatment_that_makes_the_error_is_named() -> None:
    rng = np.random.default_rng(6)
    places, values = simulate((2, 4), 3, rng)
    values[5] += rng.normal(0, 40, 3)
    place, part = decompose(places, by_seed(values)).noisiest
    assert place == 5 and part > 0.5


def test_the_calmer_half_of_the_treatments() -> None:
    """With equal errors of two degrees of freedom, whose squares are exponential, it has 1 - (1 + ln 2) / 2 of all."""
    places, values = simulate((20, 20), 3, np.random.default_rng(9))
    assert decompose(places, by_seed(values)).quiet_half_share == pytest.approx(1 - (1 + math.log(2)) / 2, abs=0.02)
    values[::2] += np.random.default_rng(10).normal(0, 40, (200, 3))
    assert decompose(places, by_seed(values)).quiet_half_share < 0.01


def test_a_thousand_treatments_take_no_time() -> None:
    places, values = simulate((10, 10, 10), 3, np.random.default_rng(7))
    found = decompose(places, by_seed(values))
    assert [term.df for term in found.terms] == [9, 9, 9, 81, 81, 81]
    assert found.higher_df == 729


@pytest.mark.parametrize("seeds", [3, 5])
def test_changes_between_noisy_treatments_are_not_called_too_often(seeds: int) -> None:
    """Of four levels two have errors and two have none; pooled errors would find changes in one study of six."""
    rng = np.random.default_rng(seeds)
    places = [(a, b) for a in range(4) for b in range(3)]
    noise = np.array([place[0] in {0, 1} for place in places])[:, None]
    found = [decompose(places, by_seed(noise * rng.normal(0, 1, (12, seeds)))) for _ in range(400)]
    changes = [contrast for one in found for contrast in one.terms[0].contrasts if contrast.levels == (1,)]
    assert np.mean([contrast.p < 0.05 for contrast in changes]) <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 400)
    assert all((contrast.p < 0.05) == (not contrast.low <= 0 <= contrast.high) for contrast in changes)
