"""A model without memory, to see whether it can be built and takes what training will give it."""

from typing import Any

import torch

from ablate import registry
from ablate.run import build_model


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
        if small := _smallest_latent(recipe["regularizer"], z.shape[-1]):
            vae.decode(z[..., :small, :small])


def _smallest_latent(regularizer: dict[str, Any], side: int) -> int:
    """The least side of latents that training decodes for the regularizer's sake; 0 if it reduces none."""
    settings = {name: value for name, value in regularizer.items() if name != "level"}
    config: Any = registry.level("regularizer", regularizer["level"]).Config.read(settings)
    return config.smallest_latent(side) if hasattr(config, "smallest_latent") and config.strength else 0
