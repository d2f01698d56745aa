"""Would the ranking be another one: Kendall's tau against SciPy, seeds drawn again by hand, a table that says so."""

import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from ablate.adaptive.recall import plan_study
from ablate.analysis.statistics.ranks import front
from ablate.analysis.statistics.stability import DRAWS, kendall, stability
from ablate.analysis.tables.build import build_table
from ablate.plan.trials import expand
from ablate.slots.settings import Metric
from ablate.store.folders import Store
from ablate.store.record import Record
from ablate.study.study import load_study
from tests.support.studies import Write

PSNR, FOLD = Metric("psnr", "dB", "up"), Metric("fold", "gl", "down")


NOWHERE = Store(Path("nowhere"))


def arms(values: np.ndarray) -> dict[str, dict[int, float]]:
    return {f"t{i}": dict(enumerate(row)) for i, row in enumerate(values.tolist())}


def test_kendall_is_scipys() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        a, b = rng.integers(0, 6, (2, 9))
        assert kendall(a, b) == pytest.approx(stats.kendalltau(a, b).statistic, rel=1e-8)
    assert math.isnan(kendall([1, 1, 1], [1, 2, 3]))


@pytest.mark.parametrize(("metric", "sign"), [(PSNR, 1), (FOLD, -1)])
def test_seeds_drawn_again_by_hand(metric: Metric, sign: int) -> None:
    """t1 has the best mean by one good seed; without it t0 is the best."""
    values = sign * np.array([[3.0, 3.0, 3.0], [9.0, 1.0, 2.0], [0.0, 0.1, 0.2]])
    found = stability(metric, arms(values), [], NOWHERE)
    assert found is not None
    wins, taus = 0, []
    for draw in itertools.product(range(3), repeat=3):
        means = sign * values[:, draw].mean(axis=1)
        wins += means[1] > means[0]
        taus.append(stats.kendalltau(sign * values.mean(axis=1), means).statistic)
    assert (found.best, found.draws, found.during) == ("t1", 27, {})
    assert found.stays == pytest.approx(wins / 27)
    assert found.tau == pytest.approx(np.nanmean(taus))


def test_many_seeds_are_drawn_at_random() -> None:
    values = np.random.default_rng(1).normal(0, 1, (3, 20)) + np.array([[0.0], [0.3], [-2.0]])
    found = stability(PSNR, arms(values), [], NOWHERE)
    differences = values[1] - values[0]
    expected = stats.norm.cdf(differences.mean() / (differences.std() / math.sqrt(20)))
    assert found and found.draws == DRAWS
    assert found.stays == pytest.approx(expected, abs=0.03)


@pytest.mark.parametrize("values", [np.eye(2, 3), np.eye(4, 1), np.ones((4, 3))], ids=["two", "one seed", "alike"])
def test_too_little_to_rank(values: np.ndarray) -> None:
    assert stability(PSNR, arms(values), [], NOWHERE) is None
    assert stability(Metric("m", "1", "none"), arms(np.ones((4, 4))), [], NOWHERE) is None


def test_the_front_by_hand() -> None:
    points = {"a": (3.0, 5.0), "b": (2.0, 4.0), "c": (2.0, 5.0), "d": (1.0, 1.0), "e": (3.0, 5.0)}
    assert front(points, (PSNR, FOLD)) == ["a", "b", "d", "e"]
    assert front(points, (PSNR, Metric("t", "1", "target", target=4.5))) == ["a", "e"]
    many = {str(i): tuple(row) for i, row in enumerate(np.random.default_rng(2).integers(0, 5, (40, 3)).tolist())}
    metrics = (PSNR, FOLD, Metric("n", "1", "up"))
    flipped = {label: (-x, y, -z) for label, (x, y, z) in many.items()}
    for label, mine in flipped.items():
        beaten = any(all(a <= b for a, b in zip(o, mine, strict=True)) and o != mine for o in flipped.values())
        assert (label in front(many, metrics)) != beaten


def test_the_table_says_it_of_seeds_and_of_training(write_study: Write, tmp_path: Path) -> None:
    """Early on the ranking is the reverse of the final one, later it is the same."""
    steps = "steps: 6, batch: 2, lr: 3e-3, log_every: 2, checkpoint_every: 3, probe_every: 2"
    study = load_study(
        write_study(("loss.kl: [1, 1e-4]", "loss.kl: [1, 1e-4, 1e-2, 1e-3]"), ("seeds: 2", "seeds: 3"),
                    (steps.removesuffix(", probe_every: 2"), steps))
    )  # fmt: skip
    store = Store(tmp_path / "store")
    order = ["kl=1", "kl=0.01", "kl=0.001", "baseline"]
    for trial in expand(study):
        place = order.index(trial.treatment.label)
        folder = store.stage(trial.signature)
        folder.root.mkdir(parents=True)
        psnr = {2: -place, 4: 0.5 * place + 0.01 * trial.seed, 6: 2 * place}
        lines = [{"step": step, "during/psnr": 20.0 + value} for step, value in psnr.items()]
        folder.steps.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
        values = {"psnr": 20.0 + 2 * place + 0.1 * trial.seed, "ssim": 1 - 0.1 * place}
        folder.finish(Record(trial.signature, trial.seed, "done", "", 6, values, probes=trial.probe_keys))
    table = build_table(plan_study(study, store), ["psnr", "ssim"])
    words = (
        "If seeds are resampled with replacement (27 draws), baseline stays the best in PSNR in 100% of the draws; "
        "Kendall’s τ with the ranking over all seeds is 1.00 on average; Kendall’s τ of the ranking during training "
        "with the final one is −1.00 at step 2, 1.00 at step 4, 1.00 at step 6."
    )
    assert words in table.markdown() and words in table.html()
    assert "Pareto front of the means in PSNR, SSIM: baseline, kl=1, kl=0.01, kl=0.001." in table.markdown()
    before = table.latex().partition(r"\begin{table}")[0]
    assert "% If seeds are resampled" in before
    found = json.loads(json.dumps(table.json(), allow_nan=False))
    assert found["stability"]["during"] == {"2": -1, "4": 1, "6": 1}
    assert found["front"] == ["baseline", "kl=1", "kl=0.01", "kl=0.001"]
