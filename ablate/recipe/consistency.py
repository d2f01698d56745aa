"""What no part of a recipe is to blame for, but their combination."""

from collections.abc import Collection, Iterator
from itertools import pairwise

from ablate.errors import KeyPath
from ablate.recipe.paths import Raw
from ablate.recipe.recipe import Complaint, Recipe, read_parts, regularizes, weight

NETWORK = ("model", "norm", "upsample", "downsample", "temporal_conv", "branch", "context")
"""Slots that decide which weights there are. A stage of another network cannot just go on from a checkpoint."""


def resolve(raw: Raw) -> tuple[Recipe | None, list[Complaint]]:
    """Check a raw recipe `{base, stages}`. Gives the recipe, or None and all complaints."""
    recipe, complaints = read_parts(raw)
    complaints = complaints or list(contradictions(recipe))
    return (None if complaints else recipe), complaints


def contradictions(recipe: Recipe) -> Iterator[Complaint]:
    """What each part allows and the whole does not, in the recipe and in the stages with parts of their own."""
    known = set()
    for stage in (None, *(stage.name for stage in recipe.stages if stage.name in recipe.own)):
        own = recipe.own[stage] if stage else {}
        for where, message in _in_one(recipe.at(stage) if stage else recipe):
            if message not in known:
                known.add(message)
                is_own = where[0] in own or ".".join(map(str, where[:2])) in own
                yield (("stages", str(stage), *where) if is_own else ("base", *where)), message, False
    yield from ((where, message, False) for where, message in _in_a_row(recipe))


def _in_one(recipe: Recipe) -> Iterator[tuple[KeyPath, str]]:
    """Within the base or a stage; the places begin with a slot."""
    parts = recipe.parts
    if "adversarial" in recipe.losses:
        yield from _adversary(recipe)
    if parts["model"].temporal or parts["data"].settings.clip_length > 1:
        yield from _clips(recipe)
    weighted = [term for term in recipe.losses.values() if weight(term)]
    multiple = parts["regularizer"].settings.latent_multiple
    side, stride = parts["data"].settings.crop, parts["model"].settings.stride
    if side // stride % multiple:
        what = (
            f"its latents' side to be a multiple of {multiple}, found {side // stride} (crop {side}, stride {stride})"
        )
        yield ("regularizer",), f"regularizer '{parts['regularizer'].level}' needs {what}"
    multiple = parts["regularizer"].settings.latent_frames_multiple
    frames, group = parts["data"].settings.clip_length, parts["model"].settings.groups
    if multiple > 1 and (frames == 1 or (frames - 1) // group % multiple):
        found = f"clips whose latent frames after the first are a multiple of {multiple}, found "
        found += f"{(frames - 1) // group} (frames {frames}, time stride {group})" if frames > 1 else "pictures"
        yield ("regularizer",), f"regularizer '{parts['regularizer'].level}' needs {found}"
    if regularizes(parts["regularizer"]) and not any(stage.settings.regularize for stage in recipe.stages):
        message = f"regularizer '{parts['regularizer'].level}' has no stage to act in: all have 'regularize: false'"
        yield ("regularizer",), message
    if not weighted:
        yield ("loss",), "every loss weight is 0: there is nothing to train on"
    elif all(term.start for term in weighted):
        yield ("loss",), "every loss term has a 'start': there is nothing to train on before"


def _adversary(recipe: Recipe) -> Iterator[tuple[KeyPath, str]]:
    term = recipe.losses["adversarial"]
    if not weight(term):
        return
    here: KeyPath = ("loss", "adversarial")
    opponent, data = recipe.parts["discriminator"], recipe.parts["data"].settings
    opens, enters = opponent.start, term.start
    if opponent.level == "none":
        yield here, "an adversarial weight needs a discriminator, which is 'none'"
    elif enters < opens:
        yield here, f"the term enters at step {enters}, before its discriminator trains (start {opens})"
    least, crop = opponent.settings.smallest, data.crop
    if crop < least:
        yield ("data", "crop"), f"the discriminator needs crops of {least} px or more, found {crop}"
    shortest, frames = opponent.settings.shortest, data.clip_length
    if opponent.level != "none" and (frames > 1) != (shortest > 1):
        what = "clips" if shortest > 1 else "pictures"
        yield ("discriminator",), f"discriminator '{opponent.level}' judges {what}, found data.frames {frames}"
    elif frames < shortest:
        yield ("data", "frames"), f"the discriminator needs clips of {shortest} frames or more, found {frames}"


def _clips(recipe: Recipe) -> Iterator[tuple[KeyPath, str]]:
    part, frames = recipe.parts["model"], recipe.parts["data"].settings.clip_length
    if not part.temporal:
        yield ("data", "frames"), f"model '{part.level}' takes pictures, found clips of {frames} frames"
        return
    model, groups, norm = part.settings, part.settings.groups, recipe.parts["norm"].level
    if (frames - 1) % groups:
        below = 1 + (frames - 1) // groups * groups
        message = f"model '{part.level}' takes 1 + {groups} k frames, found {frames}"
        yield ("data", "frames"), f"{message}; the nearest are {below} and {below + groups}"
    if norm not in model.norms:
        yield ("norm",), f"model '{part.level}' works with norms {', '.join(model.norms)}, found '{norm}'"
    halves = recipe.parts["branch"].settings.halves
    for name, multiple in model.multiples(halves).items():
        value = getattr(model, name)
        for number in [value] if isinstance(value, int) else value:
            if number % multiple:
                branch = recipe.parts["branch"].level
                yield ("model", name), f"{name} must be multiples of {multiple} with branch '{branch}', found {number}"


def _in_a_row(recipe: Recipe) -> Iterator[tuple[KeyPath, str]]:
    """Of stages that follow each other."""
    if not recipe.stages:
        yield ("stages", next(iter(recipe.settings)), "steps"), "every stage has 0 steps: there is nothing to train"
        return
    first, last = recipe.stages[0], recipe.stages[-1]
    if first.settings.freeze != "none":
        message = f"stage '{first.name}' freezes the encoder, but no stage before it trains one"
        yield ("stages", first.name, "freeze"), message
    if not recipe.own:  # all stages are of one network
        return
    for slot in different(recipe.at(last.name), recipe, ("data", *NETWORK)):
        message = f"the last stage is examined, so its {slot} must be that of 'base'; earlier stages may differ"
        yield ("stages", last.name, slot), message
    for before, after in pairwise(recipe.stages):
        earlier, later = recipe.at(before.name), recipe.at(after.name)
        if slots := different(earlier, later, NETWORK):
            init = later.parts["init"]
            here = f"stage '{after.name}' has another {' and '.join(slots)} than '{before.name}' before it"
            where: KeyPath = (
                ("stages", after.name, "init") if "init" in recipe.own.get(after.name, {}) else ("base", "init")
            )
            if not init.settings.inherits:
                yield where, f"{here} and can take over its weights by init 'inflate' alone, found '{init.level}'"
            elif misfit := init.settings.misfit(earlier.present, later.present):
                yield where, f"{here}, and init '{init.level}' cannot fill it: {misfit}"


def different(one: Recipe, other: Recipe, slots: Collection[str]) -> list[str]:
    """The slots in which two recipes differ; those of video models that just one of them has are left to `model`."""

    both = one.present.keys() & other.present.keys()
    shared = [(slot, one.present[slot], other.present[slot]) for slot in slots if slot in both]
    return [slot for slot, mine, theirs in shared if mine is not theirs and mine.texts != theirs.texts]
