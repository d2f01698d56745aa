"""Runs probes on a frozen model."""

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
    """The results of several probes, merged.

    `metrics`: a number per metric name. `info`: unit, direction, decimals and target of each metric. `per_image`:
    values per held-out picture, by metric. `pictures`: `h w 3`, by name.
    """

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
    """Run probes on a model, with held-out pictures `n 3 s s` or clips `n 3 t s s`.

    `probes`: plain settings, each with its `level`. `training`: crops that the model was trained on, `n 3 c c` or
    `n 3 t c c`, where they are known; `batch` draws more (`Corpus.batch`). `motion`: that of the held-out clips.
    `frames`: a video model gets each picture as a clip of this many equal frames, unless there are held-out clips.
    Raises ValueError for clips where the model is an image model.
    """
    # The subject that the probes examine
    vae = vae.eval().requires_grad_(False)
    x = _scaled(heldout, device)
    crops = None if training is None else _middle(_scaled(training, device))

    def draw(count: int, seed: int) -> Tensor:
        assert batch is not None
        return _middle(_scaled(batch(count, np.random.default_rng(derive(seed, "crops"))), device))

    subject = Subject(vae, _middle(x), training=crops, draw=draw if batch else None, frames=frames)
    if x.ndim == 5:
        if not vae.temporal:
            raise ValueError(f"held-out clips of {x.shape[2]} frames need a video model, but this is an image model")
        subject.clips = x
        subject.frames = vae.whole(x.shape[2])
        if motion:
            subject.flow = torch.from_numpy(motion.flow).to(device)
            subject.visible = torch.from_numpy(motion.visible).to(device)

    # The probes, in true fp32: TF32 would keep 10 bits of the mantissa
    results = ProbeResults()
    for settings in probes:
        level = settings["level"]
        probe = registry.build("probe", level, {name: value for name, value in settings.items() if name != "level"})
        with torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False):
            result: ProbeResult = probe(subject)
        results.metrics |= result.metrics
        results.per_image |= result.per_image
        results.pictures |= result.pictures
        for metric in registry.level("probe", level).metrics:
            results.info[metric.name] = {
                "unit": metric.unit, "direction": metric.direction, "decimals": metric.decimals, "target": metric.target
            }  # fmt: skip
    return results


def _scaled(pixels: Pixels, device: torch.device) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(pixels)).to(device).float() / 255


def _middle(x: Tensor) -> Tensor:
    """The middle frame of each clip in `n 3 t s s`; pictures are returned unchanged."""
    return x[:, :, x.shape[2] // 2] if x.ndim == 5 else x
