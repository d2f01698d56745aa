"""What is left of a study costs: steps by their kind, and what a step of each kind needs."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from itertools import pairwise

from ablate.plan.footprint import Footprint, configuration
from ablate.plan.tree import Node
from ablate.plan.trials import Trial
from ablate.recipe.recipe import Recipe
from ablate.recipe.stages import Stage

HEADROOM = 1.25


CONTEXT = 600_000_000
"""Bytes of a process on a GPU beside its tensors."""


@dataclass
class StepKind:
    """Steps that cost the same: so many `steps` of `nodes` stages or forks, after which `trials` are probed.

    `trial` makes some of them, with `recipe` in `stage`.
    """

    trial: Trial
    recipe: Recipe
    stage: Stage
    steps: int = 0
    nodes: int = 0
    trials: int = 0


@dataclass(frozen=True)
class Cost:
    """`seconds` of one worker, bytes of memory at a worker's peak, bytes of checkpoints in all."""

    seconds: float
    memory: int
    disk: int


StepKinds = dict[str, StepKind]
"""By the keys of `ablate.needs`."""


def add_steps(found: StepKinds, nodes: Iterable[Node], over: Collection[str] = (), times: int = 1) -> None:
    """Add so many times the steps of some nodes; those whose training is `over` are only probed."""
    for node in nodes:
        ends = phases(node) if node.signature not in over else []
        for recipe, steps in ends:
            _kind(found, node, recipe).steps += times * steps
        kind = _kind(found, node, ends[-1][0] if ends else node.trial.treatment.recipe.at(node.stage.name))
        kind.nodes += times * bool(ends)
        kind.trials += times * sum(trial.signature == node.signature for trial in node.through)


def _kind(found: StepKinds, node: Node, recipe: Recipe) -> StepKind:
    return found.setdefault(configuration(recipe, node.stage), StepKind(node.trial, recipe, node.stage))


def phases(node: Node) -> list[tuple[Recipe, int]]:
    """A node's steps, cut where something enters: the recipe as far as it matters, and the steps until the next cut."""
    recipe, before = node.trial.treatment.recipe.at(node.stage.name), node.stage.before
    cuts = {part.start - before for part in recipe.late}
    ends = [*sorted(cut for cut in cuts if node.begins < cut < node.until), node.until]
    return [(recipe.up_to(before + end), end - begin) for begin, end in pairwise([node.begins, *ends]) if end > begin]


def gpu_share(memory: int, gpu: int) -> float:
    """The largest share 1/n of a GPU of so many bytes, such that n trials of so many bytes at their peak fit.

    Each gets a quarter more, for fragments and what the allocator holds back, and room for its CUDA context.
    """
    return 1 / max(1, int(gpu / (HEADROOM * memory + CONTEXT)))


def total_cost(found: StepKinds, needs: dict[str, Footprint]) -> Cost:
    """The cost of all kinds, from what one step of each was found to need."""
    seconds = sum(kind.steps * needs[key].step_s + kind.trials * needs[key].probe_s for key, kind in found.items())
    disk = sum(kind.nodes * needs[key].checkpoint for key, kind in found.items())
    return Cost(seconds, max((needs[key].memory for key in found), default=0), disk)
