"""The tree of stages: equal stages of different trials run once."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from itertools import pairwise

from ablate.plan.footprint import configuration
from ablate.plan.signatures import Fork
from ablate.plan.trials import Order, Trial
from ablate.recipe.stages import Stage
from ablate.store.folders import Store
from ablate.store.record import KEPT
from ablate.store.stage import has_ended


@dataclass(frozen=True)
class Node:
    """A stage in the tree of stages, or its first steps up to a fork.

    `parents`: signatures of the nodes that must end before it starts. `trials`: the trials that need it, in order.
    `until`: the step of the stage at which it ends. `origin`: the fork of the stage that it starts from, if any.
    """

    signature: str
    parents: tuple[str, ...]
    stage: Stage
    trials: tuple[Trial, ...]
    until: int
    origin: Fork | None = None

    @property
    def trial(self) -> Trial:
        """The trial that this stage is run for: the one that ends with it, or else the first that needs it."""
        return next((trial for trial in self.trials if trial.signature == self.signature), self.trials[0])

    @property
    def is_last(self) -> bool:
        """Whether a trial ends with this stage, so that it is probed and recorded afterwards."""
        return self.trial.signature == self.signature

    @property
    def start_step(self) -> int:
        """The number of steps of the stage that its origin has made; 0 if it starts at the beginning of the stage."""
        return self.origin.step if self.origin else 0

    @property
    def steps(self) -> int:
        """The number of steps that this node trains."""
        return self.until - self.start_step

    def order(self) -> Order:
        """The trial's order up to this stage. Up to a fork, it leaves out what takes effect only after the fork."""
        order = self.trial.order()
        bounds = {"last": self.signature, "until": self.until, "origin": self.origin and self.origin.signature}
        if self.signature in self.trial.signatures:
            return {**order, **bounds}
        index = self.trial.treatment.recipe.stages.index(self.stage)
        recipe = self.trial.treatment.recipe.up_to(self.stage.before + self.until)
        plain = {**recipe.plain(), "stages": order["recipe"]["stages"][: index + 1]}
        signatures = [*order["signatures"][:index], self.signature]
        needs = [*order["needs"][:index], configuration(recipe, self.stage)]
        return {**order, **bounds, "recipe": plain, "signatures": signatures, "needs": needs}


def stage_tree(trials: Iterable[Trial], trained: Collection[str] = ()) -> list[Node]:
    """The stages of these trials, each once, in the order of the trials, with parents before their children.

    `trained`: signatures of the stages and forks whose training has ended. Nothing waits for them, and they are left
    out, except a stage with which a trial ends. Other forks are left out if only one stage would start from them.
    """
    trials = list(trials)
    shared = _shared_forks(trials, trained)
    nodes: dict[str, tuple[tuple[str, ...], Stage, int, Fork | None]] = {}
    users: dict[str, list[Trial]] = {}

    def add(
        signature: str, parents: tuple[str, ...], stage: Stage, until: int, origin: Fork | None, trial: Trial
    ) -> None:
        nodes.setdefault(signature, (parents, stage, until, origin))
        users.setdefault(signature, []).append(trial)

    for trial in trials:
        before: tuple[str, ...] = ()
        for signature, stage, forks in trial.stages_with_forks:
            origin: Fork | None = None
            parents = before
            for fork in forks if signature not in trained else ():
                if fork.signature in trained:
                    origin = fork
                    parents = before
                elif fork.signature in shared:
                    add(fork.signature, parents, stage, fork.step, origin, trial)
                    origin = fork
                    parents = (*before, fork.signature)
            if signature not in trained or signature == trial.signature:
                add(signature, parents, stage, stage.settings.steps, origin, trial)
            before = () if signature in trained else (signature,)
    return [
        Node(signature, parents, stage, tuple(users[signature]), until, origin)
        for signature, (parents, stage, until, origin) in nodes.items()
    ]


def _shared_forks(trials: list[Trial], trained: Collection[str]) -> set[str]:
    """Signatures of the forks that at least two untrained stages or forks start from."""
    successors: dict[str, set[str]] = {}
    for trial in trials:
        for signature, _, forks in trial.stages_with_forks if trial.forks else ():
            if signature not in trained:
                for fork, following in pairwise([*(fork.signature for fork in forks), signature]):
                    successors.setdefault(fork, set()).add(following)
    return {fork for fork, following in successors.items() if len(following) > 1}


def trained_signatures(trials: Iterable[Trial], store: Store) -> set[str]:
    """Signatures of the stages and forks whose training has ended, according to their checkpoints.

    One that another stage has yet to go on from counts only if its checkpoint holds all that this needs.
    """
    trials = list(trials)
    steps: dict[str, int] = {}
    for trial in trials:
        for signature, stage, forks in trial.stages_with_forks:
            steps[signature] = stage.settings.steps
            steps |= {fork.signature: fork.step for fork in forks}
    headers = {signature: store.stage(signature).header() for signature in steps}
    ended = {signature for signature, header in headers.items() if header and has_ended(header, steps[signature])}
    reduced = {signature for signature in ended if KEPT in (headers[signature] or {})}
    for trial in trials if reduced else ():
        must_continue = False
        for signature, _, forks in reversed(trial.stages_with_forks):
            if must_continue and signature in reduced:
                ended.discard(signature)
            must_continue = signature not in ended
            if must_continue:
                ended -= reduced.intersection(fork.signature for fork in forks)
    return ended
