"""What chance does to claims, in simulated studies with a known truth that go through the table's JSON."""

import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from ablate.adaptive.recall import plan_study
from ablate.analysis import papers
from ablate.analysis.papers import Paper
from ablate.analysis.statistics.claims import Claim, Requirement
from ablate.analysis.statistics.multiplicity import benjamini_hochberg, benjamini_yekutieli, chance_of_trend
from ablate.analysis.tables.build import build_table
from ablate.plan.plan import Plan
from ablate.store.folders import Store
from ablate.study.study import load_study
from tests.support.claims import claim
from tests.support.studies import Write

METRICS = ("psnr", "color/dE00", "color/bias_norm", "color/db", "color/gain_r", "color/offset_g", "color/dE00_const",
           "spec/hf_tail", "spec/gap_to_rgb", "spec/slope", "spec/kl_rise", "spec/sec50")  # fmt: skip
"""Each is drawn independently, so that a table holds as many studies."""

LEVEL = 50.0
"""Of all metrics, far from every target."""


def planned(write_study: Write, folder: Path, factors: str, seeds: int = 3) -> Plan:
    texts = (("loss.kl: [1, 1e-4]", factors), ("seeds: 2", f"seeds: {seeds}"))
    probes = ("probes: [reconstruction]", "probes: [reconstruction, color, spectrum]")
    return plan_study(load_study(write_study(*texts, probes)), Store(folder / "store"))


def results(plan: Plan, monkeypatch: pytest.MonkeyPatch, *claims: Claim) -> Callable[[Mapping[str, Any]], Any]:
    """What the table's JSON says about these claims; given metric -> values, `treatments seeds`, NaN where diverged."""
    monkeypatch.setattr(papers, "load", lambda name: Paper("P", "2025", {}, claims))
    labels = [treatment.label for treatment in plan.treatments]
    seeds = plan.study.seeds
    trials = {
        "treatment": np.repeat(labels, len(seeds)),
        "seed": np.tile(seeds, len(labels)),
        "code": [{}] * (len(labels) * len(seeds)),
        "content": [{}] * (len(labels) * len(seeds)),
    }

    def of(values: Mapping[str, Any]) -> Any:
        columns = {name: np.ravel(values[name]) if name in values else math.nan for name in plan.study.metrics}
        lost = np.isnan(next(iter(values.values()))).ravel()
        frame = pd.DataFrame({**trials, "status": np.where(lost, "diverged", "done"), **columns})
        return build_table(plan, paper="any", frame=frame).json()

    return of


def rates(verdicts: list[str]) -> dict[str, float]:
    return {word: verdicts.count(word) / len(verdicts) for word in ("reproduced", "opposite", "inconclusive")}


def above(share: float, count: int) -> float:
    """A bound that a share of this expectation stays below in 999 of 1000 simulations."""
    return share + 3.1 * math.sqrt(share * (1 - share) / count)


GRID = "loss.kl: [1e-4, 1e-3, 1e-2, 1e-1]\n  padding: [reflect, zeros]\ndesign: grid"


def null_claims() -> Iterator[Claim]:
    """Of each metric: orders in 2 and 4 contexts, one at its requirement's bound, a trend, equality, one treatment."""
    most, least = {"loss.kl": 0.1}, {"loss.kl": 0.0001}
    zeros, reflect = {"padding": "zeros"}, {"padding": "reflect"}
    for name in METRICS:
        at_bound = (Requirement(name, at_least=LEVEL),)
        yield claim(most, least, id=f"{name} order", metric=name, of="value")
        yield claim(zeros, reflect, "A below B", id=f"{name} padding", metric=name, of="value")
        yield claim(zeros, reflect, "A below B", id=f"{name} bound", metric=name, of="value", requires=at_bound)
        yield claim(most, least, id=f"{name} trend", metric=name, along="loss.kl", of="value")
        yield claim(most, least, "A equals B", id=f"{name} equal", metric=name, margin=0.5)
        yield claim(zeros, LEVEL, id=f"{name} one", metric=name, of="value")


def test_a_thousand_studies_without_any_effect(
    write_study: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wrong verdicts in at most 2.5 % on either side, and as many as printed, over claims and over contexts."""
    plan = planned(write_study, tmp_path, GRID)
    judged = results(plan, monkeypatch, *null_claims())
    rng = np.random.default_rng(3)
    verdicts: dict[str, list[str]] = {}
    contexts: dict[str, list[str]] = {}
    printed = {"claims": 0.0, "contexts": 0.0}
    tables = 84
    for _ in range(tables):
        shape = (len(plan.treatments), 3)
        found = judged({name: LEVEL + rng.normal(0, 1, 3) + rng.normal(0, 1, shape) for name in METRICS})
        for row in found["claims"]:
            kind = row["id"].split()[1]
            verdicts.setdefault(kind, []).append(row["verdict"])
            contexts.setdefault(kind, []).extend(one["verdict"] for one in row["contexts"])
        for part in printed:
            printed[part] += found["claims_by_chance"][part]["by_chance"]

    studies = tables * len(METRICS)
    assert studies > 1000
    one = {"order", "padding", "bound", "trend", "one"}
    for kind in one:
        for seen in (verdicts[kind], contexts[kind]):
            share = rates(seen)
            assert share["reproduced"] < above(0.025, len(seen)), (kind, share)
            assert share["opposite"] < above(0.025, len(seen)), (kind, share)
    assert rates(verdicts["trend"])["reproduced"] < 0.012, "every step must agree as well"
    assert rates(verdicts["equal"])["opposite"] < 0.012, "beyond the margin"

    # A claim of equality is rightly reproduced; at its requirement's bound, selection makes a claim wrong more often.
    for part, seen in (("claims", verdicts), ("contexts", contexts)):
        wrong = sum(words.count(word) for kind, words in seen.items() for word in ("reproduced", "opposite")
                    if (kind, word) != ("equal", "reproduced"))  # fmt: skip
        assert printed[part] == pytest.approx(wrong, rel=0.2), part


@pytest.mark.parametrize("seeds", [2, 3])
def test_divergence_by_bad_luck_decides_nothing(
    write_study: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seeds: int
) -> None:
    """Treatments without effect whose worst 40 % of trials diverge, each against one of its own that does not."""
    unlucky = [f"{n + 1}e-3" for n in range(10)]
    others = [f"{n + 1}e-5" for n in range(10)]
    factors = f"loss.kl: [1, {', '.join(unlucky + others)}]\n  padding: [reflect, zeros]\ndesign: grid"
    plan = planned(write_study, tmp_path, factors, seeds)
    pairs = zip(unlucky, others, strict=True)
    judged = results(plan, monkeypatch, *(claim({"loss.kl": float(a)}, {"loss.kl": float(b)}, id=a) for a, b in pairs))
    levels = {float(level) for level in unlucky}
    diverging = np.array([treatment.levels["loss.kl"] in levels for treatment in plan.treatments])[:, None]
    rng = np.random.default_rng(6)
    overall: list[str] = []
    contexts: list[str] = []
    for _ in range(40):
        values = rng.normal(0, 1, (len(plan.treatments), seeds))
        lost = diverging & (values < stats.norm.ppf(0.4))
        for row in judged({"psnr": np.where(lost, math.nan, LEVEL + values)})["claims"]:
            overall.append(row["verdict"])
            contexts += [one["verdict"] for one in row["contexts"]]
    for seen in (overall, contexts):
        assert rates(seen)["reproduced"] <= 0.025, rates(seen)


@pytest.mark.parametrize(("noise", "tables"), [(0.1, 15), (0.5, 70)])
def test_no_effect_is_wrong_in_at_most_one_of_twenty_studies(
    write_study: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, noise: float, tables: int
) -> None:
    """The true effect is the smallest one of interest. Where the noise is small, its order is clear instead."""
    plan = planned(write_study, tmp_path, "loss.kl: [1e-4, 1e-3]\n  padding: [reflect, zeros]\ndesign: grid")
    interest = {name: plan.study.metrics[name].interest or math.nan for name in METRICS}
    a, b = ({"loss.kl": level} for level in (1e-3, 1e-4))
    judged = results(plan, monkeypatch, *(claim(a, b, id=name, metric=name, of="value") for name in METRICS))
    treated = np.array([treatment.levels["loss.kl"] != 1e-4 for treatment in plan.treatments])[:, None]
    rng = np.random.default_rng(7)
    seen: list[str] = []
    for _ in range(tables):
        drawn = {name: treated + noise * rng.normal(0, 1, (len(plan.treatments), 3)) for name in METRICS}
        rows = judged({name: LEVEL + interest[name] * values for name, values in drawn.items()})["claims"]
        seen += [one["verdict"] for row in rows for one in row["contexts"]]
    assert len(seen) == 2 * tables * len(METRICS)
    wrong = sum(word.startswith("no effect") for word in seen) / len(seen)
    assert wrong < above(0.05, len(seen)), wrong
    assert noise > 0.1 or rates(seen)["reproduced"] > 0.95


@pytest.mark.parametrize(("pairs", "levels"), [(3, 3), (3, 5), (5, 4)])
def test_the_chance_of_a_trend(pairs: int, levels: int) -> None:
    """The more steps must agree, the less; the other side, `opposite`, needs the ends alone."""
    chance = chance_of_trend(pairs, levels)
    assert 0.025 < chance < 0.05
    assert (pairs, levels) != (3, 5) or chance == pytest.approx(0.028, abs=5e-4), "as docs/statistics.md says"
    assert chance_of_trend(pairs, 2) == 0.05
    assert chance_of_trend(pairs, levels + 1) < chance


def test_q_values_are_those_of_the_two_procedures() -> None:
    """Benjamini and Hochberg's own example of 15 p-values: four are rejected at 5 %."""
    p = [
        0.0001,
        0.0004,
        0.0019,
        0.0095,
        0.0201,
        0.0278,
        0.0298,
        0.0344,
        0.0459,
        0.3240,
        0.4262,
        0.5719,
        0.6528,
        0.7590,
        1,
    ]
    q = benjamini_hochberg(p)
    assert sum(one <= 0.05 for one in q) == 4
    assert q[3] == pytest.approx(0.0095 * 15 / 4)
    harmonic = sum(1 / k for k in range(1, 16))
    assert benjamini_yekutieli(p)[0] == pytest.approx(min(1, q[0] * harmonic))
    shuffled = [p[3], math.nan, *p[:3], *p[4:]]
    assert benjamini_hochberg(shuffled)[0] == pytest.approx(q[3])
    assert math.isnan(benjamini_hochberg(shuffled)[1]) and benjamini_hochberg([]) == []


@pytest.mark.parametrize("effects", [0, 5])
def test_the_false_discovery_rate_holds_for_claims_that_share_arms(effects: int) -> None:
    """Ten claims: each of five treatments against the baseline and against the next, three seeds."""
    rng = np.random.default_rng(11)
    studies = 4000
    arms = rng.normal(0, 1, (studies, 6, 3)) + np.array([0.0] * (6 - effects // 5) + [8.0] * (effects // 5))[:, None]
    pairs = [(i, 0) for i in range(1, 6)] + [(i, i % 5 + 1) for i in range(1, 6)]
    true = np.array([5 in pair and bool(effects) for pair in pairs])
    differences = np.stack([arms[:, a] - arms[:, b] for a, b in pairs], axis=1)
    t = differences.mean(-1) / (differences.std(-1, ddof=1) / math.sqrt(3))
    p = 2 * stats.t.sf(np.abs(t), 2)
    share = []
    for row in p:
        found = np.array(benjamini_hochberg(row.tolist())) <= 0.05
        share.append((found & ~true).sum() / max(1, found.sum()))
    assert float(np.mean(share)) < above(0.05, studies)
