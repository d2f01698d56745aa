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

STUDIES = 1000

README = {"baseline": 2.59, "kl=0.001": 0.26, "kl=0.002": 0.28, "kl=0.003": 0.86, "kl=0.004": 1.02, "kl=0.005": 0.12,
          "kl=0.006": 0.75, "kl=0.007": 0.23, "kl=0.008": 0.28, "kl=0.009": 0.45}  # fmt: skip
"""Standard deviations of PSNR in a study of nine treatments whose baseline is unstable."""

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


@pytest.mark.parametrize(("seeds", "sds", "limit"), [(3, 1.0, 0.05), (5, 1.0, 0.05), (5, README, 0.056)])
def test_without_effects_one_study_of_twenty_has_a_verdict(make: Make, seeds: int, sds: Any, limit: float) -> None:
    study, rng = make(9, seeds), np.random.default_rng(seeds)
    truth = {"psnr": Truth(sds=sds)}
    wrong = [any(row["verdict"] in {"better", "worse"} for row in rows(study, rng, truth)) for _ in range(STUDIES)]
    assert 0 < np.mean(wrong) <= at_most(limit, STUDIES)


@pytest.mark.parametrize("seeds", [2, 3])
def test_values_in_steps_give_no_verdict_without_spread(make: Make, seeds: int) -> None:
    """The noise is of the size of a step, so that many differences are equal in all seeds."""
    study, rng = make(9, seeds), np.random.default_rng(1)
    found = [rows(study, rng, {"psnr": Truth(sds=0.3, step=1.0)}) for _ in range(300)]
    words = [row["verdict"] for one in found for row in one]
    assert words.count("no spread") > 10
    assert np.mean([any(row["verdict"] in {"better", "worse"} for row in one) for one in found]) <= at_most(
        0.05, STUDIES
    )
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


@pytest.mark.parametrize(("treatments", "seeds"), [(4, 3), (9, 5)])
def test_a_difference_as_large_as_printed_gets_its_verdict(make: Make, treatments: int, seeds: int) -> None:
    """What a study without effects prints is planted in one treatment of another study, 250 times."""
    study, rng = make(treatments, seeds), np.random.default_rng(treatments + seeds)
    label = study.labels[2]
    printed = [study.table(rng, {"psnr": Truth()}).json()["noise"]["detectable"] for _ in range(250)]
    told = [
        row["verdict"] == "better"
        for effect in printed
        for row in rows(study, rng, {"psnr": Truth(effects={label: effect})})
        if row["label"] == label
    ]
    assert len(told) == 250
    assert np.mean(told) + 0.02 >= 0.75 and np.mean(told) - 0.02 <= 0.85


@pytest.mark.parametrize("seeds", [3, 5])
def test_no_effect_is_wrong_in_one_of_twenty_rows_at_most(make: Make, seeds: int) -> None:
    """Every treatment has exactly the smallest effect of interest; the noise is small, where the test is most wrong."""
    study, rng = make(9, seeds), np.random.default_rng(7)
    effects = dict.fromkeys(study.labels[1:], 0.5)
    found = [row for _ in range(200) for row in rows(study, rng, {"psnr": Truth(sds=0.05, effects=effects)})]
    wrong = np.mean([row["verdict"].startswith("no effect") or row["negligible"] for row in found])
    assert 0.01 < wrong <= at_most(0.05, 200)


def test_no_effect_is_found_where_there_is_none(make: Make) -> None:
    study, rng = make(9, 5), np.random.default_rng(8)
    words = [row["verdict"] for _ in range(50) for row in rows(study, rng, {"psnr": Truth(sds=0.05)})]
    assert words.count("no effect ≥ 0.5 dB") > 0.9 * len(words)


def test_the_seeds_that_are_said_to_be_needed_find_the_effect_of_interest(make: Make) -> None:
    """With ten seeds and noise of 0.5 dB the study says how many seeds 0.5 dB needs; with as many it is found."""
    rng = np.random.default_rng(9)
    truth = Truth(sds=0.5)
    needed = [make(4, 10).table(rng, {"psnr": truth}).json()["noise"]["needed"] for _ in range(50)]
    study = make(4, int(np.median(needed)))
    label = study.labels[1]
    told = [
        rows(study, rng, {"psnr": Truth(sds=0.5, effects={label: 0.5})})[0]["verdict"] == "better" for _ in range(150)
    ]
    assert 0.75 <= np.mean(told) <= 0.95


@pytest.mark.parametrize(("sds", "limit", "gain"), [(1.0, 0.05, 1.3), (README, 0.056, 1.15)])
def test_moderation_finds_more_at_five_seeds(make: Make, sds: Any, limit: float, gain: float) -> None:
    """An effect of two standard deviations of the difference in one treatment, in 200 studies."""
    study, labels = make(9, 5), [f"kl=0.00{i}" for i in range(1, 10)]
    sd_of = {label: sds[label] if isinstance(sds, dict) else sds for label in ["baseline", *labels]}
    told = {False: 0, True: 0}
    for i in range(200):
        label = labels[i % 9]
        effect = 2 * math.hypot(sd_of["baseline"], sd_of[label])
        for moderated in told:
            found = rows(study, np.random.default_rng(i), {"psnr": Truth(sds=sds, effects={label: effect})},
                         moderated=moderated)  # fmt: skip
            told[moderated] += next(row["verdict"] == "better" for row in found if row["label"] == label)
    assert told[True] >= gain * told[False]
