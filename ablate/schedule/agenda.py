"""What is left to run of a sweep, in order: stages wait for those that they continue, a search for a free worker."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import Literal, Protocol

from ablate.adaptive.pruning import Pruner
from ablate.plan.tree import Node, trained, tree
from ablate.plan.trials import Trial, answers, pending
from ablate.store.files import read_json
from ablate.store.folders import Store


@dataclass(frozen=True)
class Event:
    """Something that happened to a trial. `step`, `steps` and `losses` come with "progress".

    A stage that several trials share starts and progresses as a stage of one of them. Of what a source suggests,
    "suggested" is told before anything else.
    """

    kind: Literal["suggested", "started", "progress", "interrupted", "done", "diverged", "failed", "pruned"]
    trial: Trial
    reason: str = ""
    step: int = 0
    steps: int = 0
    losses: dict[str, float] | None = None


class Source(Protocol):
    """What trials may still come from as others end: a search, or the tuning of treatments."""

    @property
    def left(self) -> int:
        """How much may still come; 0 when it is over."""

    @property
    def most(self) -> int:
        """How many stages may still come at most."""

    def ask(self, under_way: Collection[str]) -> list[Trial]:
        """The next trials; none if there are none now. `under_way`: signatures of the stages that wait or run."""


class Agenda:
    """The stages that the store lacks of some trials, handed out in order, each once its parent has ended.

    `notify` is told how trials end. Where a stage has diverged, those after it are run all the same: each finds that
    out and records it. Where the training of one has failed, the trials that need it fail with it and the stages after
    it are dropped; where it was trained and then could not be probed, the one trial that ends with it has failed.
    `source` is asked for more as long as fewer than `workers` trials have begun or wait. `pruner` says which
    treatments are stopped; no other seed of one begins before its first trial has ended.
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
        self.trials, self.store, self.notify = list(trials), store, notify
        self.source, self.workers, self.pruner = source, workers, pruner
        self.waiting = tree(trials, trained(trials, store))
        self.open = {node.signature for node in self.waiting}
        """Signatures of the stages that wait or are under way."""

    @property
    def is_over(self) -> bool:
        """Whether no stage will be handed out any more."""
        return not self.waiting and (self.source is None or not self.source.left)

    @property
    def most(self) -> int:
        """How many stages there may be at most."""
        return len(self.waiting) + (self.source.most if self.source else 0)

    def take(self) -> Node | None:
        """The next stage that can start; None if there is none now, since others are under way or all is over."""
        while True:
            for node in self.waiting:
                if self.open.isdisjoint(node.parents) and not self._is_early(node):
                    self.waiting.remove(node)
                    return node
            unfinished = sum(trial.signature in self.open for trial in self.trials)
            if self.source is None or unfinished >= self.workers or not self._add(self.source.ask(self.open)):
                return None

    def _add(self, trials: list[Trial]) -> bool:
        """Take in suggested trials; those that the store answers have ended, others may have been suggested before."""
        seen = {trial.signature for trial in self.trials}
        new = [trial for trial in trials if trial.signature not in seen]
        self.trials += new
        for trial in new:
            self.notify(Event("suggested", trial))
            record = self.store.stage(trial.signature).record()
            if record and answers(record, trial):
                self.notify(Event(record.status, trial, record.reason))
        lacking = pending(new, self.store)
        for node in tree(lacking, trained(lacking, self.store)):
            if node.signature not in self.open:
                self.waiting.append(node)
            elif node.is_last:  # another trial's stage that is to be trained, and then probed for this one
                self.waiting.append(replace(node, parents=(node.signature,)))
        self.open |= {node.signature for node in self.waiting}
        return bool(trials)

    def _is_early(self, node: Node) -> bool:
        """Whether none of the trials that need a stage is sure to be wanted."""
        pruner = self.pruner
        return pruner is not None and all(pruner.waits(trial, self.open, self.trials) for trial in node.through)

    def progress(self, node: Node, step: int, steps: int, losses: dict[str, float]) -> bool:
        """Take note of how far a stage has come; gives whether it is to be stopped, and has ended with that."""
        self.notify(Event("progress", node.trial, step=step, steps=steps, losses=losses))
        reason = self.pruner.judge(node, step, self.trials) if self.pruner else ""
        if reason:
            self._prune(node, reason)
        return bool(reason)

    def _prune(self, node: Node, reason: str) -> None:
        """Drop the trials of the treatment that a stage belongs to, and the stages that no other trial needs."""
        label = node.trial.treatment.label
        lost = [trial for trial in self.trials if trial.treatment.label == label and trial.role == node.trial.role]
        kept = [replace(other, through=tuple(t for t in other.through if t not in lost)) for other in self.waiting]
        self.waiting = [other for other in kept if other.through]
        self.open -= {node.signature} | {other.signature for other in kept if not other.through}
        for trial in lost:
            self.notify(Event("pruned", replace(trial, pruned=reason), reason))

    def end(self, node: Node, status: Literal["done", "diverged", "failed"], reason: str) -> None:
        """Take note that a stage has ended."""
        self.open.discard(node.signature)
        if status == "failed":
            self._fail(node, reason)
        elif node.is_last:
            self.notify(Event(status, node.trial, reason))

    def _fail(self, node: Node, reason: str) -> None:
        folder = self.store.stage(node.signature)
        lost = [trial for trial in self.trials if node.signature in trial.marks]
        if node.is_last and folder.has_ended(node.until):
            lost = [node.trial]
        else:
            names = {trial.signature for trial in lost}
            self.open -= {other.signature for other in self.waiting if other.trial.signature in names}
            self.waiting = [other for other in self.waiting if other.trial.signature not in names]
        trace = (read_json(folder.error) or {}).get("trace", "")  # a full disk holds no error either
        for trial in lost:
            if trial.signature != node.signature:
                self.store.stage(trial.signature).fail(f"{reason} (stage '{node.stage.name}')", trace)
            self.notify(Event("failed", trial, self.store.stage(trial.signature).failure() or reason))
