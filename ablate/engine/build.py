"""Builds the model, losses, discriminator and regularizer of a trial from its recipe."""

import functools
from contextlib import nullcontext
from typing import Any

import torch
from torch import nn

from ablate.data.corpus import Corpus
from ablate.engine.checkpoint import Checkpoint
from ablate.engine.freeze import freeze
from ablate.engine.loss_weights import WeightSchedule
from ablate.engine.train import CHANNELS_LAST, TrainingParts
from ablate.identity import derive
from ablate.plan.trials import Order
from ablate.slots import registry, training
from ablate.slots.targets import is_target
from ablate.slots.video import VideoLayers


def try_build(recipe: dict[str, Any]) -> dict[str, int]:
    """Build the model without memory (on the meta device) and run it on every size of picture that training uses.

    These are a crop, a held-out picture, and latents as small as the regularizer makes them. A model of the user's own,
    which may not work without memory, is built and run for real; one that brings its weights is built for real, so that
    they are checked. Gives the number of `parameters` and the bytes of
    `buffers`. Raises what training would; ValueError if a picture comes back in another size.
    """
    frames = recipe["data"].get("frames", 1)
    device = "cpu" if is_own_model(recipe) else "meta"
    with torch.device(device), torch.no_grad(), torch.random.fork_rng(devices=[]):
        vae = build_to_try(recipe).to(device).eval()
        for side in (recipe["data"]["heldout_size"], recipe["data"]["crop"]):
            x = torch.zeros(1, 3, frames, side, side) if frames > 1 else torch.zeros(1, 3, side, side)
            z = vae.encode(x).mean
            y = vae.decode(z)
            if y.shape != x.shape:
                raise ValueError(f"the model turns {tuple(x.shape[2:])} into {tuple(y.shape[2:])}")
        if (small := _smallest_latent(recipe["regularizer"], z.shape[-1])) < z.shape[-1]:
            vae.decode(z[..., :small, :small])
        persistent = {*vae.state_dict()} - {name for name, _ in vae.named_parameters(remove_duplicate=False)}
        buffers = sum(tensor.nbytes for name, tensor in vae.named_buffers() if name in persistent)
        return {"parameters": count_parameters(vae), "buffers": buffers}


def build_to_try(recipe: dict[str, Any]) -> training.Autoencoder:
    """The recipe's model, with the parts frozen that each stage freezes, which must be there."""
    released = getattr(registry.level("model", recipe["model"]["level"]).Config, "own_layers", False)
    with torch.device("cpu") if released else nullcontext():
        vae = build_model(recipe)
    for stage in recipe["stages"]:
        if stage.get("freeze_parts"):
            freeze(vae, stage["freeze"], stage["freeze_parts"])
            vae.requires_grad_(True)
    return vae


def try_critic(recipe: dict[str, Any]) -> int:
    """Build the discriminator without memory; gives the number of its parameters."""
    with torch.device("meta"), torch.random.fork_rng(devices=[]):
        critic = registry.build("discriminator", *split_level(recipe["discriminator"]))
        return count_parameters(critic) if critic else 0


def count_parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def is_own_model(recipe: dict[str, Any]) -> bool:
    """Whether the model is a class of the user's own."""
    level = recipe["model"]["level"]
    return level == "python" or is_target(level)


def find_stride(recipe: dict[str, Any]) -> int:
    """The stride of the recipe's model, which is built for it."""
    with torch.random.fork_rng(devices=[]):
        return build_model(recipe).stride


def try_term(name: str, settings: dict[str, Any], crop: int) -> None:
    """Build a loss term and compute it on two pictures. Raises what training would; ValueError without a gradient."""
    with torch.random.fork_rng(devices=[]):
        term: training.Term = registry.build("loss", name, settings)
        torch.manual_seed(0)
        x, y = torch.rand(2, 2, 3, crop, crop) * 2 - 1
        y.requires_grad_()
        still = training.Posterior(torch.zeros(2, 1, 1, 1), torch.zeros(2, 1, 1, 1))
        loss = term(training.Step(x, y, still, still.mean, None, crop))
        if not loss.requires_grad:
            raise ValueError(f"loss: {name} gives a number without a gradient to the reconstruction")


def _smallest_latent(regularizer: dict[str, Any], side: int) -> int:
    """The smallest side of latents that the regularizer has decoded in training, for latents of `side` positions."""
    level, settings = split_level(regularizer)
    config: Any = registry.level("regularizer", level).Config.read(settings)
    smallest: int = config.smallest_latent(side) if config.acts else side
    return smallest


Inherited = tuple[dict[str, Any], Checkpoint]
"""The recipe of a stage that has ended, and its checkpoint."""


INNER_SLOTS = ("norm", "upsample", "downsample")


def build_parts(
    order: Order, corpus: Corpus, device: torch.device, inherited: Inherited | None = None, *, regularize: bool = True
) -> TrainingParts:
    """Build the recipe's levels. Parts of the same name start with the same weights in every treatment of a seed.

    `inherited`: the stage before, if it trained another network, whose weights the model takes over. The regularizer is
    left out if its strength is 0 or `regularize` is false.
    """
    recipe = order["recipe"]
    seed = order["seed"]

    # Modules
    torch.manual_seed(derive(seed, "build"))
    vae = build_model(recipe)
    terms = {}
    for name, settings in recipe["loss"].items():
        if settings["weight"] > 0:
            terms[name] = (weight_schedule(settings), registry.build("loss", name, settings).to(device))
    discriminator = (
        registry.build("discriminator", *split_level(recipe["discriminator"])) if "adversarial" in terms else None
    )

    # Initial weights
    initialise = registry.build("init", *split_level(recipe["init"]), lambda name: derive(seed, "init", name))
    initialise(vae)
    if inherited:
        initialise.inherit(vae, load_averaged(*inherited))
    move_to(vae, device)
    if discriminator:
        initialise(discriminator)
        move_to(discriminator, device)

    # Regularizer
    level, settings = split_level(recipe["regularizer"])
    is_active = regularize and settings.get("strength", 1.0) != 0
    regularizer = registry.build("regularizer", level, settings) if is_active else None
    discriminator_start = recipe["discriminator"].get("start", 0)
    return TrainingParts(vae, discriminator, discriminator_start, terms, regularizer, corpus, device)


def load_averaged(recipe: dict[str, Any], saved: Checkpoint) -> training.Autoencoder:
    """The autoencoder of a checkpoint, with its averaged weights, on the CPU."""
    vae = build_model(recipe)
    vae.load_state_dict(saved.part("model."), strict=saved.has_raw)
    vae.load_state_dict(saved.part("ema."), strict=False)
    return vae


def move_to(module: nn.Module, device: torch.device) -> None:
    """Move a network to its device, in the memory layout that is fastest there."""
    module.to(device)
    for parameter in module.parameters() if device.type == "cuda" else ():
        if parameter.ndim in CHANNELS_LAST:
            parameter.data = parameter.data.contiguous(memory_format=CHANNELS_LAST[parameter.ndim])


def weight_schedule(term: dict[str, Any]) -> WeightSchedule:
    """The weight schedule of a loss term, from the term's settings."""
    clamp = term["clamp"] if term.get("mode") == "adaptive" else None
    return WeightSchedule(float(term["weight"]), term.get("start", 0), term.get("ramp", 0), clamp)


def build_model(recipe: dict[str, Any]) -> training.Autoencoder:
    """The recipe's autoencoder with its inner slots filled, on the default device.

    `padding.where` says which half gets the chosen padding; the other pads with zeros.
    """
    chosen = registry.build("padding", *split_level(recipe["padding"]))
    zeros = registry.build("padding", "zeros", {})
    where = recipe["padding"].get("where", "both")
    parts = video_parts if "temporal_conv" in recipe else image_parts
    halves = [parts(recipe, chosen if where in {half, "both"} else zeros) for half in ("encoder", "decoder")]
    model: training.Autoencoder = registry.build("model", *split_level(recipe["model"]), *halves)
    return model


def image_parts(recipe: dict[str, Any], padding: training.Padding) -> training.Layers:
    """The levels inside one half (encoder or decoder) of an image model."""
    return training.Layers(
        padding, *(functools.partial(registry.build, slot, *split_level(recipe[slot])) for slot in INNER_SLOTS)
    )


def video_parts(recipe: dict[str, Any], padding: training.Padding) -> VideoLayers:
    """The levels inside one half (encoder or decoder) of a video model."""

    def norm(channels: int, halves: int) -> nn.Module:
        built: nn.Module = registry.build("norm", *split_level(recipe["norm"]), channels, None, halves)
        return built

    def temporal_conv(before: int, after: int, group: int) -> nn.Module:
        built: nn.Module = registry.build(
            "temporal_conv", *split_level(recipe["temporal_conv"]), before, after, group, padding
        )
        return built

    branch = registry.build("branch", *split_level(recipe["branch"]), temporal_conv, padding)
    return VideoLayers(padding, norm, branch, registry.build("context", *split_level(recipe["context"]), padding))


def split_level(part: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """A part of a recipe as the name of its level and the level's settings."""
    return part["level"], {name: value for name, value in part.items() if name != "level"}
