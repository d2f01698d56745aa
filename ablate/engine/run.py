"""Run one trial in this process: build, restore, train stage by stage, probe, record. Knows neither Ray nor MLflow."""

import functools
import json
import random
import traceback
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from ablate.data.corpus import Corpus
from ablate.data.prepare import prepare
from ablate.engine import checkpoint
from ablate.engine.build import Inherited, build_model, build_parts, move_to, split_level
from ablate.engine.checkpoint import Checkpoint
from ablate.engine.examine import examine, run_quick_probes
from ablate.engine.external import run_external
from ablate.engine.memory import OutOfMemory, micro_batches, ran_out, within_memory
from ablate.engine.provenance import TrainingResult, describe, merge_sources, stage_sources, trained_by
from ablate.engine.train import EndedStage, train
from ablate.identity import canonical
from ablate.plan.trials import Order
from ablate.recipe.consistency import NETWORK
from ablate.recipe.stages import Stage, make_stages, stage_kind
from ablate.slots import registry
from ablate.slots.own_code import OwnCode
from ablate.store.code import fetch
from ablate.store.files import write_json
from ablate.store.folders import StageFolder, Store, has_ended
from ablate.store.leases import is_held


@dataclass(frozen=True)
class StepReport:
    """A worker's progress report: steps done and planned, over all stages of the trial, and the latest losses."""

    step: int
    steps: int
    losses: dict[str, float]


@dataclass(frozen=True)
class StageResult:
    """What a worker returns when a stage has ended: its status, and the reason unless it is done.

    "lost": another process has taken the stage over, so this one has stopped without a trace.
    """

    status: Literal["done", "diverged", "failed", "lost"]
    reason: str = ""


class LeaseLost(RuntimeError):
    """Another process has taken over the stage that this one trains: its own driver is dead, or was asleep."""


class WorkerSpoiled(RuntimeError):
    """The process can no longer be trusted (a CUDA error): it must be replaced before another trial runs."""


def run_trial(
    order: Order, store: Store, device: torch.device, threads: int, report: Callable[[StepReport], None]
) -> StageResult:
    """Train what the store lacks of a trial, up to the stage `order["last"]`; if that ends the trial, probe and record.

    A failure is written to the store and returned, never raised. Raises WorkerSpoiled after a CUDA error, and
    OutOfMemory where training may succeed with smaller micro-batches; the store holds the reason until the next try.
    """
    folder = store.stage(order["last"])
    folder.error.unlink(missing_ok=True)
    is_ours = True
    try:
        return _run(order, store, device, threads, report)
    except LeaseLost as error:
        is_ours = False
        return StageResult("lost", str(error))
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
        if is_ours:
            store.stage(order["trial"]).running.unlink(missing_ok=True)


def _run(
    order: Order, store: Store, device: torch.device, threads: int, report: Callable[[StepReport], None]
) -> StageResult:
    use_own_code(order, store)

    # Train
    reset_process(threads)
    corpus = cached_corpus(canonical(order["recipe"]["data"]), store.data)
    result = train_stages(order, corpus, store, device, report, threads)
    if order["last"] != order["trial"]:
        return StageResult("diverged" if result.diverged else "done", result.reason)

    # Probe and record
    folder = store.stage(order["last"])
    vae = build_model(order["recipe"])
    move_to(vae, device)
    record = folder.read_record() or describe(order, result, vae, corpus, device)
    record.code["components"] = merge_sources([record.code.get("components", {}), trained_by(result)])
    if record.status == "done":
        examine(record, order, vae, result.stages[-1].saved, corpus, folder, device)
    check_lease(order, store)
    folder.finish(record)
    return StageResult(record.status, record.reason)


def use_own_code(order: Order, store: Store) -> None:
    """Put the own code of a trial into effect, as it was when the sweep began. Raises ValueError where it is gone."""
    key = order.get("code", "")
    if key == registry.own().shipped:
        return
    code = fetch(key, store) if key else OwnCode()
    if code is None:
        raise ValueError(f"the own levels of the trial are gone: no {store.code(key)}; start the sweep again")
    registry.use(code)


@functools.lru_cache(maxsize=2)
def cached_corpus(part: str, cache: Path) -> Corpus:
    """The corpus of a data level (its settings as JSON), kept in this process from one stage to the next.

    Without this, checking 20,000 files would take longer than anything else at the start of a stage.
    """
    return prepare(*split_level(json.loads(part)), cache)


def train_stages(
    order: Order,
    corpus: Corpus,
    store: Store,
    device: torch.device,
    report: Callable[[StepReport], None],
    threads: int = 1,
) -> TrainingResult:
    """Train every stage that is not complete yet, each from the one before, up to `order["last"]`.

    The only thing that a stage takes from the one before is its checkpoint, so it does not matter which worker trained
    that one; nor, if the stage starts at a fork, which worker trained the steps up to the fork. What this process has
    trained goes on from its memory: another process may have written to the folder meanwhile.
    """
    recipes = [stage_recipe(order["recipe"], settings) for settings in order["recipe"]["stages"]]
    stages = make_stages(
        (settings["name"], stage_kind(settings).read(stage_settings(settings)))
        for settings in order["recipe"]["stages"]
    )
    result = TrainingResult((), 0)
    previous: Inherited | None = None
    check_lease(order, store)
    store.stage(order["trial"]).beat(0, order["steps"])
    for stage, recipe, signature, configuration in zip(
        stages, recipes, order["signatures"], order["needs"], strict=True
    ):
        folder = store.stage(signature)
        is_last = signature == order["last"]
        until = order["until"] if is_last else stage.settings.steps

        # Resume, or start from a fork's steps, if other trials share them
        origin = (order["origin"] if is_last else None) or signature
        is_described = is_last and store.stage(order["trial"]).read_record() is None
        own = find_own(folder, {signature, origin}, until, is_described=is_described)
        if own is None and origin != signature:
            folder.start_from_fork(store.stage(origin))
            own = checkpoint.latest(folder, {signature, origin})

        # Train
        if own and has_ended(own.header, until):
            ended = EndedStage(own, folder.read_steps())
        else:
            settings = {name: value for name, value in order.items() if name != "lease"}
            write_json(folder.settings, {**settings, "stage": stage.name})
            same_data = recipe["data"] == order["recipe"]["data"]
            stage_corpus = corpus if same_data else cached_corpus(canonical(recipe["data"]), store.data)
            run = StageRun(stage, recipe, signature, configuration, until, previous, own)
            if stage.is_external:
                ended = run_command(order, run, store, device, report, threads)
            else:
                ended = train_stage(order, run, stage_corpus, store, device, report)

        if folder.previous.exists() and checkpoint.is_sound(folder.checkpoint):
            folder.previous.unlink()

        # Go on to the next stage, unless this one diverged
        result = training_result(stage, (*result.stages, ended))
        previous = recipe, ended.saved
        if result.diverged or is_last:
            break
    return result


def find_own(folder: StageFolder, signatures: Collection[str], until: int, *, is_described: bool) -> Checkpoint | None:
    """The last checkpoint of a stage, with a sound log where training goes on or the trial is to be described."""
    saved = checkpoint.latest(folder, signatures, with_log=False)
    if saved is None or (has_ended(saved.header, until) and not is_described) or checkpoint.has_log(folder, saved):
        return saved
    return checkpoint.latest(folder, signatures)


@dataclass(frozen=True)
class StageRun:
    """One stage as a worker is to train it: up to step `until`, with a recipe, starting from the stage before.

    `configuration`: the key of its footprint (`ablate.plan.footprint`). `own`: the stage's checkpoint, if it was begun.
    """

    stage: Stage
    recipe: dict[str, Any]
    signature: str
    configuration: str
    until: int
    previous: Inherited | None
    own: Checkpoint | None


def train_stage(
    order: Order,
    run: StageRun,
    corpus: Corpus,
    store: Store,
    device: torch.device,
    report: Callable[[StepReport], None],
) -> EndedStage:
    """Build the parts of one stage and train it, in micro-batches where the store says that it needs them.

    Raises OutOfMemory as `within_memory` does.
    """
    stage = run.stage
    recipe = run.recipe
    folder = store.stage(run.signature)
    report_step = functools.partial(report_progress, order, stage, store, report)

    # From the stage before: its checkpoint as it is or, where that is of another network, the weights to take over
    parent: Checkpoint | None = None
    inherited: Inherited | None = None
    if run.previous and network_of(run.previous[0]) != network_of(recipe):
        inherited = run.previous
    elif run.previous:
        parent = run.previous[1]

    with within_memory(store, run.configuration, stage, device) as footprint:
        # Build
        header = stage_header(order, run)
        header["parts"] = max(footprint.parts, run.own.header.get("parts", 1) if run.own else 1)
        settings = {**order, "recipe": recipe}
        parts = build_parts(settings, corpus, device, inherited, regularize=stage.settings.regularize)
        quick_probes = functools.partial(run_quick_probes, order, parts.vae, corpus, device)

        # Train
        with micro_batches(parts.vae, footprint.micro_batch(stage)):
            return train(
                parts, stage, order["seed"], folder, parent, report_step, header, quick_probes, run.until, run.own
            )


def stage_header(order: Order, run: StageRun) -> dict[str, Any]:
    """What every checkpoint of a stage says of it in its header."""
    return {
        "settings": run.recipe, "seed": order["seed"], "stage": run.stage.name, "signature": run.signature,
        "code": stage_sources(run.recipe, run.own),
    }  # fmt: skip


def report_progress(
    order: Order,
    stage: Stage,
    store: Store,
    report: Callable[[StepReport], None],
    step: int,
    losses: dict[str, float],
) -> None:
    """Report a step of a stage as one of its trial, and write a heartbeat. Raises LeaseLost as `check_lease` does."""
    check_lease(order, store)
    made = stage.before + step
    store.stage(order["trial"]).beat(made, order["steps"])
    report(StepReport(made, order["steps"], losses))


def check_lease(order: Order, store: Store) -> None:
    """Raise LeaseLost if the stage's lease, which the driver holds, is not held any more."""
    if "lease" in order and not is_held(store.root, order["lease"]):
        raise LeaseLost("another sweep has taken this stage over")


def run_command(
    order: Order,
    run: StageRun,
    store: Store,
    device: torch.device,
    report: Callable[[StepReport], None],
    threads: int,
) -> EndedStage:
    """Run one stage that is a command of the user's. Raises CommandError as `run_external` does."""
    stage = run.stage
    folder = store.stage(run.signature)
    report_step = functools.partial(report_progress, order, stage, store, report)
    header = stage_header(order, run)
    return run_external(order, stage, run.recipe, folder, header, run.previous, device, threads, report_step)


def stage_recipe(recipe: dict[str, Any], stage: dict[str, Any]) -> dict[str, Any]:
    """The recipe of a stage: the trial's, unless the stage has levels of its own."""
    own = {slot: part for slot, part in stage.items() if slot in registry.SLOTS}
    return {**own, "stages": recipe["stages"]} if own else recipe


def stage_settings(stage: dict[str, Any]) -> dict[str, Any]:
    """The settings of a stage, without its name and levels."""
    return {name: value for name, value in stage.items() if name not in {*registry.SLOTS, "name"}}


def network_of(recipe: dict[str, Any]) -> dict[str, Any]:
    """The parts of a recipe that decide which weights there are."""
    return {slot: part for slot, part in recipe.items() if slot in NETWORK}


def training_result(stage: Stage, stages: tuple[EndedStage, ...]) -> TrainingResult:
    """How training ended. `stages`: all that were trained, and the last is `stage`; steps count over all of them."""
    header = stages[-1].saved.header
    steps = stage.before + header["step"]
    if "diverged" in header:
        reason = f"{header['diverged']} of stage '{stage.name}'"
        return TrainingResult(stages, steps, diverged=True, reason=reason)
    return TrainingResult(stages, steps, reason=header.get("note", ""))


def reset_process(threads: int) -> None:
    """Make a used process equal to a new one: random states, thread count, flags, caches.

    Training draws from its own generators. The global ones are seeded in case a level draws from them.
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
