"""Runs stages one after the other in this process."""

from collections.abc import Callable
from contextlib import suppress

from ablate.adaptive.pruning import Pruner
from ablate.plan.tree import Node
from ablate.plan.trials import Trial
from ablate.schedule.agenda import Agenda, Event, Source
from ablate.schedule.resources import Resources
from ablate.store.folders import Store


def run_inline(
    trials: list[Trial],
    store: Store,
    resources: Resources,
    notify: Callable[[Event], None],
    source: Source | None = None,
    pruner: Pruner | None = None,
) -> None:
    """Run trials, and those that `source` suggests, one stage after the other in this process, for debugging."""
    import torch

    from ablate.engine.memory import OutOfMemory
    from ablate.engine.run import StepReport, run_trial

    device = torch.device("cuda" if resources.gpus else "cpu")
    agenda = Agenda(trials, store, notify, source, pruner=pruner)
    while node := agenda.take():

        def report(done: StepReport, node: Node = node) -> None:
            if agenda.progress(node, done.step, done.steps, done.losses):
                raise _Pruned

        notify(Event("started", node.trial))
        with suppress(_Pruned):
            result = None
            while result is None:  # with smaller micro-batches after running out of memory
                try:
                    result = run_trial(node.order(), store, device, resources.cpus, report)
                except OutOfMemory as error:
                    notify(Event("interrupted", node.trial, str(error)))
            agenda.end(node, result.status, result.reason)


class _Pruned(BaseException):
    """Ends the training of a pruned stage. Not an Exception, which `run_trial` would record as a failure."""
