"""Benchmark: reading the records of a large study, from their copy in one file or one by one."""

import random
import tempfile
import time
from pathlib import Path
from typing import Literal

from ablate.adaptive.recall import plan_study
from ablate.analysis.records import compact
from ablate.analysis.records.frame import tidy
from ablate.analysis.tables.build import build_table
from ablate.plan.trials import Trial, expand
from ablate.store.folders import Store
from ablate.store.record import Record
from ablate.study.document import parse
from ablate.study.study import Study, read_study
from benchmarks.comparison import Comparison

PAIRS = 5


STUDY = """
study: large
question: How long does a table of many trials take?
base:
  data: {level: leaves, crop: 32, resize: none, heldout_size: 64}
  model: {level: image_kl, channels: [8, 8, 8], latent_channels: 4}
  norm: {level: group, groups: 4}
  padding: reflect
  loss: {l2: 1.0, kl: 1e-4}
factors:
  loss.kl: [1e-4, 1, 1e-1, 1e-2, 1e-3, 1e-5, 1e-6, 1e-7, 1e-8, 0]
  loss.l2: [1, 2, 4, 8, 16, 32, 64, 128, 256, 512]
  padding: [reflect, zeros, replicate, circular]
  upsample: [nearest_conv, pixel_shuffle, transposed_conv, bilinear_conv, alias_free]
design: grid
seeds: 5
stages:
  - train: {steps: 100, lr: 1e-3}
probes: [reconstruction, color, grid, blur, border, droplet]
primary: psnr
"""


def run() -> Comparison:
    """Build the data frame of 10,000 records with and without their copy."""
    with tempfile.TemporaryDirectory() as scratch:
        large = study()
        store = Store(Path(scratch))
        trials = expand(large)
        copy = store.study(large.name, large.variant).records
        fill(large, trials, store)
        time.sleep(compact.SETTLED_S)  # younger records are not copied
        tidy(trials, store, copy=copy)
        pairs = [(seconds(trials, store, copy), seconds(trials, store, None)) for _ in range(PAIRS)]
        tables = [table_seconds(store) for _ in range(PAIRS)]
    return Comparison(
        f"the tidy frame of {len(trials)} finished trials with {len(large.metrics)} metrics",
        "the same frame from each trial's `record.json`",
        "s",
        [with_copy for with_copy, _ in pairs],
        [without for _, without in pairs],
        {
            "records": len(trials),
            "table_s": [wall for wall, _ in tables],
            "table_cpu_s": [cpu for _, cpu in tables],
        },
    )


def seconds(trials: list[Trial], store: Store, copy: Path | None) -> float:
    """The time to build the data frame."""
    begun = time.perf_counter()
    tidy(trials, store, copy=copy)
    return time.perf_counter() - begun


def table_seconds(store: Store) -> tuple[float, float]:
    """Wall and CPU time of what `ablate table` does once it has started, from the study's text to the table's."""
    wall = time.perf_counter()
    cpu = time.process_time()
    large = study()
    build_table(plan_study(large, store)).markdown()
    return time.perf_counter() - wall, time.process_time() - cpu


def study() -> Study:
    """A study of 2,000 treatments with 5 seeds each."""
    return read_study(parse(STUDY, "large.yaml"), None, (), gpu=False)


def fill(large: Study, trials: list[Trial], store: Store) -> None:
    """Write records as training would, with random metrics; every hundredth trial has diverged."""
    rng = random.Random(0)
    for i, trial in enumerate(trials):
        metrics = {name: rng.gauss(20, 1) for name in large.metrics}
        info = {name: {"unit": metric.unit, "direction": metric.direction} for name, metric in large.metrics.items()}
        shares = {"share/l2": rng.random(), "share/kl": rng.random()}
        status: Literal["done", "diverged"] = "diverged" if i % 100 == 99 else "done"
        folder = store.stage(trial.signature)
        folder.finish(
            Record(
                trial.signature, trial.seed, status, "", trial.steps, metrics, metrics, info, trial.probe_keys, shares,
                100_000, 99_000, train_s=60.0, probe_s=5.0, data="0" * 16,
            )
        )  # fmt: skip
