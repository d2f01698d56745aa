"""Fractional factorials: orthogonal columns, aliases, resolution, and the generators of published designs."""

import itertools
import math
from collections import Counter

import numpy as np
import pytest

from ablate.errors import StudyError
from ablate.plan.estimable import describe_contrasts, describe_fraction
from ablate.plan.treatments import list_rows, treatments
from ablate.study.fraction import Fraction, by_resolution, by_runs
from ablate.study.study import load_study
from tests.support.studies import Write

FACTORS = (
    "factors:\n  loss.kl: [1, 1e-4]",
    "factors:\n  loss.kl: [1, 1e-4]\n  norm: [group, scn]\n  padding: [reflect, zeros]\n  loss.l2: [1, 2]",
)


SIZES = [
    (factors, runs) for runs in (4, 8, 16, 32, 64) for factors in range(3, 12) if runs.bit_length() <= factors < runs
]


def signs(fraction: Fraction) -> np.ndarray:
    """Columns of -1 and 1 `runs factors`."""
    return 2 * np.array(fraction.runs) - 1


@pytest.mark.parametrize(("factors", "runs"), SIZES)
def test_columns_are_orthogonal_balanced_and_hold_the_baseline(factors: int, runs: int) -> None:
    found = by_runs(factors, runs)
    columns = signs(found)
    assert columns.shape == (runs, factors)
    assert len(set(found.runs)) == runs
    assert found.runs[0] == (0,) * factors
    np.testing.assert_array_equal(columns.T @ columns, runs * np.eye(factors))
    assert not columns.sum(axis=0).any()


@pytest.mark.parametrize(("factors", "runs"), [size for size in SIZES if size[0] < 9])
def test_aliases_and_resolution_are_those_of_the_columns_themselves(factors: int, runs: int) -> None:
    """Independent: two effects are aliased where the products of their columns are equal or opposite in every run."""
    found = by_runs(factors, runs)
    columns = signs(found)
    effects = [effect for size in (1, 2) for effect in itertools.combinations(range(factors), size)]
    products = {effect: columns[:, effect].prod(axis=1) for effect in effects}
    group = {effect: i for i, members in enumerate(found.aliases()) for effect in members}
    assert sorted(group) == sorted(effects)
    for a, b in itertools.combinations(effects, 2):
        assert (abs(products[a] @ products[b]) == runs) == (group[a] == group[b])
    constant = [
        size
        for size in range(1, factors + 1)
        for effect in itertools.combinations(range(factors), size)
        if abs(columns[:, effect].prod(axis=1).sum()) == runs
    ]
    assert found.resolution == min(constant)
    assert Counter(constant) == Counter(word.bit_count() for word in found.words)


BOX_HUNTER_HUNTER = {
    # (factors, runs): resolution, generators (Box, Hunter and Hunter, Statistics for Experimenters, 1978, table 12.15)
    (3, 4): (3, ["AB"]),
    (4, 8): (4, ["ABC"]),
    (5, 8): (3, ["AB", "AC"]),
    (6, 8): (3, ["AB", "AC", "BC"]),
    (7, 8): (3, ["AB", "AC", "BC", "ABC"]),
    (5, 16): (5, ["ABCD"]),
    (6, 16): (4, ["ABC", "BCD"]),
    (7, 16): (4, ["ABC", "BCD", "ACD"]),
    (8, 16): (4, ["BCD", "ACD", "ABC", "ABD"]),
    (9, 16): (3, ["ABC", "BCD", "ACD", "ABD", "ABCD"]),
    (10, 16): (3, ["ABC", "BCD", "ACD", "ABD", "ABCD", "AB"]),
    (11, 16): (3, ["ABC", "BCD", "ACD", "ABD", "ABCD", "AB", "AC"]),
    (6, 32): (6, ["ABCDE"]),
    (7, 32): (4, ["ABCD", "ABDE"]),
    (8, 32): (4, ["ABC", "ABD", "BCDE"]),
    (9, 32): (4, ["BCDE", "ACDE", "ABDE", "ABCE"]),
    (10, 32): (4, ["ABCD", "ABCE", "ABDE", "ACDE", "BCDE"]),
    (7, 64): (7, ["ABCDEF"]),
    (8, 64): (5, ["ABCD", "ABEF"]),
}


@pytest.mark.parametrize(("size", "published"), BOX_HUNTER_HUNTER.items())
def test_no_published_design_of_the_size_is_better(size: tuple[int, int], published: tuple[int, list[str]]) -> None:
    """The resolution is the published one, and there are no more of the shortest words than in the published design."""
    factors, runs = size
    resolution, generators = published
    basic = runs.bit_length() - 1
    theirs = Fraction(
        tuple(1 << i for i in range(basic)) + tuple(sum(1 << "ABCDEF".index(c) for c in g) for g in generators)
    )
    ours = by_runs(factors, runs)
    assert ours.resolution == theirs.resolution == resolution

    def lengths(fraction: Fraction) -> list[int]:
        counts = Counter(word.bit_count() for word in fraction.words)
        return [counts[size] for size in range(3, factors + 1)]

    assert lengths(ours) <= lengths(theirs)


@pytest.mark.parametrize(
    ("size", "pattern"),
    # Numbers of words of length 4, 5, 6 of minimum aberration designs (Chen, Sun and Wu 1993, tables 3 and 4).
    {(9, 32): (6, 8, 0), (10, 32): (10, 16, 0), (11, 32): (25, 0, 27), (9, 64): (1, 4, 2), (10, 64): (2, 8, 4),
     (11, 64): (4, 14, 8), (12, 64): (6, 24, 16), (13, 64): (14, 28, 24)}.items(),
)  # fmt: skip
def test_aberration_is_the_least_known(size: tuple[int, int], pattern: tuple[int, ...]) -> None:
    counts = Counter(word.bit_count() for word in by_runs(*size).words)
    assert (counts[3], *(counts[length] for length in (4, 5, 6))) == (0, *pattern)


@pytest.mark.parametrize(
    ("factors", "resolution", "runs"),
    [
        (3, 3, 4),
        (4, 4, 8),
        (5, 3, 8),
        (5, 5, 16),
        (6, 4, 16),
        (7, 3, 8),
        (7, 4, 16),
        (8, 4, 16),
        (8, 5, 64),
        (9, 4, 32),
    ],
)
def test_the_smallest_fraction_of_a_resolution(factors: int, resolution: int, runs: int) -> None:
    found = by_resolution(factors, resolution)
    assert len(found.runs) == runs and found.resolution >= resolution


def test_a_fraction_estimates_the_effects_that_were_planted() -> None:
    """Main effects of a 2^(5-1) of resolution V by contrast are exact in the presence of two-factor interactions."""
    columns = signs(by_resolution(5, 5))
    rng = np.random.default_rng(0)
    sizes = rng.normal(size=5)
    pairs = {pair: rng.normal() for pair in itertools.combinations(range(5), 2)}
    y = columns @ sizes + sum(size * columns[:, pair].prod(axis=1) for pair, size in pairs.items())
    np.testing.assert_allclose(columns.T @ y / len(y), sizes, atol=1e-12)
    for pair, size in pairs.items():
        assert math.isclose(columns[:, pair].prod(axis=1) @ y / len(y), size, abs_tol=1e-12)


def test_the_words_for_a_half_fraction() -> None:
    assert describe_fraction(by_runs(4, 8), ["kl", "norm", "padding", "adversarial"]) == [
        "fraction 2^(4-1) of resolution IV: 8 of 16 treatments, adversarial = kl*norm*padding",
        "main effects clear of two-factor interactions, some of which are aliased with each other",
        "kl*norm aliased with padding*adversarial",
        "kl*padding aliased with norm*adversarial",
        "kl*adversarial aliased with norm*padding",
        "interactions of more factors are taken to be nil",
    ]
    third = describe_fraction(by_runs(3, 4), ["a", "b", "c"])
    assert third[1].startswith("main effects, each aliased")
    assert third[2:5] == ["a aliased with b*c", "b aliased with a*c", "c aliased with a*b"]
    assert describe_fraction(by_runs(5, 16), list("abcde"))[1:-1] == [
        "main effects and two-factor interactions, clear of each other"
    ]


def test_a_study_runs_its_fraction(write_study: Write) -> None:
    study = load_study(write_study(FACTORS, ("seeds: 2", "design: fraction\nfraction: {resolution: 4}\nseeds: 2")))
    rows = treatments(study)
    assert (rows[0].label, rows[0].reference, rows[1].design, rows[1].reference) == (
        "baseline",
        None,
        "fraction",
        "baseline",
    )
    assert [tuple(int(path in row.changed) for path in row.levels) for row in rows] == by_runs(4, 8).runs
    assert rows[1].label == "padding=zeros l2=2"
    assert "kl*norm aliased with padding*l2" in describe_contrasts(study, list_rows(study))
    runs = load_study(write_study(FACTORS, ("seeds: 2", "design: fraction\nfraction: {runs: 8}\nseeds: 2")))
    assert [row.label for row in treatments(runs)] == [row.label for row in rows]


@pytest.mark.parametrize("runs", [8, 16])
def test_interactions_that_it_cannot_tell_are_refused(write_study: Write, runs: int) -> None:
    """Independent: the product of two columns must be no other effect's column, in any run's sign."""
    more = "\n  stages.train.ema: [0.9, 0.999]\n  upsample: [nearest_conv, pixel_shuffle]"
    columns = signs(by_runs(6, runs))
    effects = [effect for size in (1, 2) for effect in itertools.combinations(range(6), size)]
    products = {effect: columns[:, effect].prod(axis=1) for effect in effects}
    paths = ["loss.kl", "norm", "padding", "loss.l2", "stages.train.ema", "upsample"]
    refused = 0
    for a, b in itertools.combinations(range(6), 2):
        told = [e for e in effects if e != (a, b) and abs(products[e] @ products[a, b]) == runs]
        key = f"design: fraction\nfraction: {{runs: {runs}, interactions: [[{paths[b]}, {paths[a]}]]}}"
        path = write_study((FACTORS[0], FACTORS[1] + more), ("seeds: 2", f"{key}\nseeds: 2"))
        if not told:
            load_study(path)
            continue
        refused += 1
        with pytest.raises(StudyError) as error:
            load_study(path)
        assert f"{runs} runs cannot tell {paths[b]}*{paths[a]} from " in str(error.value)
        assert all("*".join(paths[i] for i in other) in str(error.value) for other in told)
    assert refused > 0


@pytest.mark.parametrize(
    ("key", "place", "words"),
    [
        ("fraction: {resolution: 5}", "16:24",
         "no fraction of 4 factors has resolution 5, 4 at most, in 8 runs; all 16 treatments are design 'grid'"),
        ("fraction: {runs: 12}", "16:18", "expected a power of two, found 12; did you mean 8 or 16?"),
        ("fraction: {runs: 16}", "16:18", "16 runs are no fraction: 4 factors have 16 treatments"),
        ("fraction: {runs: 4}", "16:18", "4 runs cannot tell the main effects of 4 factors apart: the least is 8"),
        ("fraction: {resolution: 2}", "16:24",
         "fraction.resolution: expected a number of at least 3, found 2"),
        ("fraction: {resolutoin: 4}", "16:12", "unknown key 'fraction.resolutoin'; did you mean 'resolution'?"),
        ("fraction: {resolution: 4, runs: 8}", "16:11", "either 'resolution' or 'runs', found both"),
        ("fraction: {runs: 8, interactions: [[norm, lossl2]]}", "16:36",
         "'lossl2' is no factor; did you mean 'loss.l2'?"),
        ("fraction: {runs: 8, interactions: [[norm, norm]]}", "16:36", "an interaction is of two factors"),
        ("paper: null", "15:9", "design 'fraction' needs the key 'fraction', such as {resolution: 4} or {runs: 8}"),
    ],
)  # fmt: skip
def test_fractions_that_cannot_be(write_study: Write, key: str, place: str, words: str) -> None:
    with pytest.raises(StudyError) as caught:
        load_study(write_study(FACTORS, ("seeds: 2", f"seeds: 2\ndesign: fraction\n{key}")))
    (problem,) = caught.value.problems
    assert f"{problem.line}:{problem.column}" == place
    assert words in problem.message


def test_a_fraction_wants_another_level_of_each_factor_and_every_factor_in_every_run(write_study: Write) -> None:
    size = ("seeds: 2", "design: fraction\nfraction: {resolution: 3}\nseeds: 2")
    levels = ("loss.kl: [1, 1e-4]", "loss.kl: [1e-4]\n  norm: [group, scn]\n  padding: [reflect, zeros]")
    with pytest.raises(StudyError, match=r"needs a level besides the baseline's; 'loss.kl' has none"):
        load_study(write_study(levels, size))
    levels = ("loss.kl: [1, 1e-4]", "norm.interp: [bilinear]\n  norm: [group, scn]\n  padding: [reflect, zeros]")
    with pytest.raises(StudyError, match=r"'norm.interp' exists with some levels only"):
        load_study(write_study(levels, size))
    with pytest.raises(StudyError, match="'fraction' is for design 'fraction', not 'one_at_a_time'"):
        load_study(write_study(("seeds: 2", "fraction: {resolution: 3}\nseeds: 2")))
