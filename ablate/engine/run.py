"""Run one trial in this process: build, restore, train stage by stage, probe, record. Knows neither Ray nor MLflow."""

import random
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from ablate.engine.build import build_model, move_to
from ablate.engine.content import probe_content
from ablate.engine.examine import examine
from ablate.engine.memory import OutOfMemory, ran_out
from ablate.engine.provenance import content_of, describe, merge_sources, trained_by
from ablate.engine.pulse import Pulse
from ablate.engine.stages import LeaseLost, StepReport, cached_corpus, check_lease, train_stages
from ablate.identity import canonical
from ablate.plan.trials import Order
from ablate.redaction import redact
from ablate.slots import registry
from ablate.slots.own_code import OwnCode
from ablate.store.code import fetch
from ablate.store.folders import Store
from ablate.store.shrink import shrink


@dataclass(frozen=True)
class StageResult:
    """What a worker returns when a stage has ended: its status, and the reason unless it is done.

    "lost": another process has taken the stage over, so this one has stopped without a trace.
    """

    status: Literal["done", "diverged", "failed", "lost"]
    reason: str = ""


class WorkerSpoiled(RuntimeError):
    """The process can no longer be trusted (a CUDA error): it must be replaced before another trial runs."""


def run_trial(
    order: Order,
    store: Store,
    device: torch.device,
    threads: int,
    report: Callable[[StepReport], None],
    stacks: int | None = None,
) -> StageResult:
    """Train what the store lacks of a trial, up to the stage `order["last"]`; if that ends the trial, probe and record.

    A failure is written to the store and returned, never raised. Raises WorkerSpoiled after a CUDA error, and
    OutOfMemory where training may succeed with smaller micro-batches; the store holds the reason until the next try.
    `stacks`: the descriptor of `ablate.engine.pulse.offer_stacks`, if this process offers its stacks.
    """
    folder = store.stage(order["last"])
    folder.error.unlink(missing_ok=True)
    is_ours = True
    try:
        return _run(order, store, device, threads, report, stacks)
    except LeaseLost as error:
        is_ours = False
        return StageResult("lost", str(error))
    except OutOfMemory as error:
        folder.fail(str(error), traceback.format_exc())
        raise
    except Exception as error:
        reason = redact(f"{type(error).__name__}: {error}".splitlines()[0])  # Ray gets it, too
        folder.fail(reason, traceback.format_exc())
        if device.type == "cuda" and "CUDA" in str(error) and not ran_out(error):
            raise WorkerSpoiled(reason) from None
        return StageResult("failed", reason)
    finally:
        if is_ours:
            store.stage(order["trial"]).running.unlink(missing_ok=True)


def _run(
    order: Order,
    store: Store,
    device: torch.device,
    threads: int,
    report: Callable[[StepReport], None],
    stacks: int | None,
) -> StageResult:
    use_own_code(order, store)

    # Train
    reset_process(threads)
    pulse = Pulse(store.stage(order["trial"]), order["steps"], stacks)
    corpus = cached_corpus(canonical(order["recipe"]["data"]), store.data)
    result = train_stages(order, corpus, store, device, report, threads, pulse)
    if order["last"] != order["trial"]:
        return StageResult("diverged" if result.diverged else "done", result.reason)

    # Probe and record
    folder = store.stage(order["last"])
    vae = build_model(order["recipe"])
    move_to(vae, device)
    record = folder.read_record() or describe(order, result, vae, corpus, device)
    record.code["components"] = merge_sources([record.code.get("components", {}), trained_by(result)])
    record.content = {**record.content, **content_of(result)}
    if record.status == "done":
        known = dict(record.probes)
        pulse.beat("probing", result.steps)
        examine(record, order, vae, result.stages[-1].saved, corpus, folder, device)
        new = [probe for probe in order["probes"] if known.get(probe["level"]) != order["probe_keys"][probe["level"]]]
        record.content |= probe_content(new, store)
    check_lease(order, store)
    folder.finish(record)
    if order.get("keep", "all") != "all":
        shrink(folder.checkpoint, order["keep"])
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
    if torch.are_deterministic_algorithms_enabled():  # the call below loads PyTorch's compiler: seconds
        torch.use_deterministic_algorithms(False)
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.allow_tf32 = True
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
