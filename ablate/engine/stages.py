"""Trains the stages of a trial one after the other, each from the checkpoint of the one before."""

import functools
import json
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ablate.data.corpus import Corpus
from ablate.data.prepare import prepare
from ablate.engine import checkpoint
from ablate.engine.build import Inherited, build_parts, split_level
from ablate.engine.checkpoint import Checkpoint
from ablate.engine.content import refuse_other, stage_content
from ablate.engine.examine import run_quick_probes
from ablate.engine.external import run_external
from ablate.engine.memory import micro_batches, within_memory
from ablate.engine.provenance import TrainingResult, stage_sources
from ablate.engine.pulse import Pulse
from ablate.engine.train import EndedStage, train
from ablate.identity import canonical
from ablate.plan.trials import Order
from ablate.recipe.consistency import NETWORK
from ablate.recipe.stages import Stage, make_stages, stage_kind
from ablate.slots import registry
from ablate.store.files import is_sound, write_json
from ablate.store.folders import Store
from ablate.store.leases import is_held
from ablate.store.record import KEPT
from ablate.store.stage import StageFolder, has_ended


@dataclass(frozen=True)
class StepReport:
    """A worker's progress report: steps done and planned, over all stages of the trial, and the latest losses."""

    step: int
    steps: int
    losses: dict[str, float]


class LeaseLost(RuntimeError):
    """Another process has taken over the stage that this one trains: its own driver is dead, or was asleep."""


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
    threads: int,
    pulse: Pulse,
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
    pulse.beat("starting", 0)
    following = [*order["signatures"][1:], None]
    for stage, recipe, signature, configuration, next_signature in zip(
        stages, recipes, order["signatures"], order["needs"], following, strict=True
    ):
        folder = store.stage(signature)
        is_last = signature == order["last"]
        until = order["until"] if is_last else stage.settings.steps

        own = resumed(order, store, signature, next_signature, until)
        whole = not is_last or order.get("keep", "all") == "all"

        # What it reads must be what it was begun with
        is_ended = own is not None and has_ended(own.header, until)
        stage_corpus: Corpus | None = corpus
        if recipe["data"] != order["recipe"]["data"]:
            stage_corpus = None if is_ended else cached_corpus(canonical(recipe["data"]), store.data)
        content = stage_content(recipe, stage, stage_corpus, store)
        if own:
            refuse_other(own.header, content, store)

        # Train
        if own and is_ended:
            ended = EndedStage(own, folder.read_steps())
        else:
            assert stage_corpus is not None
            settings = {name: value for name, value in order.items() if name != "lease"}
            write_json(folder.settings, {**settings, "stage": stage.name})
            run = StageRun(stage, recipe, signature, configuration, until, previous, own, content, whole)
            if stage.is_external:
                ended = run_command(order, run, store, device, report, threads, pulse)
            else:
                ended = train_stage(order, run, stage_corpus, store, device, report, pulse)

        if folder.previous.exists() and is_sound(folder.checkpoint):
            folder.previous.unlink()

        # Go on to the next stage, unless this one diverged
        result = training_result(stage, (*result.stages, ended))
        previous = recipe, ended.saved
        if result.diverged or is_last:
            break
    return result


def resumed(order: Order, store: Store, signature: str, following: str | None, until: int) -> Checkpoint | None:
    """What a stage goes on from: its own last checkpoint, or the steps up to a fork that other trials share.

    `following`: the signature of the stage after it. One that goes on from it needs all that the checkpoint once held.
    """
    folder = store.stage(signature)
    is_last = signature == order["last"]
    origin = (order["origin"] if is_last else None) or signature
    is_described = is_last and store.stage(order["trial"]).read_record() is None
    own = find_own(folder, {signature, origin}, until, is_described=is_described)
    if own is None and origin != signature:
        folder.start_from_fork(store.stage(origin))
        own = checkpoint.latest(folder, {signature, origin})
    continued = order.get("continued", False) if is_last else not store.stage(str(following)).header()
    return None if own and continued and KEPT in own.header else own


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
    `content`: content hashes of the files that it reads.
    """

    stage: Stage
    recipe: dict[str, Any]
    signature: str
    configuration: str
    until: int
    previous: Inherited | None
    own: Checkpoint | None
    content: dict[str, str]
    whole: bool = True
    """Whether its last checkpoint holds all that another stage needs to go on from it."""


def train_stage(
    order: Order,
    run: StageRun,
    corpus: Corpus,
    store: Store,
    device: torch.device,
    report: Callable[[StepReport], None],
    pulse: Pulse,
) -> EndedStage:
    """Build the parts of one stage and train it, in micro-batches where the store says that it needs them.

    Raises OutOfMemory as `within_memory` does.
    """
    stage = run.stage
    recipe = run.recipe
    folder = store.stage(run.signature)
    report_step = functools.partial(report_progress, order, stage, store, report, pulse)

    # From the stage before: its checkpoint as it is or, where that is of another network, the weights to take over
    parent: Checkpoint | None = None
    inherited: Inherited | None = None
    if run.previous and network_of(run.previous[0]) != network_of(recipe):
        inherited = run.previous
    elif run.previous:
        parent = run.previous[1]

    with within_memory(store, run.configuration, stage, device, is_begun=run.own is not None) as footprint:
        # Build
        header = stage_header(order, run)
        header["parts"] = max(footprint.parts, run.own.header.get("parts", 1) if run.own else 1)
        settings = {**order, "recipe": recipe}
        parts = build_parts(settings, corpus, device, inherited, regularize=stage.settings.regularize)
        quick_probes = functools.partial(run_quick_probes, order, parts.vae, corpus, device)

        # Train
        with micro_batches(parts.vae, footprint.micro_batch(stage)):
            return train(
                parts, stage, order["seed"], folder, parent, report_step, header, quick_probes, run.until, run.own,
                whole=run.whole, tick=lambda phase, step: pulse.tick(phase, stage.before + step),
            )  # fmt: skip


def stage_header(order: Order, run: StageRun) -> dict[str, Any]:
    """What every checkpoint of a stage says of it in its header."""
    return {
        "settings": run.recipe, "seed": order["seed"], "stage": run.stage.name, "signature": run.signature,
        "code": stage_sources(run.recipe, run.own), "content": run.content,
    }  # fmt: skip


def report_progress(
    order: Order,
    stage: Stage,
    store: Store,
    report: Callable[[StepReport], None],
    pulse: Pulse,
    step: int,
    losses: dict[str, float],
    activity: str = "",
) -> None:
    """Report a step of a stage as one of its trial, and write a heartbeat. Raises LeaseLost as `check_lease` does."""
    check_lease(order, store)
    made = stage.before + step
    pulse.beat("training", made, activity)
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
    pulse: Pulse,
) -> EndedStage:
    """Run one stage that is a command of the user's. Raises CommandError as `run_external` does."""
    stage = run.stage
    folder = store.stage(run.signature)
    report_step = functools.partial(report_progress, order, stage, store, report, pulse)
    header = stage_header(order, run)
    return run_external(
        order, stage, run.recipe, folder, header, run.previous, device, threads, report_step,
        ended=lambda: pulse.beat("saving", stage.before + stage.settings.steps),
    )  # fmt: skip


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
