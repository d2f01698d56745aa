"""Dunnett's test against SciPy, against its own table of 1955 and against simulation."""

import math

import numpy as np
import pytest
from scipy import stats

from ablate.analysis.statistics.dunnett import _critical, _within, dunnett
from ablate.slots.settings import Metric
from tests.support.simulated import compare

PSNR = Metric("psnr", "dB", "up")


def arms(*rows: list[float]) -> dict[str, dict[int, float]]:
    return {f"t{i}" if i else "baseline": dict(enumerate(row)) for i, row in enumerate(rows)}


@pytest.mark.parametrize("sizes", [(3, 3), (3, 3, 3, 3), (6, 4, 3, 5), (5, *[3] * 12)])
def test_p_and_intervals_are_scipys(sizes: tuple[int, ...]) -> None:
    rng = np.random.default_rng(len(sizes))
    groups = [rng.normal(20 + 0.8 * i % 3, 1, n) for i, n in enumerate(sizes)]
    truth = stats.dunnett(*groups[1:], control=groups[0], rng=np.random.default_rng(0))
    interval = truth.confidence_interval(0.95)
    found = [*dunnett(arms(*(group.tolist() for group in groups))).values()]
    assert [change.mean for change in found] == pytest.approx(
        [group.mean() - groups[0].mean() for group in groups[1:]], rel=1e-8
    )
    assert [change.p for change in found] == pytest.approx(truth.pvalue.tolist(), abs=2e-3)  # SciPy's is by sampling
    width = interval.high - interval.low
    assert [change.high - change.low for change in found] == pytest.approx(width.tolist(), rel=0.02)


def test_one_comparison_is_the_t_test() -> None:
    a, b = np.random.default_rng(3).normal(0, 1, (2, 4))
    (found,) = dunnett(arms(a.tolist(), b.tolist())).values()
    truth = stats.ttest_ind(b, a)
    low, high = truth.confidence_interval(0.95)
    assert (found.low, found.high, found.p) == pytest.approx((low, high, truth.pvalue), rel=1e-8)


@pytest.mark.parametrize(
    ("k", "freedom", "critical"), [(2, 5, 3.03), (4, 10, 2.89), (9, 20, 2.95), (3, 60, 2.41), (1, 5, 2.57)]
)
def test_critical_values_of_the_published_table(k: int, freedom: int, critical: float) -> None:
    """C. W. Dunnett, "New tables for multiple comparisons with a control", Biometrics 20, 1964, two-sided 5 %."""
    assert _critical((math.sqrt(0.5),) * k, freedom, 0.05) == pytest.approx(critical, abs=0.011)


def test_the_probability_is_that_of_simulation() -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(0, 1, (200_000, 6)) / np.sqrt([3, 3, 3, 5, 2, 4])
    spread = np.sqrt(rng.chisquare(7, 200_000) / 7)
    t = np.abs(x[:, 1:] - x[:, :1]) / np.sqrt(1 / 3 + 1 / np.array([3, 3, 5, 2, 4])) / spread[:, None]
    loads = [math.sqrt(n / (n + 3)) for n in (3, 3, 5, 2, 4)]
    for limit in (1.0, 2.5, 4.0):
        assert _within(limit, loads, 7) == pytest.approx((t.max(axis=1) < limit).mean(), abs=0.004)


def test_where_nothing_differs_one_study_of_twenty_tells_something() -> None:
    rng = np.random.default_rng(2)
    critical, load = _critical((math.sqrt(0.5),) * 5, 12, 0.05), math.sqrt(2 / 3)
    studies = rng.normal(0, 1, (1000, 6, 3))
    means, sd = studies.mean(axis=2), np.sqrt(studies.var(axis=2, ddof=1).mean(axis=1))
    wrong = np.abs(means[:, 1:] - means[:, :1]).max(axis=1) > critical * load * sd
    assert wrong.mean() == pytest.approx(0.05, abs=3 * math.sqrt(0.05 * 0.95 / 1000))
    for study, told in zip(studies[:40], wrong, strict=False):
        assert any(change.p < 0.05 for change in dunnett(arms(*study.tolist())).values()) == told


def test_without_pairing_it_sees_what_three_pairs_cannot() -> None:
    rows = np.random.default_rng(4).normal(0, 1, (13, 3)) + np.array([[0.0], *[[0.0]] * 11, [4.5]])
    assert dunnett(arms(*rows.tolist()))["t12"].p < 0.01
    assert compare(PSNR, arms(*rows.tolist()), primary=True)["t12"].p_holm > 0.05


def test_what_cannot_be_compared() -> None:
    found = dunnett(arms([1.0, 2.0], [3.0], [], [math.inf, 1.0], [4.0, 5.0]))
    assert [found[f"t{i}"].n for i in range(1, 5)] == [1, 0, 2, 2]
    assert [math.isnan(found[f"t{i}"].p) for i in range(1, 5)] == [True, True, True, False]
    same = dunnett(arms([1.0, 1.0], [1.0, 1.0], [2.0, 2.0]))
    assert (same["t1"].p, same["t2"].low) == (1, 1)
    assert math.isnan(same["t2"].p), "equal values say nothing about chance"
