"""The arms of IV-VAE's ablation as small models, built as a trial would build them."""

from typing import Any

import torch
from torch import Tensor

from ablate.engine.build import build_model
from ablate.slots import registry
from ablate.slots.training import Autoencoder

ARMS: dict[str, dict[str, Any]] = {
    "A": {},
    "B": {"temporal_conv": "grouped"},
    "C": {"branch": "ktc"},
    "D": {"temporal_conv": "grouped", "branch": "ktc"},
    "E": {"temporal_conv": "grouped", "branch": "ktc", "context": {"level": "tmpe", "rates": [1, 2]}},
}
"""The causal baseline, + GCConv, + KTC, + both, + TMPE."""


IMAGE = {"image": True}
"""Settings of the image VAE that fills a half."""


def recipe(model: dict[str, Any] | None = None, **slots: Any) -> dict[str, Any]:
    """The plain recipe of a small video model, as workers are given it."""
    size = {"channels": [8, 16, 16], "latent_channels": 8, "blocks": 1}
    levels: dict[str, Any] = {
        "padding": "zeros", "norm": "rms", "temporal_conv": "causal", "branch": "single", "context": "none", **slots
    }  # fmt: skip
    spread = {name: {"level": level} if isinstance(level, str) else level for name, level in levels.items()}
    return {"model": {"level": "video_kl", **size, **(model or {})}, **spread}


def build(
    model: dict[str, Any] | None = None, *, seed: int = 0, dtype: torch.dtype = torch.float64, **slots: Any
) -> Any:
    """A small video model with weights of its own for each seed."""
    torch.manual_seed(seed)
    vae: Autoencoder = build_model(recipe(model, **slots))
    registry.build("init", "scratch", {}, lambda name: seed + sum(name.encode()))(vae)
    return vae.to(dtype).eval()


def clip(frames: int, side: int = 8, batch: int = 1, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    """Noise `b 3 t s s` in about [-1, 1]."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, 3, frames, side, side, generator=generator, dtype=torch.float64).mul(0.5).to(dtype)


def chunks(x: Tensor, sizes: list[int]) -> list[Tensor]:
    """Consecutive frames."""
    assert sum(sizes) == x.shape[2]
    return list(x.split(sizes, dim=2))
