"""Models, losses, discriminators and data of a trial, built from its recipe."""

import functools
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ablate.data.corpus import Corpus
from ablate.engine import checkpoint
from ablate.engine.loss_weights import Weight
from ablate.engine.train import CHANNELS_LAST, TrainingParts
from ablate.identity import derive
from ablate.plan.trials import Order
from ablate.slots import registry, training
from ablate.slots.video import VideoLayers


def try_build(recipe: dict[str, Any]) -> None:
    """Pass one crop, one held-out picture, and latents as small as the regularizer makes them through the model.

    Raises what training would.
    """
    frames = recipe["data"].get("frames", 1)
    with torch.device("meta"), torch.no_grad():
        vae = build_model(recipe)
        for side in (recipe["data"]["heldout_size"], recipe["data"]["crop"]):
            x = torch.empty(1, 3, frames, side, side) if frames > 1 else torch.empty(1, 3, side, side)
            z = vae.encode(x).mean
            y = vae.decode(z)
            if y.shape != x.shape:
                raise ValueError(f"the model turns {tuple(x.shape[2:])} into {tuple(y.shape[2:])}")
        if (small := _smallest_latent(recipe["regularizer"], z.shape[-1])) < z.shape[-1]:
            vae.decode(z[..., :small, :small])


def _smallest_latent(regularizer: dict[str, Any], side: int) -> int:
    """The smallest side of latents that the regularizer has decoded in training, for latents of `side` places."""
    settings = {name: value for name, value in regularizer.items() if name != "level"}
    config: Any = registry.level("regularizer", regularizer["level"]).Config.read(settings)
    smallest: int = config.smallest_latent(side) if config.acts else side
    return smallest


StageStart = tuple[dict[str, Any], Path]
"""The recipe of a stage that has ended, and its checkpoint."""


INNER = ("norm", "upsample", "downsample")


def build_parts(
    order: Order, corpus: Corpus, device: torch.device, before: StageStart | None = None, *, regularize: bool = True
) -> TrainingParts:
    """Build the recipe's levels. Same names start with the same weights in every treatment of a seed.

    `before`: the stage before, where that trained another network whose weights are to be taken over. A regularizer of
    strength 0 is left out, and so is any unless `regularize`.
    """
    recipe, seed = order["recipe"], order["seed"]
    torch.manual_seed(derive(seed, "build"))
    vae = build_model(recipe)
    terms = {}
    for name, settings in recipe["loss"].items():
        if settings["weight"] > 0:
            terms[name] = (weight_of(settings), registry.build("loss", name, settings).to(device))
    discriminator = (
        registry.build("discriminator", *_named(recipe["discriminator"])) if "adversarial" in terms else None
    )
    initialise = registry.build("init", *_named(recipe["init"]), lambda name: derive(seed, "init", name))
    initialise(vae)
    if before:
        initialise.inherit(vae, averaged(*before))
    move_to(vae, device)
    if discriminator:
        initialise(discriminator)
        move_to(discriminator, device)
    level, settings = _named(recipe["regularizer"])
    acts = regularize and settings.get("strength", 1.0) != 0
    regularizer = registry.build("regularizer", level, settings) if acts else None
    opens = recipe["discriminator"].get("start", 0)
    return TrainingParts(vae, discriminator, opens, terms, regularizer, corpus, device)


def averaged(recipe: dict[str, Any], path: Path) -> training.Autoencoder:
    """The autoencoder of a checkpoint with its averaged weights, on the CPU."""
    vae = build_model(recipe)
    vae.load_state_dict(checkpoint.load(path, "model."))
    vae.load_state_dict(checkpoint.load(path, "ema."), strict=False)
    return vae


def move_to(module: nn.Module, device: torch.device) -> None:
    """Move a network to its device, in the memory layout that is quick there."""
    module.to(device)
    for parameter in module.parameters() if device.type == "cuda" else ():
        if parameter.ndim in CHANNELS_LAST:
            parameter.data = parameter.data.contiguous(memory_format=CHANNELS_LAST[parameter.ndim])


def weight_of(term: dict[str, Any]) -> Weight:
    """A loss term's weight over the steps, from its settings."""
    clamp = term["clamp"] if term.get("mode") == "adaptive" else None
    return Weight(float(term["weight"]), term.get("start", 0), term.get("ramp", 0), clamp)


def build_model(recipe: dict[str, Any]) -> training.Autoencoder:
    """The recipe's autoencoder with its inner slots filled, on the default device."""
    chosen, zeros = registry.build("padding", *_named(recipe["padding"])), registry.build("padding", "zeros", {})
    where = recipe["padding"].get("where", "both")
    parts = video_parts if "temporal_conv" in recipe else image_parts
    halves = [parts(recipe, chosen if where in {half, "both"} else zeros) for half in ("encoder", "decoder")]
    model: training.Autoencoder = registry.build("model", *_named(recipe["model"]), *halves)
    return model


def image_parts(recipe: dict[str, Any], padding: training.Padding) -> training.Layers:
    """The levels inside half of an image model."""
    return training.Layers(padding, *(functools.partial(registry.build, slot, *_named(recipe[slot])) for slot in INNER))


def video_parts(recipe: dict[str, Any], padding: training.Padding) -> VideoLayers:
    """The levels inside half of a video model."""

    def norm(channels: int, halves: int) -> nn.Module:
        built: nn.Module = registry.build("norm", *_named(recipe["norm"]), channels, None, halves)
        return built

    def temporal_conv(before: int, after: int, group: int) -> nn.Module:
        built: nn.Module = registry.build(
            "temporal_conv", *_named(recipe["temporal_conv"]), before, after, group, padding
        )
        return built

    branch = registry.build("branch", *_named(recipe["branch"]), temporal_conv, padding)
    return VideoLayers(padding, norm, branch, registry.build("context", *_named(recipe["context"]), padding))


def _named(part: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    return part["level"], _less(part, "level")


def _less(values: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name != key}
