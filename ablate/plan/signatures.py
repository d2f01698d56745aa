"""Signatures of stages, and of the forks within stages.

A fork is a point within a stage up to which several trials compute exactly the same. Trials may differ only in what
takes effect late: a loss term or a discriminator with a `start`, or a `cooldown` of the learning rate. Their steps
before the first difference are equal to the last bit. These steps are run once, as a stage of their own, and each trial
continues from the resulting checkpoint as if it had been interrupted there. Forks do not change the signatures of
stages.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise

from ablate.identity import Canonical, canonical, signature
from ablate.recipe.recipe import Recipe
from ablate.recipe.stages import Stage

FORMAT = Canonical(canonical("ablate stage 1"))
"""Part of every signature. Raise the number when the engine computes something else from the same settings.

The fingerprints in a record, which tell whether it is stale, cover the levels and what they import, not the engine.
"""


@dataclass(frozen=True)
class Fork:
    """The point after `step` steps of a stage. `signature` covers exactly what these steps depend on."""

    signature: str
    step: int


def stage_signatures(recipe: Recipe, seed: int, root: str | None = None) -> tuple[str, ...]:
    """Signatures of a recipe's stages; each covers the recipe in that stage, the seed, the stage and its parent.

    `root` takes the place of the first stage's parent.
    """
    signatures: list[str] = []
    for stage in recipe.stages:
        identity = recipe.at(stage.name).canonical(regularize=stage.settings.regularize)
        parent = signatures[-1] if signatures else root
        signatures.append(signature([FORMAT, identity, _identity(stage), seed, parent]))
    return tuple(signatures)


@lru_cache(maxsize=4096)
def _identity(stage: Stage) -> Canonical:
    """Canonical text of the name and settings of a stage."""
    return Canonical(canonical({"name": stage.name, **stage.settings.identity()}))


def find_forks(trials: Iterable[tuple[Recipe, int, tuple[str, ...]]]) -> dict[str, tuple[Fork, ...]]:
    """Signature of a stage -> its forks in order of steps; stages without forks are left out.

    Each trial is given as its recipe, its seed and the signatures of its stages.
    """
    trials = list(trials)
    if not any(recipe.late or any(stage.settings.cooldown > 1 for stage in recipe.stages) for recipe, _, _ in trials):
        return {}

    # Stages can share steps only if they are equal apart from the cooldown, with equally many steps before them.
    similar: dict[tuple[Stage, int], dict[str, tuple[Recipe, int]]] = {}
    for recipe, seed, signatures in trials:
        for index, (stage_signature, stage) in enumerate(zip(signatures, recipe.stages, strict=True)):
            group = similar.setdefault((_without_cooldown(stage), seed), {})
            group.setdefault(stage_signature, (recipe, index))

    # In each group, forks lie where late changes differ.
    forks: dict[str, tuple[Fork, ...]] = {}
    for (_, seed), stages in similar.items():
        if len(stages) > 1:
            variants = {_late_changes(recipe, recipe.stages[index]) for recipe, index in stages.values()}
            if len(variants) > 1:
                steps = sorted({step for changes in variants for step, _ in changes})
                forks |= _forks_of_group(stages, steps, seed)
    return forks


@lru_cache(maxsize=4096)
def _without_cooldown(stage: Stage) -> Stage:
    """The stage with only those settings that its first step depends on."""
    return replace(stage, settings=stage.settings.up_to(1))


def _late_changes(recipe: Recipe, stage: Stage) -> tuple[tuple[int, str], ...]:
    """What takes effect after the first step of a stage, as (number of steps of the stage before it, what it is).

    Empty for a stage with levels of its own, and for a command of the user's: such stages have no forks.
    """
    if stage.name in recipe.own or stage.is_external:
        return ()
    steps = stage.settings.steps
    last = stage.settings.last_full_rate_step
    changes = [(min(part.start - stage.before, steps), part.texts[0]) for part in recipe.late]
    if last < steps:
        changes.append((last, f"cooldown {stage.settings.cooldown}"))
    return tuple(change for change in changes if change[0] > 0)


def _forks_of_group(stages: dict[str, tuple[Recipe, int]], steps: list[int], seed: int) -> dict[str, tuple[Fork, ...]]:
    """Signature of a stage -> its forks, for stages that may share steps. Forks can lie only after these `steps`.

    `stages`: signature -> the recipe and the index of the stage in it.
    """
    candidates = {
        stage_signature: [Fork(_prefix_signature(recipe, index, step, seed), step) for step in steps]
        for stage_signature, (recipe, index) in stages.items()
    }
    successors: dict[str, set[str]] = {}
    for stage_signature, path in candidates.items():
        for point, following in pairwise([*(fork.signature for fork in path), stage_signature]):
            successors.setdefault(point, set()).add(following)
    forks = {
        stage_signature: tuple(fork for fork in path if len(successors[fork.signature]) > 1)
        for stage_signature, path in candidates.items()
    }
    return {stage_signature: path for stage_signature, path in forks.items() if path}


def _prefix_signature(recipe: Recipe, index: int, step: int, seed: int) -> str:
    """Content hash of everything that the first `step` steps of a stage depend on, the stages before it included.

    `index`: of the stage in the recipe.
    """
    stage = recipe.stages[index]
    stages = recipe.stages[: index + 1]
    before = [_identity(earlier) for earlier in recipe.stages[:index]]
    here = _identity(Stage(stage.name, stage.settings.up_to(step)))
    regularize = any(each.settings.regularize for each in stages)
    recipes = [recipe.at(each.name).up_to(stage.before + step) for each in stages]
    distinct = dict.fromkeys(each.canonical(regularize=regularize) for each in recipes)
    return signature([FORMAT, "fork", step, *distinct, *before, here, seed])
