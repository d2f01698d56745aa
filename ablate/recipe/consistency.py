"""Contradictions: settings of a recipe that are right by themselves and cannot be combined."""

import math
from collections.abc import Collection, Iterator
from itertools import pairwise

from ablate.errors import KeyPath
from ablate.recipe.paths import DEFAULTS, Raw
from ablate.recipe.reading import RecipeProblem, read_parts
from ablate.recipe.recipe import Recipe, regularizes, weight
from ablate.slots import registry

NETWORK = ("model", "norm", "upsample", "downsample", "temporal_conv", "branch", "context")
"""Slots that decide which weights there are. A stage of another network cannot just go on from a checkpoint."""

LATENT_TERMS = {"kl"}
"""Loss terms of the latents alone, which the decoder has no part in."""


def resolve(raw: Raw) -> tuple[Recipe | None, list[RecipeProblem]]:
    """Check a raw recipe `{base, stages}`. Gives the recipe, or None and all problems."""
    recipe, problems = read_parts(raw)
    problems = problems or list(contradictions(recipe))
    return (None if problems else recipe), problems


def contradictions(recipe: Recipe) -> Iterator[RecipeProblem]:
    """The contradictions in the recipe, in each stage with parts of its own, and between stages."""
    known = set()
    for stage in (None, *(stage.name for stage in recipe.stages if stage.name in recipe.own)):
        own = recipe.own[stage] if stage else {}
        for path, message in _in_one(recipe.at(stage) if stage else recipe):
            if message not in known:
                known.add(message)
                is_own = path[0] in own or ".".join(map(str, path[:2])) in own
                yield RecipeProblem(("stages", str(stage), *path) if is_own else ("base", *path), message)
    yield from (RecipeProblem(path, message) for path, message in _in_a_row(recipe))


def _in_one(recipe: Recipe) -> Iterator[tuple[KeyPath, str]]:
    """Contradictions within the base or a stage; their paths begin with a slot."""
    parts = recipe.parts
    if "adversarial" in recipe.losses:
        yield from _adversary(recipe)
    if parts["model"].own_layers:
        yield from _own_layers(recipe)
    if parts["model"].temporal or parts["data"].setting("frames", 1) > 1:
        yield from _clips(recipe)
    weighted = [term for term in recipe.losses.values() if weight(term)]
    stride = parts["model"].setting("stride", 0)
    for name in ("crop", "heldout_size") if stride else ():
        if (length := parts["data"].setting(name, 0)) % stride:
            below = length // stride * stride
            near = f"{below} and {below + stride}" if below else f"{stride}"
            message = (
                f"{name} must be a multiple of the stride {stride} of model '{parts['model'].level}', found {length}"
            )
            yield ("data", name), f"{message}; the nearest: {near}"
    multiple = parts["regularizer"].setting("latent_multiple", 1)
    side = parts["data"].setting("crop", 0)
    if side and stride and side % stride == 0 and side // stride % multiple:
        what = (
            f"its latents' side to be a multiple of {multiple}, found {side // stride} (crop {side}, stride {stride})"
        )
        yield ("regularizer",), f"regularizer '{parts['regularizer'].level}' needs {what}"
    multiple = parts["regularizer"].setting("latent_frames_multiple", 1)
    frames = parts["data"].setting("frames", 1)
    group = parts["model"].setting("groups", 1)
    if multiple > 1 and (frames == 1 or (frames - 1) // group % multiple):
        found = f"clips whose latent frames after the first are a multiple of {multiple}, found "
        found += f"{(frames - 1) // group} (frames {frames}, time stride {group})" if frames > 1 else "pictures"
        yield ("regularizer",), f"regularizer '{parts['regularizer'].level}' needs {found}"
    if regularizes(parts["regularizer"]) and not any(stage.settings.regularize for stage in recipe.stages):
        message = f"regularizer '{parts['regularizer'].level}' has no stage to act in: all have 'regularize: false'"
        yield ("regularizer",), message
    if all(stage.is_external for stage in recipe.stages):
        return
    if not weighted:
        yield ("loss",), "every loss weight is 0: there is nothing to train on"
    elif all(term.start for term in weighted):
        yield ("loss",), "every loss term has a 'start': there is nothing to train on before"


def _adversary(recipe: Recipe) -> Iterator[tuple[KeyPath, str]]:
    term = recipe.losses["adversarial"]
    if not weight(term):
        return
    path: KeyPath = ("loss", "adversarial")
    discriminator = recipe.parts["discriminator"]
    data = recipe.parts["data"].settings
    if discriminator.level == "none":
        yield path, "an adversarial weight needs a discriminator, which is 'none'"
    elif term.start < discriminator.start:
        starts = f"the term enters at step {term.start}, before its discriminator trains (start {discriminator.start})"
        yield path, starts
    smallest = discriminator.setting("smallest", 0)
    crop = getattr(data, "crop", math.inf)
    if crop < smallest:
        yield ("data", "crop"), f"the discriminator needs crops of {smallest} px or more, found {crop}"
    shortest = discriminator.setting("shortest", 1)
    frames = getattr(data, "frames", 1)
    if discriminator.level != "none" and (frames > 1) != (shortest > 1):
        what = "clips" if shortest > 1 else "pictures"
        yield ("discriminator",), f"discriminator '{discriminator.level}' judges {what}, found data.frames {frames}"
    elif frames < shortest:
        yield ("data", "frames"), f"the discriminator needs clips of {shortest} frames or more, found {frames}"


def _own_layers(recipe: Recipe) -> Iterator[tuple[KeyPath, str]]:
    """What cannot be combined with a model that has weights and layers of its own."""
    model = recipe.parts["model"].level
    for slot in NETWORK[1:]:
        part = recipe.parts[slot]
        default = {"level": DEFAULTS[slot], **registry.level(slot, DEFAULTS[slot]).Config.read({}).plain()}
        if part.plain() != default:
            found = f"found {slot} '{part.level}'" if part.level != DEFAULTS[slot] else f"found settings of {slot}"
            yield (
                (slot,),
                f"model '{model}' has layers of its own, of which only padding can be set, {found}; remove it",
            )
    for term in LATENT_TERMS & {name for name, part in recipe.losses.items() if weight(part)}:
        if recipe.parts["model"].setting("deterministic", False):
            reason = "encodes to latents without a distribution, whose posterior has no width"
            yield ("loss", term), f"model '{model}' {reason}: '{term}' has nothing to act on; remove it"


def _clips(recipe: Recipe) -> Iterator[tuple[KeyPath, str]]:
    part = recipe.parts["model"]
    frames = recipe.parts["data"].setting("frames", 1)
    if not part.temporal:
        yield ("data", "frames"), f"model '{part.level}' takes pictures, found clips of {frames} frames"
        return
    model = part.settings
    groups = part.setting("clip_multiple", model.groups)
    norm = recipe.parts["norm"].level
    if (frames - 1) % groups:
        below = 1 + (frames - 1) // groups * groups
        message = f"model '{part.level}' takes 1 + {groups} k frames, found {frames}"
        yield ("data", "frames"), f"{message}; the nearest are {below} and {below + groups}"
    if part.own_layers:
        return
    if norm not in model.norms:
        yield ("norm",), f"model '{part.level}' works with norms {', '.join(model.norms)}, found '{norm}'"
    halves = recipe.parts["branch"].settings.halves
    for name, numbers, multiple in (
        ("channels", model.channels, 2 * halves),
        ("latent_channels", [model.latent_channels], halves),
    ):
        for number in numbers:
            if number % multiple:
                branch = recipe.parts["branch"].level
                yield ("model", name), f"{name} must be multiples of {multiple} with branch '{branch}', found {number}"


def _in_a_row(recipe: Recipe) -> Iterator[tuple[KeyPath, str]]:
    """Contradictions between stages that follow each other."""
    if not recipe.stages:
        yield ("stages", next(iter(recipe.settings)), "steps"), "every stage has 0 steps: there is nothing to train"
        return
    first = recipe.stages[0]
    last = recipe.stages[-1]
    if first.settings.freeze != "none" and not recipe.at(first.name).parts["model"].own_layers:
        message = f"stage '{first.name}' freezes the encoder, but no stage before it trains one"
        yield ("stages", first.name, "freeze"), message
    yield from _frozen(recipe)
    if not recipe.own:  # all stages are of one network
        return
    for slot in different(recipe.at(last.name), recipe, ("data", *NETWORK)):
        message = f"the last stage is examined, so its {slot} must be that of 'base'; earlier stages may differ"
        yield ("stages", last.name, slot), message
    for before, after in pairwise(recipe.stages):
        earlier = recipe.at(before.name)
        later = recipe.at(after.name)
        if slots := different(earlier, later, NETWORK):
            init = later.parts["init"]
            change = f"stage '{after.name}' has another {' and '.join(slots)} than '{before.name}' before it"
            is_own = "init" in recipe.own.get(after.name, {})
            path: KeyPath = ("stages", after.name, "init") if is_own else ("base", "init")
            if not getattr(init.settings, "inherits", False):
                owner = after.name if slots[0] in recipe.own.get(after.name, {}) else before.name
                remedy = "write" if is_own else "add"
                message = f"{change} and can take over its weights by init 'inflate' alone, found '{init.level}'"
                message += f"; {remedy} 'init: inflate' in stage '{after.name}'"
                yield path if is_own else ("stages", owner, slots[0]), message
            elif misfit := init.settings.misfit(earlier.present, later.present):
                yield path, f"{change}, and init '{init.level}' cannot fill it: {misfit}"


def _frozen(recipe: Recipe) -> Iterator[tuple[KeyPath, str]]:
    """Stages that train the decoder alone on loss terms that do not depend on it."""
    for stage, setup in zip(recipe.stages, recipe.setups, strict=True):
        weighted = {term for term, part in setup.losses.items() if weight(part)}
        if stage.settings.freeze == "encoder" and weighted and weighted <= LATENT_TERMS:
            own = recipe.own.get(stage.name, {})
            has_loss = any(unit.startswith("loss.") for unit in own)
            path: KeyPath = ("stages", stage.name, "loss" if has_loss else "freeze")
            yield path, f"stage '{stage.name}' freezes the encoder, and no loss term reaches the decoder"


def different(one: Recipe, other: Recipe, slots: Collection[str]) -> list[str]:
    """The slots in which two recipes differ. Slots of video models that only one of them has are not compared."""
    both = one.present.keys() & other.present.keys()
    shared = [(slot, one.present[slot], other.present[slot]) for slot in slots if slot in both]
    return [slot for slot, mine, theirs in shared if mine is not theirs and mine.texts != theirs.texts]
