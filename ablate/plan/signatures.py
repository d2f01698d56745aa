"""Signatures of stages, and of the points within them where trials part.

Trials may differ in nothing but what enters late: a loss term or a discriminator with a `start`, a `cooldown` of the
learning rate. Up to the first step that differs they compute the same, to the last bit. That point is a fork: the steps
up to it are run once, as a stage of their own, and each trial goes on from its checkpoint as if it had been
interrupted there. The signatures of the stages themselves know nothing of it.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise

from ablate.identity import Canonical, canonical, signature
from ablate.recipe.recipe import Recipe
from ablate.recipe.stages import Stage

FORMAT = Canonical(canonical("ablate stage 1"))
"""Part of every signature. Raised when the engine computes something else from the same settings.

The fingerprints in a record, which tell whether it is stale, cover the levels and what they import, not the engine.
"""


@dataclass(frozen=True)
class Fork:
    """The point after `step` steps of a stage. `signature` covers all that these steps depend on, and nothing else."""

    signature: str
    step: int


def stage_signatures(recipe: Recipe, seed: int, root: str | None = None) -> tuple[str, ...]:
    """Signatures of a recipe's stages: each covers the recipe as it holds there, the seed, the stage and its parent.

    `root` stands for the parent of the first one.
    """
    found: list[str] = []
    for stage in recipe.stages:
        identity = recipe.at(stage.name).canonical(regularize=stage.settings.regularize)
        parent = found[-1] if found else root
        found.append(signature([FORMAT, identity, _identity(stage), seed, parent]))
    return tuple(found)


@lru_cache(maxsize=4096)
def _identity(stage: Stage) -> Canonical:
    """What distinguishes a stage among those with the same recipe, seed and parent."""
    return Canonical(canonical({"name": stage.name, **stage.settings.identity()}))


def forks(chains: Iterable[tuple[Recipe, int, tuple[str, ...]]]) -> dict[str, tuple[Fork, ...]]:
    """Signature of a stage -> the points within it where others part from it, in order; stages without any left out.

    Each chain is a recipe, a seed and the signatures of the stages.
    """
    chains = list(chains)
    if not any(recipe.late or any(stage.settings.cooldown > 1 for stage in recipe.stages) for recipe, _, _ in chains):
        return {}
    # Only stages of as many steps, after as many, can have steps in common; and only if what enters late differs.
    alike: dict[tuple[Stage, int], dict[str, tuple[Recipe, int]]] = {}
    for recipe, seed, marks in chains:
        for place, (mark, stage) in enumerate(zip(marks, recipe.stages, strict=True)):
            alike.setdefault((_begun(stage), seed), {}).setdefault(mark, (recipe, place))
    found: dict[str, tuple[Fork, ...]] = {}
    for (_, seed), stages in alike.items():
        late = {_late(recipe, recipe.stages[place]) for recipe, place in stages.values()} if len(stages) > 1 else set()
        if len(late) > 1:
            found |= _part(stages, sorted({step for entries in late for step, _ in entries}), seed)
    return found


@lru_cache(maxsize=4096)
def _begun(stage: Stage) -> Stage:
    """A stage less what its first step does not depend on."""
    return replace(stage, settings=stage.settings.up_to(1))


def _late(recipe: Recipe, stage: Stage) -> tuple[tuple[int, str], ...]:
    """What enters after the first step of a stage: after which of its steps, and what it is.

    A stage with parts of its own is not looked into.
    """
    if stage.name in recipe.own:
        return ()
    steps, full_rate = stage.settings.steps, stage.settings.full_rate
    found = [(min(part.start - stage.before, steps), part.texts[0]) for part in recipe.late]
    found += [(full_rate, f"cooldown {stage.settings.cooldown}")] if full_rate < steps else []
    return tuple(entry for entry in found if entry[0] > 0)


def _part(stages: dict[str, tuple[Recipe, int]], steps: list[int], seed: int) -> dict[str, tuple[Fork, ...]]:
    """The points after these steps at which stages part, of each stage by its signature."""
    paths = {
        mark: [Fork(_prefix(recipe, place, step, seed), step) for step in steps]
        for mark, (recipe, place) in stages.items()
    }
    after: dict[str, set[str]] = {}
    for mark, path in paths.items():
        for point, following in pairwise([*(fork.signature for fork in path), mark]):
            after.setdefault(point, set()).add(following)
    found = {mark: tuple(fork for fork in path if len(after[fork.signature]) > 1) for mark, path in paths.items()}
    return {mark: path for mark, path in found.items() if path}


def _prefix(recipe: Recipe, place: int, step: int, seed: int) -> str:
    """Content hash of all that the first `step` steps of a recipe's stage depend on, those of the stages before too."""
    stage = recipe.stages[place]
    before = [_identity(earlier) for earlier in recipe.stages[:place]]
    here = _identity(Stage(stage.name, stage.settings.up_to(step)))
    regularize = any(earlier.settings.regularize for earlier in recipe.stages[: place + 1])
    each = [recipe.at(one.name).up_to(stage.before + step) for one in recipe.stages[: place + 1]]
    so_far = dict.fromkeys(setup.canonical(regularize=regularize) for setup in each)
    return signature([FORMAT, "fork", step, *so_far, *before, here, seed])
