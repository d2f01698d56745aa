"""Finished trials that were never trained: a record alone, or with curves, step lines and pictures of known content."""

import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from PIL import Image

from ablate.adaptive.recall import plan_study
from ablate.plan.trials import Trial
from ablate.store.files import write_json
from ablate.store.folders import Store
from ablate.store.record import Record
from ablate.study.study import Study

STEPS = (2, 4, 6)


def finish(store: Store, trial: Trial, metrics: Mapping[str, float], status: Any = "done", **fields: Any) -> Record:
    """Write the record of a trial that has ended with these metrics; `fields` are others of the record's."""
    record = Record(
        trial.signature, trial.seed, status, "", trial.steps, dict(metrics), probes=trial.probe_keys, **fields
    )
    store.stage(trial.signature).finish(record)
    return record


def finish_all(
    study: Study,
    store: Store,
    metrics: Callable[[Trial], Mapping[str, float]],
    curves: Callable[[Trial], Mapping[str, list[float]]] = lambda trial: {},
    losses: Callable[[Trial, int], Mapping[str, float]] = lambda trial, step: {"train/loss": 1 / step},
) -> list[Trial]:
    """Finish all trials that `metrics` gives any numbers for; a trial that has none is pending."""
    trials = plan_study(study, store).trials
    for trial in trials:
        values = dict(metrics(trial))
        if not values:
            continue
        folder = store.stage(trial.signature)
        folder.root.mkdir(parents=True)
        lines = [{"step": step, **losses(trial, step)} for step in STEPS]
        folder.steps.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
        write_json(folder.per_image, dict(curves(trial)))
        folder.pictures.mkdir()
        Image.fromarray(sheet(trial)).save(folder.pictures / "reconstruction.png")
        code: dict[str, Any] = {"version": "0.1.0", "commit": "c0ffee" * 6, "dirty": False}
        machine = {"device": "a processor", "threads": 1, "python": "3.11", "torch": "2.11"}
        made = {"parameters": 1_500_000, "data": "0123abcd", "code": code, "machine": machine}
        finish(store, trial, values, train_s=9.0, probe_s=1.0, **made)
    return trials


def sheet(trial: Trial, side: int = 8) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Four crops below each other, of 10, 20, 30 and 40; beside each its reconstruction, 1 darker with each seed."""
    crops = np.repeat(np.arange(10, 50, 10, dtype=np.uint8), side)[:, None, None]
    left = np.broadcast_to(crops, (4 * side, side, 3))
    return np.concatenate([left, left - 1 - trial.seed], 1)
