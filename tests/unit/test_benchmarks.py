"""The committed results of the benchmarks: complete, consistent, and fair to read. No speed is measured here."""

import datetime
import importlib.util
import json
import re
from statistics import median

import pytest

from benchmarks import NAMES
from benchmarks.comparison import PACKAGES, RESULTS, ROOT, Comparison

KEYS = {
    "name": str, "what": str, "peer": str, "unit": str, "ratio": float, "range": list, "pairs": int, "ours": list,
    "peers": list, "details": dict, "machine": dict, "versions": dict, "date": str,
}  # fmt: skip


LEAST_PAIRS = {"overhead": 3}


COMMITTED = sorted(path.relative_to(RESULTS).with_suffix("").as_posix() for path in RESULTS.rglob("*.json"))
"""NAME, or gpu/NAME of a run on a machine with a GPU."""


def result(name):
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def test_every_benchmark_has_a_module_and_a_result_and_nothing_else_has():
    assert set(NAMES) <= set(COMMITTED) <= {*NAMES, *(f"gpu/{name}" for name in NAMES)}
    assert all(importlib.util.find_spec(f"benchmarks.{name}") for name in NAMES)


@pytest.mark.parametrize("name", COMMITTED)
def test_result_has_the_schema(name):
    found = result(name)
    assert {key: type(value) for key, value in found.items()} == KEYS
    assert found["name"] == name.rpartition("/")[2]
    assert all(type(value) is float and value > 0 for value in [*found["ours"], *found["peers"]])
    assert bool(found["machine"]["gpu"]) == name.startswith("gpu/")
    assert set(found["machine"]) == {"cpu", "cores", "gpu", "load_before"}
    assert found["machine"]["cpu"] and found["machine"]["cores"] >= 1
    assert set(found["versions"]) == {"python", *PACKAGES}
    datetime.date.fromisoformat(found["date"])


@pytest.mark.parametrize("name", COMMITTED)
def test_summary_follows_from_the_raw_values(name):
    found = result(name)
    assert found["pairs"] == len(found["ours"]) == len(found["peers"]) >= LEAST_PAIRS.get(found["name"], 5)
    ratios = [peer / ours for ours, peer in zip(found["ours"], found["peers"], strict=True)]
    assert found["ratio"] == pytest.approx(median(ratios))
    assert found["range"] == pytest.approx([min(ratios), max(ratios)])


def test_ratio_above_one_means_that_ours_is_faster():
    comparison = Comparison("", "", "s", ours=[1.0, 2.0, 1.0], peers=[2.0, 8.0, 3.0])
    assert comparison.ratios == [2.0, 4.0, 3.0]
    assert comparison.ratio == 3.0


@pytest.mark.parametrize("name", ["step", "gpu/step"])
def test_in_the_step_benchmark_both_loops_train_alike(name):
    losses = result(name)["details"]["last_loss"]
    assert losses["ours"] == pytest.approx(losses["peers"], rel=0.15)


def test_readme_describes_every_benchmark_and_quotes_no_ratio():
    text = (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")
    assert all(f"| `{name}` |" in text for name in NAMES)
    assert not re.findall(r"\d(?:x|×|-fold| times)", text)
