"""The queue of a sweep's stages: each waits for its parent; a search is asked for trials when a worker is free."""

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

from ablate.adaptive.pruning import Pruner
from ablate.plan.tree import Node, stage_tree, trained_signatures
from ablate.plan.trials import Trial, is_complete, pending
from ablate.store.folders import Store
from ablate.store.leases import Leases

ELSEWHERE_S = 1.0
"""Seconds after which a stage that another sweep works on is asked for again."""


@dataclass(frozen=True)
class Event:
    """Something that happened to a trial. `step`, `steps` and `losses` are set for "progress" alone.

    A stage that several trials share is reported as a stage of one of them. A trial from a `Source` is "suggested"
    before any other event of it. "waiting": another sweep works on the stage, as `reason` says. `elsewhere`: whether a
    trial has ended in another sweep, which this one has waited for.
    """

    kind: Literal["suggested", "waiting", "started", "progress", "interrupted", "done", "diverged", "failed", "pruned"]
    trial: Trial
    reason: str = ""
    step: int = 0
    steps: int = 0
    losses: dict[str, float] | None = None
    elsewhere: bool = False


class Source(Protocol):
    """Suggests further trials as others end: a search, or the tuning of treatments."""

    @property
    def left(self) -> int:
        """How many suggestions may still come; 0 when it is over."""

    @property
    def max_stages(self) -> int:
        """The largest number of stages that may still come."""

    def ask(self, under_way: Collection[str]) -> list[Trial]:
        """The next trials; empty if there are none now. `under_way`: signatures of the stages that wait or run."""


class Agenda:
    """Hands out the stages that the store lacks, in order, each once its parent has ended.

    `notify` is called with every event. After a stage that diverged, the stages that follow it still run: each finds
    out and records the divergence. If the training of a stage fails, all trials that need it fail and the stages after
    it are dropped; if only probing fails, only the trial that ends with the stage fails. `source` is asked for more
    trials as long as fewer than `workers` trials have begun or wait. `pruner` decides which treatments are stopped; the
    other seeds of a treatment wait until its first trial has ended.

    A stage is handed out with a lease. Those that another sweep on the store works on are left to it, and asked for
    again until that has ended; what it has finished is not run again.
    """

    def __init__(
        self,
        trials: list[Trial],
        store: Store,
        notify: Callable[[Event], None],
        source: Source | None = None,
        workers: int = 1,
        pruner: Pruner | None = None,
    ):
        self.trials = list(trials)
        self.store = store
        self.notify = notify
        self.source = source
        self.workers = workers
        self.pruner = pruner
        self.waiting = stage_tree(trials, trained_signatures(trials, store))
        self.open = {node.signature for node in self.waiting}
        """Signatures of the stages that wait or run."""
        self.leases = Leases(store.root, _work(trials))
        self._elsewhere: dict[str, float] = {}
        """Signature of a stage that another sweep works on -> when it was asked for last."""

    @property
    def is_over(self) -> bool:
        """Whether no further stage will be handed out."""
        return not self.waiting and (self.source is None or not self.source.left)

    @property
    def max_stages(self) -> int:
        """The largest number of stages that may still be handed out."""
        return len(self.waiting) + (self.source.max_stages if self.source else 0)

    @property
    def must_wait(self) -> bool:
        """Whether stages are left that cannot be taken now because another sweep works on them."""
        return any(node.signature in self._elsewhere for node in self.waiting)

    def take(self) -> Node | None:
        """Take the next stage that can start; None if every stage waits for another, or all is over."""
        while True:
            found = False
            for node in list(self.waiting):
                ready = self.open.isdisjoint(node.parents) and not self._is_speculative(node)
                if ready and self._lease(node):
                    found = True
                    self.waiting.remove(node)
                    if not self._has_ended_elsewhere(node):
                        return node
            if found:  # stages that wait for what has ended elsewhere may be ready now
                continue
            unfinished = sum(trial.signature in self.open for trial in self.trials)
            if self.source is None or unfinished >= self.workers or not self._add(self.source.ask(self.open)):
                return None

    def _add(self, trials: list[Trial]) -> bool:
        """Add the suggested trials that are new; gives whether there were any suggestions, new or not.

        Trials with a complete record have ended already. The stages of the others are queued, unless they wait or run.
        """
        known = {trial.signature for trial in self.trials}
        new = [trial for trial in trials if trial.signature not in known]
        self.trials += new
        for trial in new:
            self.notify(Event("suggested", trial))
            record = self.store.stage(trial.signature).record()
            if record and is_complete(record, trial):
                self.notify(Event(record.status, trial, record.reason))
        lacking = pending(new, self.store)
        for node in stage_tree(lacking, trained_signatures(lacking, self.store)):
            if node.signature not in self.open:
                self.waiting.append(node)
            elif node.is_last:  # another trial trains this stage: run it after that again, to probe it for this trial
                self.waiting.append(replace(node, parents=(node.signature,)))
        self.open |= {node.signature for node in self.waiting}
        return bool(trials)

    def order(self, node: Node) -> dict[str, Any]:
        """The order of a stage that was taken, with its lease.

        `continued`: whether other stages wait for it to go on from its checkpoint, which then keeps all.
        """
        continued = self._is_continued(node)
        keep = {"keep": "all" if continued else node.trial.keep, "continued": continued}
        return {**node.order(), **keep, "lease": self.leases.ticket(node.signature)}

    def _is_continued(self, node: Node) -> bool:
        return any(node.signature in other.parents and node.signature != other.signature for other in self.waiting)

    def close(self) -> None:
        """Release the leases of all stages."""
        self.leases.close()

    def _lease(self, node: Node) -> bool:
        """Take the lease of a stage; gives whether it was free."""
        signature = node.signature
        now = time.monotonic()
        if now - self._elsewhere.get(signature, -ELSEWHERE_S) < ELSEWHERE_S:
            return False
        if self.leases.take(signature):
            self._elsewhere.pop(signature, None)
            return True
        if signature not in self._elsewhere:
            self.notify(Event("waiting", node.trial, str(self.leases.holder(signature) or "another sweep")))
        self._elsewhere[signature] = now
        return False

    def _has_ended_elsewhere(self, node: Node) -> bool:
        """Whether another sweep has finished a stage since this one made its plan; if so, note that it has ended."""
        folder = self.store.stage(node.signature)
        record = folder.record() if node.is_last else None
        whole = self._is_continued(node)
        ended = not whole or folder.has_ended(node.until, whole=True)
        if not (ended and (is_complete(record, node.trial) if node.is_last else folder.has_ended(node.until))):
            return False
        self.leases.release(node.signature)
        self.open.discard(node.signature)
        if record:
            self.notify(Event(record.status, node.trial, record.reason, elsewhere=True))
        return True

    def _is_speculative(self, node: Node) -> bool:
        """Whether every trial that needs the stage may still be pruned."""
        pruner = self.pruner
        return pruner is not None and all(pruner.may_be_pruned(trial, self.open, self.trials) for trial in node.trials)

    def progress(self, node: Node, step: int, steps: int, losses: dict[str, float]) -> bool:
        """Note the progress of a stage; gives whether its treatment was pruned, so that its training must stop."""
        self.notify(Event("progress", node.trial, step=step, steps=steps, losses=losses))
        reason = self.pruner.reason_to_stop(node, step, self.trials) if self.pruner else ""
        if reason:
            self._prune(node, reason)
        return bool(reason)

    def _prune(self, node: Node, reason: str) -> None:
        """Prune the treatment of a stage: drop its trials, and the stages that no other trial needs."""
        label = node.trial.treatment.label
        pruned = [trial for trial in self.trials if trial.treatment.label == label and trial.role == node.trial.role]
        rest = [replace(other, trials=tuple(t for t in other.trials if t not in pruned)) for other in self.waiting]
        self.waiting = [other for other in rest if other.trials]
        self.open -= {node.signature} | {other.signature for other in rest if not other.trials}
        self.leases.release(node.signature)
        for trial in pruned:
            self.notify(Event("pruned", replace(trial, pruned=reason), reason))

    def end(self, node: Node, status: Literal["done", "diverged", "failed", "lost"], reason: str) -> None:
        """Note that a stage has ended, or was lost to another sweep, which is then waited for."""
        self.leases.release(node.signature)
        if status == "lost":
            self.waiting.append(node)
            return
        self.open.discard(node.signature)
        if status == "failed":
            self._fail(node, reason)
        elif node.is_last:
            self.notify(Event(status, node.trial, reason))

    def _fail(self, node: Node, reason: str) -> None:
        """Fail the trials that a stage's failure affects, and drop the stages that wait for it."""
        folder = self.store.stage(node.signature)
        failed = [trial for trial in self.trials if node.signature in trial.all_signatures]
        if node.is_last and folder.has_ended(node.until):  # trained, but not probed
            failed = [node.trial]
        else:
            signatures = {trial.signature for trial in failed}
            self.open -= {other.signature for other in self.waiting if other.trial.signature in signatures}
            self.waiting = [other for other in self.waiting if other.trial.signature not in signatures]
        trace = str(folder.read_error().get("trace", ""))
        for trial in failed:
            if trial.signature != node.signature:
                self.store.stage(trial.signature).fail(f"{reason} (stage '{node.stage.name}')", trace)
            self.notify(Event("failed", trial, self.store.stage(trial.signature).failure() or reason))


def _work(trials: list[Trial]) -> str:
    """What a sweep over these trials is called in its leases."""
    return f"a sweep of {len(trials)} trials, such as '{trials[0].name}'" if trials else "a sweep"
