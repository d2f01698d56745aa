"""D-optimal fractions: against orthogonal arrays, against all subsets, and in another coding than the search's."""

import itertools
import math
import os
from collections.abc import Sequence

import numpy as np
import pytest

from ablate.errors import StudyError
from ablate.plan.estimable import describe_contrasts, describe_optimal
from ablate.plan.treatments import list_rows, treatments
from ablate.study import optimal
from ablate.study.optimal import Cell, Effect, Optimal, choose
from ablate.study.study import load_study
from tests.support.command import python
from tests.support.studies import Write

MIXED = (
    "factors:\n  loss.kl: [1, 1e-4]",
    "factors:\n  loss.kl: [1, 1e-2, 1e-4]\n  padding: [reflect, zeros, circular, replicate]\n  norm: [group, scn]\n"
    "  loss.l2: [1, 2]",
)


def anything(_: Cell) -> bool:
    return True


def dummies(cells: Sequence[Cell], counts: Sequence[int], pairs: Sequence[Effect] = ()) -> np.ndarray:
    """The model in dummy coding: a column is 1 where the factors of an effect have these levels, none of them 0."""
    effects = [(), *((i,) for i in range(len(counts))), *pairs]
    columns = [
        [float(all(cell[i] == level for i, level in zip(effect, levels, strict=True))) for cell in cells]
        for effect in effects
        for levels in itertools.product(*(range(1, counts[i]) for i in effect))
    ]
    return np.array(columns).T


def determinant(cells: Sequence[Cell], counts: Sequence[int], pairs: Sequence[Effect] = ()) -> float:
    model = dummies(cells, counts, pairs)
    return float(np.linalg.det(model.T @ model))


def grid(counts: Sequence[int]) -> list[Cell]:
    return list(itertools.product(*map(range, counts)))


def test_nine_runs_of_three_factors_are_as_good_as_a_latin_square() -> None:
    square = [(a, b, (a + b) % 3) for a in range(3) for b in range(3)]
    found = choose((3, 3, 3), 9, (), anything)
    assert determinant(found.runs, (3, 3, 3)) == pytest.approx(determinant(square, (3, 3, 3)))
    assert found.efficiency == pytest.approx(1)


def test_four_runs_of_three_factors_are_as_good_as_the_half_fraction() -> None:
    half = [(0, 0, 0), (0, 1, 1), (1, 0, 1), (1, 1, 0)]
    found = choose((2, 2, 2), 4, (), anything)
    assert determinant(found.runs, (2, 2, 2)) == pytest.approx(determinant(half, (2, 2, 2)))


@pytest.mark.parametrize(("counts", "runs"), [((3,) * 4, 9), ((4,) * 5, 16), ((2,) * 11, 12), ((2, 2, 2, 4), 8)])
def test_where_there_is_an_orthogonal_array_it_is_found(counts: tuple[int, ...], runs: int) -> None:
    """In L9, L16, Plackett and Burman's 12 runs and L8 each pair of levels of two factors is there equally often."""
    found = choose(counts, runs, (), anything)
    for i, j in itertools.combinations(range(len(counts)), 2):
        seen = np.zeros((counts[i], counts[j]))
        for cell in found.runs:
            seen[cell[i], cell[j]] += 1
        assert (seen == runs / seen.size).all()


@pytest.mark.parametrize(
    ("counts", "runs", "pairs", "forbidden"),
    [
        ((3, 2, 2), 5, (), ()),
        ((3, 2, 2), 8, ((0, 1),), ()),
        ((3, 4), 7, (), ()),
        ((3, 3, 2), 7, (), ()),
        ((3, 2, 2), 6, (), ((2, 1), (1, 0))),
        ((5, 3), 8, (), ((4, 2), (1, 1))),
        ((2, 4, 2), 9, ((0, 2),), ((1, 3),)),
    ],
)
def test_no_choice_of_a_small_grid_is_better(
    counts: tuple[int, ...], runs: int, pairs: tuple[Effect, ...], forbidden: tuple[Cell, ...]
) -> None:
    """Every subset with the baseline; `forbidden` are the first two levels of treatments that may not be."""
    cells = [cell for cell in grid(counts) if cell[:2] not in forbidden]
    model = dummies(cells, counts, pairs)
    subsets = [(0, *rest) for rest in itertools.combinations(range(1, len(cells)), runs - 1)]
    chosen = model[np.array(subsets)]
    best = np.linalg.det(chosen.transpose(0, 2, 1) @ chosen).max()
    found = choose(counts, runs, pairs, lambda cell: cell[:2] not in forbidden)
    assert determinant(found.runs, counts, pairs) == pytest.approx(best)
    assert not {cell[:2] for cell in found.runs} & {*forbidden}


@pytest.mark.parametrize(("counts", "runs", "pairs"), [((3, 4, 2), 9, ()), ((3, 4, 2), 14, ((0, 2),))])
def test_efficiency_is_that_against_the_full_grid(
    counts: tuple[int, ...], runs: int, pairs: tuple[Effect, ...]
) -> None:
    found, cells = choose(counts, runs, pairs, anything), grid(counts)
    size = dummies(cells, counts, pairs).shape[1]
    ratio = determinant(found.runs, counts, pairs) / determinant(cells, counts, pairs)
    assert found.efficiency == pytest.approx(ratio ** (1 / size) * len(cells) / runs)
    assert 0.8 < found.efficiency <= 1


def test_a_large_grid_is_searched_by_coordinates_nearly_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    """Against exchanges for any treatment. Two of three are forbidden, so that most steps in one factor are barred."""

    def allows(cell: Cell) -> bool:
        return (cell[0] + cell[1] + cell[2]) % 3 == 0

    found = choose((5, 10, 10, 2), 36, (), allows)
    assert found.runs[0] == (0,) * 4 and len({*found.runs}) == 36
    assert all(allows(cell) for cell in found.runs)
    monkeypatch.setattr(optimal, "EVERY", 1000)
    thorough = choose((5, 10, 10, 2), 36, (), allows)
    assert thorough.runs != found.runs
    assert found.efficiency > 0.95 * thorough.efficiency


def test_every_process_chooses_the_same() -> None:
    code = (
        "from ablate.study.optimal import choose\n"
        "print(choose((3, 4, 2, 2, 5), 16, [(0, 2)], lambda cell: cell[0] != cell[1] or not cell[0]).runs)\n"
        "print(choose((3, 4, 2, 5, 5, 3), 30, [], lambda cell: True).runs)"
    )

    def chosen(seed: str, threads: str) -> str:
        env = {**os.environ, "PYTHONHASHSEED": seed, "OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads}
        return python(code, env=env).stdout

    first = chosen("1", "1")
    assert first.count("\n") == 2
    assert chosen("2", "2") == first


@pytest.mark.parametrize(("counts", "runs", "pairs"), [((3, 3, 3), 9, ()), ((3, 2, 2, 2), 13, ((0, 1), (2, 3)))])
def test_aliases_are_the_effects_that_an_interaction_biases(
    counts: tuple[int, ...], runs: int, pairs: tuple[Effect, ...]
) -> None:
    """Independent: an interaction is planted, the model without it fitted by least squares."""
    found, rng = choose(counts, runs, pairs, anything), np.random.default_rng(0)
    aliases = found.aliases()
    assert {*aliases} == {*itertools.combinations(range(len(counts)), 2)} - {*pairs}
    for (i, j), biased in aliases.items():
        sizes = rng.normal(size=(counts[i], counts[j]))
        sizes -= sizes.mean(axis=0)
        sizes -= sizes.mean(axis=1, keepdims=True)
        values = np.array([sizes[cell[i], cell[j]] for cell in found.runs])
        fit = np.linalg.lstsq(dummies(found.runs, counts, pairs), values, rcond=None)[0]
        at_all = (dummies(grid(counts), counts, pairs) @ fit).reshape(counts)
        for effect in [*((k,) for k in range(len(counts))), *pairs]:
            means = at_all.mean(axis=tuple(k for k in range(len(counts)) if k not in effect))
            for axis in range(means.ndim):
                means = means - means.mean(axis=axis, keepdims=True)
            assert (abs(means).max() > 1e-9) == (effect in biased)


def test_a_study_runs_its_fraction_and_says_what_it_tells(write_study: Write) -> None:
    size = "design: fraction\nfraction: {runs: 12, interactions: [[norm, loss.kl]]}"
    where = "where: not (norm == 'scn' and padding == 'zeros')"
    study = load_study(write_study(MIXED, ("seeds: 2", f"{size}\n{where}\nseeds: 2")))
    rows = treatments(study)
    assert (len(rows), rows[0].label, rows[1].reference) == (12, "baseline", "baseline")
    assert not any(row.levels["norm"] == "scn" and row.levels["padding"] == "zeros" for row in rows)
    said = describe_contrasts(study, list_rows(study))
    assert said[0].startswith("D-optimal fraction: 12 of 48 treatments for 10 parameters; D-efficiency 0.")
    assert said[1].startswith("main effects, kl*norm, each adjusted")
    assert said[2].startswith("2 more than parameters")
    assert said[3].startswith("not estimated: kl*padding, kl*l2, padding*norm, padding*l2, norm*l2; partially aliased")


@pytest.mark.parametrize(
    ("key", "place", "words"),
    [
        ("fraction: {runs: 6}", "16:18", "6 runs cannot tell the 8 parameters of the model"),
        ("fraction: {runs: 6}", "16:18", "use 'runs' of at least 8"),
        ("fraction: {runs: 9, interactions: [[loss.kl, padding]]}", "16:18", "at least 14"),
        ("fraction: {runs: 48}", "16:18", "there are 48 treatments, all of which design 'grid' runs"),
        ("fraction: {resolution: 4}", "16:24", "'loss.kl' has 3; use 'runs' of at least 8"),
        ("fraction: {runs: 12, interactions: [[norm, lossl2]]}", "16:37", "did you mean 'loss.l2'?"),
        ("fraction: {runs: 12, interactions: [[norm, norm]]}", "16:37", "an interaction is of two factors"),
        ("fraction: {runs: 12}\nwhere: norm == 'group'", "16:18",
         "found no 12 treatments that 'where' allows and that tell the effect of norm"),
        ("fraction: {runs: 12, interactions: [[loss.l2, norm]]}\nwhere: norm == 'group' or loss.l2 == 2", "16:18",
         "tell the effect of norm, loss.l2, norm*loss.l2"),
        ("fraction: {runs: 24}\nwhere: norm == 'group'", "16:18", "there are 24 treatments, all of which"),
    ],
)  # fmt: skip
def test_fractions_that_cannot_be(write_study: Write, key: str, place: str, words: str) -> None:
    with pytest.raises(StudyError) as caught:
        load_study(write_study(MIXED, ("seeds: 2", f"seeds: 2\ndesign: fraction\n{key}")))
    (problem,) = caught.value.problems
    assert f"{problem.line}:{problem.column}" == place
    assert words in problem.message


def test_interactions_that_are_in_no_ones_way_are_told_apart_from_those_that_are() -> None:
    """In all treatments of three factors nothing is aliased; `runs` of a study are always fewer."""
    whole = Optimal((3, 2, 2), ((0,), (1,), (2,), (0, 1)), tuple(grid((3, 2, 2))))
    assert describe_optimal(whole, [*"abc"])[1:4] == [
        "main effects, a*b, each adjusted for the others by least squares",
        "5 more than parameters, to test whether what is taken to be nil is",
        "not estimated: a*c, b*c; clear of the above",
    ]


def test_a_grid_that_is_forbidden_but_for_a_few_treatments_is_told() -> None:
    counts = (10,) * 6
    with pytest.raises(ValueError, match=r"of 60000 treatments drawn .* the constraints leave \d+, fewer than 60 runs"):
        choose(counts, 60, (), lambda cell: math.prod(cell) == 9**6 or not any(cell))
