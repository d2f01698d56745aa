"""The cost of a study: how many steps of each kind there are, and what one step of each kind needs."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from itertools import pairwise

from ablate.plan.footprint import Footprint, configuration
from ablate.plan.tree import Node
from ablate.plan.trials import Trial
from ablate.recipe.recipe import Recipe
from ablate.recipe.stages import Stage

HEADROOM = 1.25
"""Factor on the memory of a worker, for fragments and for what the allocator holds back."""


CONTEXT = 600_000_000
"""Bytes that a CUDA context takes on a GPU, besides the tensors."""


@dataclass
class StepKind:
    """Steps that cost the same: how many `steps`, in how many `nodes`, after which how many `trials` are probed.

    `trial`, `recipe` and `stage` are an example of such a step.
    """

    trial: Trial
    recipe: Recipe
    stage: Stage
    steps: int = 0
    nodes: int = 0
    trials: int = 0


@dataclass(frozen=True)
class Cost:
    """`seconds`: of one worker. `memory`: a worker's peak, in bytes. `disk`: bytes of all checkpoints together."""

    seconds: float
    memory: int
    disk: int


StepKinds = dict[str, StepKind]
"""Key of a footprint (`ablate.plan.footprint.configuration`) -> the steps that need it."""


def add_steps(kinds: StepKinds, nodes: Iterable[Node], trained: Collection[str] = (), times: int = 1) -> None:
    """Add the steps of nodes to `kinds`, `times` times. Nodes whose signature is in `trained` are only probed."""
    for node in nodes:
        parts = phases(node) if node.signature not in trained else []
        for recipe, steps in parts:
            _kind(kinds, node, recipe).steps += times * steps
        kind = _kind(kinds, node, parts[-1][0] if parts else node.trial.treatment.recipe.at(node.stage.name))
        kind.nodes += times * bool(parts)
        kind.trials += times * sum(trial.signature == node.signature for trial in node.trials)


def _kind(kinds: StepKinds, node: Node, recipe: Recipe) -> StepKind:
    return kinds.setdefault(configuration(recipe, node.stage), StepKind(node.trial, recipe, node.stage))


def phases(node: Node) -> list[tuple[Recipe, int]]:
    """A node's steps, split where a loss term or discriminator starts: the active recipe and steps of each phase."""
    recipe = node.trial.treatment.recipe.at(node.stage.name)
    before = node.stage.before
    cuts = {part.start - before for part in recipe.late}
    ends = [*sorted(cut for cut in cuts if node.start_step < cut < node.until), node.until]
    spans = [(begin, end) for begin, end in pairwise([node.start_step, *ends]) if end > begin]
    return [(recipe.up_to(before + end), end - begin) for begin, end in spans]


def gpu_share(memory: int, gpu: int) -> float:
    """The share 1/n of a GPU for each trial, where n is how many trials fit on it at once (at least 1).

    `memory`: the peak of one trial, `gpu`: the memory of the GPU, both in bytes. Each trial is given `HEADROOM` × its
    peak + `CONTEXT` bytes.
    """
    return 1 / max(1, int(gpu / (HEADROOM * memory + CONTEXT)))


def total_cost(kinds: StepKinds, footprints: dict[str, Footprint]) -> Cost:
    """The cost of all steps, given the footprint of each kind of step."""
    pairs = [(kind, footprints[key]) for key, kind in kinds.items()]
    seconds = sum(kind.steps * footprint.step_s + kind.trials * footprint.probe_s for kind, footprint in pairs)
    memory = max((footprint.memory for _, footprint in pairs), default=0)
    disk = sum(kind.nodes * footprint.checkpoint for kind, footprint in pairs)
    return Cost(seconds, memory, disk)
