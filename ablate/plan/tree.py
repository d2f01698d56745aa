"""The tree of stages: equal stages of different trials run once."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from itertools import pairwise

from ablate.plan.footprint import configuration
from ablate.plan.signatures import Fork
from ablate.plan.trials import Order, Trial
from ablate.recipe.stages import Stage
from ablate.store.folders import Store


@dataclass(frozen=True)
class Node:
    """A stage in the tree of stages, or its first steps up to a fork.

    `through`: the trials that need it, in order. `parents`: the signatures of what to wait for. `origin`: the fork
    within the stage that it goes on from. `until`: the step at which it ends.
    """

    signature: str
    parents: tuple[str, ...]
    stage: Stage
    through: tuple[Trial, ...]
    until: int
    origin: Fork | None = None

    @property
    def trial(self) -> Trial:
        """The trial on whose behalf the stage is run: the one that ends with it, else the first that needs it."""
        return next((trial for trial in self.through if trial.signature == self.signature), self.through[0])

    @property
    def is_last(self) -> bool:
        """Whether a trial ends with this stage; it is probed and recorded then."""
        return self.trial.signature == self.signature

    @property
    def begins(self) -> int:
        """The steps of the stage that are made before."""
        return self.origin.step if self.origin else 0

    @property
    def steps(self) -> int:
        """The steps to make."""
        return self.until - self.begins

    def order(self) -> Order:
        """The trial's order, up to this stage; up to a fork without all that enters later."""
        order = self.trial.order()
        bounds = {"last": self.signature, "until": self.until, "origin": self.origin and self.origin.signature}
        if self.signature in self.trial.signatures:
            return {**order, **bounds}
        place = self.trial.treatment.recipe.stages.index(self.stage)
        recipe = self.trial.treatment.recipe.up_to(self.stage.before + self.until)
        plain = {**recipe.plain(), "stages": order["recipe"]["stages"][: place + 1]}
        marks = [*order["signatures"][:place], self.signature]
        needs = [*order["needs"][:place], configuration(recipe, self.stage)]
        return {**order, **bounds, "recipe": plain, "signatures": marks, "needs": needs}


def stage_tree(trials: Iterable[Trial], over: Collection[str] = ()) -> list[Node]:
    """The stages of these trials, each once, in the order of the trials and parents first.

    Nothing waits for a stage or fork whose training is `over`, and it is left out unless a trial ends with it. A fork
    that is not over is left out too where only one stage would go on from it.
    """
    trials = list(trials)
    used = _used(trials, over)
    nodes: dict[str, tuple[tuple[str, ...], Stage, int, Fork | None]] = {}
    through: dict[str, list[Trial]] = {}

    def add(mark: str, parents: tuple[str, ...], stage: Stage, until: int, origin: Fork | None, trial: Trial) -> None:
        nodes.setdefault(mark, (parents, stage, until, origin))
        through.setdefault(mark, []).append(trial)

    for trial in trials:
        before: tuple[str, ...] = ()
        for mark, stage, inner in trial.places:
            origin, parents = None, before
            for fork in inner if mark not in over else ():
                if fork.signature in over:
                    origin, parents = fork, before
                elif fork.signature in used:
                    add(fork.signature, parents, stage, fork.step, origin, trial)
                    origin, parents = fork, (*before, fork.signature)
            if mark not in over or mark == trial.signature:
                add(mark, parents, stage, stage.settings.steps, origin, trial)
            before = () if mark in over else (mark,)
    return [
        Node(mark, parents, stage, tuple(through[mark]), until, origin)
        for mark, (parents, stage, until, origin) in nodes.items()
    ]


def _used(trials: list[Trial], over: Collection[str]) -> set[str]:
    """Signatures of the forks that at least two of the stages and forks to be trained go on from."""
    after: dict[str, set[str]] = {}
    for trial in trials:
        for mark, _, inner in trial.places if trial.forks else ():
            if mark not in over:
                for fork, following in pairwise([*(fork.signature for fork in inner), mark]):
                    after.setdefault(fork, set()).add(following)
    return {fork for fork, following in after.items() if len(following) > 1}


def trained_signatures(trials: Iterable[Trial], store: Store) -> set[str]:
    """Signatures of the stages and forks whose training is over, by their checkpoints."""
    steps: dict[str, int] = {}
    for trial in trials:
        for mark, stage, inner in trial.places:
            steps[mark] = stage.settings.steps
            steps |= {fork.signature: fork.step for fork in inner}
    return {mark for mark in steps if store.stage(mark).has_ended(steps[mark])}
