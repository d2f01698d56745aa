"""Shares that docs/statistics.md states, and that no table prints: each is simulated as the text describes it."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from ablate.analysis.statistics import blocks, moderation
from ablate.analysis.statistics.factorial import decompose
from ablate.analysis.statistics.moderation import fit_moderation
from tests.support.simulated import LADDER, STAR, UNSTABLE

Numbers = NDArray[np.float64]


def t_test(differences: Numbers) -> tuple[Numbers, Numbers]:
    """t and two-sided p of the mean over the last axis."""
    n = differences.shape[-1]
    t = differences.mean(-1) / (differences.std(-1, ddof=1) / math.sqrt(n))
    return t, 2 * stats.t.sf(np.abs(t), n - 1)


def reproduced(differences: Numbers) -> NDArray[np.bool_]:
    """Whether the 95 % interval of the mean over the last axis lies above 0."""
    t, p = t_test(differences)
    return (p < 0.05) & (t > 0)


def near(share: float, studies: int, digits: float) -> object:
    """A documented share, up to its last digit and three standard errors of a simulation."""
    return pytest.approx(share, abs=digits / 2 + 3 * math.sqrt(share * (1 - share) / studies))


def test_a_percentile_bootstrap_of_three_seeds_covers_three_quarters() -> None:
    """Of its 27 resamples one in 27 is the smallest value three times, so the interval is that of the values."""
    values = np.random.default_rng(0).standard_normal((2000, 3))
    resamples = np.stack(np.meshgrid(*[range(3)] * 3)).reshape(3, -1)
    low, high = np.quantile(values[:, resamples].mean(1), [0.025, 0.975], axis=1, method="inverted_cdf")
    assert np.mean((low <= 0) & (high >= 0)) == near(0.75, 2000, 0.01)


@pytest.mark.parametrize(("seeds", "share"), [(3, 0.06), (5, 0.14), (10, 0.43)])
def test_survivors_alone_would_be_better(seeds: int, share: float) -> None:
    """Of a treatment without effect the trials with the worst 40 % of the differences diverge."""
    differences = np.sort(np.random.default_rng(seeds).standard_normal((40_000, seeds)))
    assert reproduced(differences[:, round(0.4 * seeds) :]).mean() == near(share, 40_000, 0.01)


@pytest.mark.parametrize(("seeds", "share"), [(2, 0.019), (3, 0.017), (5, 0.011)])
def test_a_claim_needs_all_trials_to_survive(seeds: int, share: float) -> None:
    """Each trial of A diverges if it is among the worst 40 % of all."""
    rng = np.random.default_rng(seeds)
    a, b = rng.standard_normal((2, 100_000, seeds))
    survive = (a > stats.norm.ppf(0.4)).all(1)
    assert (survive & reproduced(a - b)).mean() == near(share, 100_000, 0.001)


def contexts(count: int, below: float = 0.0) -> tuple[Numbers, Numbers]:
    """A and B of 100,000 studies, `studies contexts seeds`, without effect; their seeds share nothing.

    The truth is `below` standard errors under the bound of a requirement, which is 0.
    """
    a, b = np.random.default_rng(count).standard_normal((2, 100_000, count, 3)) - below / math.sqrt(3)
    return a, b


def test_averaging_the_contexts_that_show_an_artifact_would_select() -> None:
    a, b = contexts(4)
    there = b.mean(2) >= 0
    seen = there.any(1)
    differences = np.average(b[seen] - a[seen], axis=1, weights=np.broadcast_to(there[seen][:, :, None], b[seen].shape))
    assert reproduced(differences).mean() == near(0.06, len(differences), 0.01)


@pytest.mark.parametrize(
    ("below", "judged", "right_side", "other_side"), [(0.0, 0.5, 0.045, 0.004), (1.0, stats.norm.sf(1), 0.087, 0.001)]
)
def test_a_requirement_by_the_metric_that_is_judged_selects(
    below: float, judged: float, right_side: float, other_side: float
) -> None:
    a, b = (side[:, 0] for side in contexts(1, below))
    there = b.mean(1) >= 0
    count = int(there.sum())
    assert count / 100_000 == near(judged, 100_000, 0.0)
    assert reproduced((b - a)[there]).mean() == near(right_side, count, 0.001)
    assert reproduced((a - b)[there]).mean() == near(other_side, count, 0.001)
    assert (there & reproduced(b - a)).mean() <= 0.025


@pytest.mark.parametrize("seeds", [3, 5])
def test_pooled_errors_would_call_changes_between_noisy_treatments_too_often(
    seeds: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of four levels two have errors and two have none."""
    monkeypatch.setattr(blocks, "NOISIER", 0.0)  # so that all contrasts have the pooled error
    rng = np.random.default_rng(seeds)
    places = [(a, b) for a in range(4) for b in range(3)]
    noise = np.array([place[0] in {0, 1} for place in places])[:, None]
    wrong = 0
    for _ in range(600):
        values = noise * rng.normal(0, 1, (12, seeds))
        found = decompose(places, [dict(enumerate(row)) for row in values.tolist()])
        wrong += next(one.p for one in found.terms[0].contrasts if one.levels == (1,)) < 0.05
    assert wrong / 600 == near(0.165, 600, 0.01)


def differences(sds: Numbers, references: list[int], seeds: int, studies: int) -> Numbers:
    """Differences of nine treatments without effect, `studies treatments seeds`."""
    values = np.random.default_rng(1).standard_normal((studies, 10, seeds)) * sds[:, None]
    return values[:, 1:] - values[:, references]


def p_of_holm(means: Numbers, variances: Numbers, df: Numbers, seeds: int) -> tuple[Numbers, Numbers]:
    """p and Holm's adjusted p of each row."""
    p = 2 * stats.t.sf(np.abs(means) / np.sqrt(variances / seeds), df)
    order = p.argsort(1)
    steps = np.maximum.accumulate(np.take_along_axis(p, order, 1) * np.arange(p.shape[1], 0, -1), 1)
    adjusted = np.empty_like(p)
    np.put_along_axis(adjusted, order, steps, 1)
    return p, adjusted


def squeezed(variances: Numbers, df: int) -> tuple[Numbers, Numbers]:
    """Variances and degrees of freedom by the rule of the code, each study by itself."""
    rows = []
    for own in variances:
        prior = fit_moderation(own, df)
        rows.append(prior.squeeze(own, df) if prior else (own, np.full(len(own), df)))
    return np.array([row[0] for row in rows]), np.array([row[1] for row in rows], float)


@pytest.mark.parametrize(
    ("sds", "references", "plain", "moderated"),
    [
        (np.ones(10), STAR, (0.044, 0.050, 0.40), (0.049, 0.052, 0.83)),
        (UNSTABLE, STAR, (0.018, 0.049, 0.40), (0.056, 0.096, 0.87)),
        (UNSTABLE, LADDER, (0.046, 0.052, 0.40), (0.056, 0.068, 0.50)),
        (np.array([1.0, 4.0] * 5), STAR, (0.046, 0.050, 0.40), (0.066, 0.073, 0.56)),
    ],
)
def test_the_table_of_moderated_variances(
    sds: Numbers, references: list[int], plain: tuple[float, ...], moderated: tuple[float, ...]
) -> None:
    """False verdicts, the worst row before correction, and the share of effects of 2 sd of their difference found."""
    studies = 2000
    null = differences(sds, references, 5, studies)
    means = null.mean(2)
    own = null.var(2, ddof=1)
    row = np.arange(studies) % 9
    planted = means.copy()
    planted[np.arange(studies), row] += 2 * np.hypot(sds[1:], sds[references])[row]
    for (variances, df), expected in (((own, np.full(own.shape, 4.0)), plain), (squeezed(own, 4), moderated)):
        p, adjusted = p_of_holm(means, variances, df, 5)
        found = p_of_holm(planted, variances, df, 5)[1][np.arange(studies), row]
        seen = ((adjusted < 0.05).any(1).mean(), (p < 0.05).mean(0).max(), (found < 0.05).mean())
        assert seen[0] == near(expected[0], studies, 0.001), seen
        assert seen[1] == near(expected[1], studies, 0.01), "the worst of nine"
        assert seen[2] == near(expected[2], studies, 0.01), seen


def test_at_three_seeds_moderation_and_pooling_would_be_wrong_too_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moderation, "FEWEST_PAIRS", 3)
    null = differences(UNSTABLE, LADDER, 3, 2000)
    own = null.var(2, ddof=1)
    pooled = np.broadcast_to(own.mean(1, keepdims=True), own.shape)
    for (variances, df), share in ((squeezed(own, 2), 0.08), ((pooled, np.full(own.shape, 18.0)), 0.25)):
        adjusted = p_of_holm(null.mean(2), variances, df, 3)[1]
        assert (adjusted < 0.05).any(1).mean() == near(share, 2000, 0.01)
