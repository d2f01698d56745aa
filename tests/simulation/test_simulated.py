"""Simulated studies with a known truth, through the table that `ablate table --json` prints.

Shares of 1,000 studies have a standard error of up to 0.007 near 5 % and 0.013 near 80 %; limits allow for two of them.
"""

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest

from tests.support.simulated import Numbers, Simulated, Truth, simulated

Make = Callable[[int, int], Simulated]


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Make:
    return cache(lambda treatments, seeds: simulated(tmp_path_factory.mktemp("study"), treatments, seeds))


def at_most(share: float, count: int) -> float:
    """The limit of an observed share whose truth is `share` at most."""
    return share + 2 * math.sqrt(share * (1 - share) / count)


def rows(study: Simulated, rng: np.random.Generator, *args: Any, **options: Any) -> list[dict[str, Any]]:
    """The cells of PSNR of all treatments but the baseline, of one drawn study."""
    found = study.table(rng, *args, **options).json()["rows"]
    return [{"label": row["label"], **row["cells"]["psnr"]} for row in found[1:]]


@pytest.mark.parametrize(("seeds", "studies"), [(3, 1000), (5, 200)])
def test_without_effects_one_study_of_twenty_has_a_verdict(make: Make, seeds: int, studies: int) -> None:
    study, rng = make(9, seeds), np.random.default_rng(seeds)
    found = [rows(study, rng, {"psnr": Truth()}) for _ in range(studies)]
    wrong = [any(row["verdict"] in {"better", "worse"} for row in one) for one in found]
    assert 0 < np.mean(wrong) <= at_most(0.05, studies)


@pytest.mark.parametrize("seeds", [2, 3])
def test_values_in_steps_give_no_verdict_without_spread(make: Make, seeds: int) -> None:
    """The noise is of the size of a step, so that many differences are equal in all seeds."""
    study, rng = make(9, seeds), np.random.default_rng(1)
    found = [rows(study, rng, {"psnr": Truth(sds=0.3, step=1.0)}) for _ in range(300)]
    words = [row["verdict"] for one in found for row in one]
    assert words.count("no spread") > 10
    wrong = [any(row["verdict"] in {"better", "worse"} for row in one) for one in found]
    assert np.mean(wrong) <= at_most(0.05, len(wrong))
    assert not [row for one in found for row in one if row["p"] == 0 or row["p_holm"] == 0]


@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_divergence_by_luck_makes_nothing_better(make: Make, seeds: int) -> None:
    """A treatment without effect loses its worst 40 % of trials or, in the second law, each trial in the worst 40 %."""
    study, rng = make(1, seeds), np.random.default_rng(seeds)
    (label,) = study.labels[1:]

    def worst(row: Numbers) -> Any:
        return row < np.sort(row)[round(0.4 * len(row))]

    def unlucky(row: Numbers) -> Any:
        return row < 20 - 0.2533  # 40 % of normal numbers

    words = {law: [rows(study, rng, {"psnr": Truth(shared=0.0)}, {label: law})[0]["verdict"] for _ in range(200)]
             for law in (worst, unlucky)}  # fmt: skip
    assert set(words[worst]) == {f"diverges {round(0.4 * seeds)}/{seeds}"}
    assert words[unlucky].count("better") / 200 <= at_most(0.025, 200)


@pytest.mark.parametrize(("treatments", "seeds", "studies"), [(4, 3, 250), (9, 5, 120)])
def test_a_difference_as_large_as_printed_gets_its_verdict(
    make: Make, treatments: int, seeds: int, studies: int
) -> None:
    """What a study without effects prints is planted in one treatment of another study."""
    study, rng = make(treatments, seeds), np.random.default_rng(treatments + seeds)
    label = study.labels[2]
    printed = [study.table(rng, {"psnr": Truth()}).json()["noise"]["detectable"] for _ in range(studies)]
    told = [
        row["verdict"] == "better"
        for effect in printed
        for row in rows(study, rng, {"psnr": Truth(effects={label: effect})})
        if row["label"] == label
    ]
    assert len(told) == studies
    error = math.sqrt(0.8 * 0.2 / studies)
    assert 0.75 - error <= np.mean(told) <= 0.85 + error


@pytest.mark.parametrize("seeds", [3, 5])
def test_no_effect_is_wrong_in_one_of_twenty_rows_at_most(make: Make, seeds: int) -> None:
    """Every treatment has exactly the smallest effect of interest; the noise is small, where the test is most wrong."""
    study, rng = make(9, seeds), np.random.default_rng(7)
    effects = dict.fromkeys(study.labels[1:], 0.5)
    count = {3: 200, 5: 60}[seeds]
    found = [row for _ in range(count) for row in rows(study, rng, {"psnr": Truth(sds=0.05, effects=effects)})]
    wrong = np.mean([row["verdict"].startswith("no effect") or row["negligible"] for row in found])
    assert 0.01 < wrong <= at_most(0.05, count)


def test_no_effect_is_found_where_there_is_none(make: Make) -> None:
    study, rng = make(9, 5), np.random.default_rng(8)
    words = [row["verdict"] for _ in range(20) for row in rows(study, rng, {"psnr": Truth(sds=0.05)})]
    assert words.count("no effect ≥ 0.5 dB") > 0.9 * len(words)


def test_the_seeds_that_are_said_to_be_needed_find_the_effect_of_interest(make: Make) -> None:
    """With ten seeds and noise of 0.5 dB the study says how many seeds 0.5 dB needs; with as many it is found."""
    rng = np.random.default_rng(9)
    truth = Truth(sds=0.5)
    needed = [make(4, 10).table(rng, {"psnr": truth}).json()["noise"]["needed"] for _ in range(20)]
    study = make(4, int(np.median(needed)))
    label = study.labels[1]
    told = [
        rows(study, rng, {"psnr": Truth(sds=0.5, effects={label: 0.5})})[0]["verdict"] == "better" for _ in range(80)
    ]
    assert 0.75 <= np.mean(told) <= 0.95
