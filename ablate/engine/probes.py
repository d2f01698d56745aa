"""Frozen model in, metrics out."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ablate.identity import derive
from ablate.slots import registry
from ablate.slots.data import Motion
from ablate.slots.probe import ProbeResult, Subject
from ablate.slots.training import Autoencoder

Pixels = np.ndarray[Any, np.dtype[np.uint8]]


@dataclass
class ProbeResults:
    """The findings of several probes put together; `info` says unit, direction and decimals of each metric."""

    metrics: dict[str, float] = field(default_factory=dict)
    info: dict[str, dict[str, Any]] = field(default_factory=dict)
    per_image: dict[str, list[float]] = field(default_factory=dict)
    pictures: dict[str, Pixels] = field(default_factory=dict)


def run_probes(
    vae: Autoencoder,
    heldout: Pixels,
    probes: list[dict[str, Any]],
    device: torch.device,
    training: Pixels | None = None,
    motion: Motion | None = None,
    batch: Callable[[int, np.random.Generator], Pixels] | None = None,
    frames: int = 1,
) -> ProbeResults:
    """Examine a model with held-out pictures `n 3 s s` or clips `n 3 t s s`. `probes` are plain settings with `level`.

    `training`: crops that it was trained on, `n 3 c c` or `n 3 t c c`, where they are known; `batch` draws more
    (`Corpus.batch`). `motion`: of held-out clips. `frames`: of the clip that a picture is to a temporal model, where
    there are no held-out clips. Raises ValueError for clips where the model is one of images.
    """
    vae = vae.eval().requires_grad_(False)
    x = _scaled(heldout, device)
    crops = None if training is None else _middle(_scaled(training, device))

    def draw(count: int, seed: int) -> Tensor:
        assert batch is not None
        return _middle(_scaled(batch(count, np.random.default_rng(derive(seed, "crops"))), device))

    subject = Subject(vae, _middle(x), training=crops, draw=draw if batch else None, frames=frames)
    if x.ndim == 5:
        if not vae.temporal:
            raise ValueError(
                f"held-out clips of {x.shape[2]} frames are for temporal models, and this one is of images"
            )
        subject.clips, subject.frames = x, vae.whole(x.shape[2])
        if motion:
            subject.flow, subject.visible = (torch.from_numpy(a).to(device) for a in (motion.flow, motion.visible))
    found = ProbeResults()
    for settings in probes:
        level = settings["level"]
        probe = registry.build("probe", level, {name: value for name, value in settings.items() if name != "level"})
        with torch.backends.cudnn.flags(
            enabled=True, deterministic=True, allow_tf32=False
        ):  # TF32 keeps 10 bits: no longer fp32
            findings: ProbeResult = probe(subject)
        found.metrics |= findings.metrics
        found.per_image |= findings.per_image
        found.pictures |= findings.pictures
        for metric in registry.level("probe", level).metrics:
            found.info[metric.name] = {
                "unit": metric.unit, "direction": metric.direction, "decimals": metric.decimals, "target": metric.target
            }  # fmt: skip
    return found


def _scaled(pixels: Pixels, device: torch.device) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(pixels)).to(device).float() / 255


def _middle(x: Tensor) -> Tensor:
    """The middle frames of `n 3 t s s`; pictures as they are."""
    return x[:, :, x.shape[2] // 2] if x.ndim == 5 else x
