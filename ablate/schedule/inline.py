"""Runs stages one after the other in this process."""

import time
from collections.abc import Callable
from contextlib import closing, suppress
from typing import TYPE_CHECKING

from ablate.adaptive.pruning import Pruner
from ablate.plan.tree import Node
from ablate.plan.trials import Trial
from ablate.schedule.agenda import ELSEWHERE_S, Agenda, Event, Source
from ablate.schedule.resources import Resources
from ablate.store.folders import Store

if TYPE_CHECKING:
    from ablate.engine.stages import StepReport


def run_inline(
    trials: list[Trial],
    store: Store,
    resources: Resources,
    notify: Callable[[Event], None],
    source: Source | None = None,
    pruner: Pruner | None = None,
) -> None:
    """Run trials, and those that `source` suggests, one stage after the other in this process, for debugging."""
    from ablate.engine.stages import cached_corpus

    cached_corpus.cache_clear()  # pictures may have changed since an earlier sweep in this process
    agenda = Agenda(trials, store, notify, source, pruner=pruner)
    with closing(agenda):
        while True:
            if node := agenda.take():
                notify(Event("started", node.trial))
                with suppress(_Pruned):
                    _run(node, agenda, resources)
            elif agenda.must_wait:
                time.sleep(ELSEWHERE_S)
            else:
                break


def _run(node: Node, agenda: Agenda, resources: Resources) -> None:
    """Run one stage to its end, with smaller micro-batches after running out of memory."""
    import torch

    from ablate.engine.memory import OutOfMemory
    from ablate.engine.run import run_trial

    def report(done: "StepReport") -> None:
        if agenda.progress(node, done.step, done.steps, done.losses):
            raise _Pruned

    device = torch.device("cuda" if resources.gpus else "cpu")
    result = None
    while result is None:
        try:
            result = run_trial(agenda.order(node), agenda.store, device, resources.cpus, report)
        except OutOfMemory as error:
            agenda.notify(Event("interrupted", node.trial, str(error)))
    agenda.end(node, result.status, result.reason)


class _Pruned(BaseException):
    """Ends the training of a pruned stage. Not an Exception, which `run_trial` would record as a failure."""
