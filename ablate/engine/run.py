"""One trial in this process: build, restore, train stage by stage, probe, record. Knows neither Ray nor MLflow."""

import functools
import json
import random
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from ablate.data.corpus import Corpus
from ablate.data.prepare import prepare
from ablate.engine import checkpoint
from ablate.engine.build import _named, build_model, build_parts, move_to
from ablate.engine.examine import examine, probe_during_training
from ablate.engine.memory import OutOfMemory, micro_batches, ran_out, within_memory
from ablate.engine.provenance import Ending, describe
from ablate.engine.train import train
from ablate.identity import canonical
from ablate.plan.trials import Order
from ablate.recipe.consistency import NETWORK
from ablate.recipe.stages import Stage, Train, legs
from ablate.slots import registry
from ablate.store.files import write_json
from ablate.store.folders import Store


@dataclass(frozen=True)
class StepReport:
    """What a worker says while it trains: steps done and planned over all stages, and the latest losses."""

    step: int
    steps: int
    losses: dict[str, float]


@dataclass(frozen=True)
class StageResult:
    """How a trial ended."""

    status: Literal["done", "diverged", "failed"]
    reason: str = ""


class WorkerSpoiled(RuntimeError):
    """The process can no longer be trusted (a CUDA error): it must be replaced before another trial runs."""


def run_trial(
    order: Order, store: Store, device: torch.device, threads: int, report: Callable[[StepReport], None]
) -> StageResult:
    """Run what the store lacks of a trial, up to the stage that the order asks for; after the last of all, record it.

    A failure is written to the store and returned, never raised. Raises WorkerSpoiled after a CUDA error, and
    OutOfMemory where training may succeed with smaller micro-batches; the reason is in the store until it is run again.
    """
    folder = store.stage(order["last"])
    folder.error.unlink(missing_ok=True)
    try:
        return _run(order, store, device, threads, report)
    except OutOfMemory as error:
        folder.fail(str(error), traceback.format_exc())
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        folder.fail(reason, traceback.format_exc())
        if device.type == "cuda" and "CUDA" in str(error) and not ran_out(error):
            raise WorkerSpoiled(reason) from None
        return StageResult("failed", reason)
    finally:
        store.stage(order["trial"]).running.unlink(missing_ok=True)


def _run(
    order: Order, store: Store, device: torch.device, threads: int, report: Callable[[StepReport], None]
) -> StageResult:
    reset_process(threads)
    corpus = corpus_of(canonical(order["recipe"]["data"]), store.data)
    outcome = train_stages(order, corpus, store, device, report)
    if order["last"] != order["trial"]:
        return StageResult("diverged" if outcome.diverged else "done", outcome.reason)
    folder = store.stage(order["last"])
    vae = build_model(order["recipe"])
    move_to(vae, device)
    record = folder.read_record() or describe(order, outcome, store, vae, corpus, device)
    if record.status == "done":
        examine(record, order, vae, corpus, folder, device)
    folder.finish(record)
    return StageResult(record.status, record.reason)


@functools.lru_cache(maxsize=2)
def corpus_of(part: str, cache: Path) -> Corpus:
    """The pictures of a data level, with its settings in JSON, kept from one stage of a worker to the next.

    To look for 20,000 files takes longer than anything else at the start of a stage.
    """
    return prepare(*_named(json.loads(part)), cache)


def train_stages(
    order: Order, corpus: Corpus, store: Store, device: torch.device, report: Callable[[StepReport], None]
) -> Ending:
    """Train every stage that is not complete yet, each from the one before, up to the one that the order asks for.

    A stage knows of the one before nothing but its checkpoint, so that it does not matter who has trained that; nor who
    has trained its own first steps up to a fork.
    """
    recipes = [recipe_of(order["recipe"], given) for given in order["recipe"]["stages"]]
    stages = legs((given["name"], Train.read(training_of(given))) for given in order["recipe"]["stages"])
    steps, outcome = order["steps"], Ending(0)
    parent: Path | None = None
    before: dict[str, Any] = {}
    trial_folder = store.stage(order["trial"])
    trial_folder.beat(0, steps)
    for stage, recipe, signature, key in zip(stages, recipes, order["signatures"], order["needs"], strict=True):
        folder, is_last = store.stage(signature), signature == order["last"]
        until = order["until"] if is_last else stage.settings.steps
        if is_last and order["origin"] and not folder.checkpoint.exists():
            folder.go_on_from(store.stage(order["origin"]))
        if not folder.has_ended(until):
            write_json(folder.settings, {**order, "stage": stage.name})

            def progress(step: int, losses: dict[str, float], before: int = stage.before) -> None:
                trial_folder.beat(before + step, steps)
                report(StepReport(before + step, steps, losses))

            header = {"settings": recipe, "seed": order["seed"], "stage": stage.name, "signature": signature}
            same_data = recipe["data"] == order["recipe"]["data"]
            own = corpus if same_data else corpus_of(canonical(recipe["data"]), store.data)
            ended = (before, parent) if parent and network_of(before) != network_of(recipe) else None
            acts = stage.settings.regularize
            with within_memory(store, key, stage, device) as need:
                header["parts"] = max(need.parts, (checkpoint.header(folder.checkpoint) or {}).get("parts", 1))
                parts = build_parts({**order, "recipe": recipe}, own, device, ended, regularize=acts)
                peek = functools.partial(probe_during_training, order, parts.vae, own, device)
                goes_on_from = None if ended else parent
                with micro_batches(parts.vae, need.size(stage)):
                    train(parts, stage, order["seed"], folder, goes_on_from, progress, header, peek, until)
        outcome, parent, before = outcome_of(stage, folder.checkpoint), folder.checkpoint, recipe
        if outcome.diverged or is_last:
            break
    return outcome


def recipe_of(recipe: dict[str, Any], stage: dict[str, Any]) -> dict[str, Any]:
    """The recipe that holds in a stage: that of the trial, unless the stage comes with one of its own."""
    own = {slot: part for slot, part in stage.items() if slot in registry.SLOTS}
    return {**own, "stages": recipe["stages"]} if own else recipe


def training_of(stage: dict[str, Any]) -> dict[str, Any]:
    """The settings of a stage's training alone."""
    return {name: value for name, value in stage.items() if name not in {*registry.SLOTS, "name"}}


def network_of(recipe: dict[str, Any]) -> dict[str, Any]:
    """The parts of a recipe that decide which weights there are."""
    return {slot: part for slot, part in recipe.items() if slot in NETWORK}


def outcome_of(stage: Stage, path: Path) -> Ending:
    """How a stage that has ended did so, with the steps of all stages up to it."""
    known = checkpoint.header(path)
    assert known is not None
    steps = stage.before + known["step"]
    if "diverged" in known:
        return Ending(steps, diverged=True, reason=f"{known['diverged']} of stage '{stage.name}'")
    return Ending(steps)


def reset_process(threads: int) -> None:
    """Make a used process equal to a fresh one: random states, thread count, flags, caches.

    Training draws from generators of its own; the global ones are set so that a level which does not is repeatable too.
    """
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002
    torch.manual_seed(0)
    torch.set_num_threads(threads)
    torch.set_default_dtype(torch.float32)
    torch.set_grad_enabled(True)
    torch.use_deterministic_algorithms(False)
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.allow_tf32 = True
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
