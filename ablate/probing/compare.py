"""What `ablate compare` does: probe several VAEs on the same pictures, and measure what each costs."""

import gc
import math
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ablate.analysis.tables.compared import Cost, Measured, Results, build
from ablate.analysis.tables.published import ListedTable
from ablate.engine.flops import flops
from ablate.engine.probes import run_probes
from ablate.errors import nearest
from ablate.probing.examine import declared, means_over_pictures
from ablate.probing.load import load_vae
from ablate.probing.pictures import CROPS, SIDE, pictures
from ablate.released.vae import Released
from ablate.slots import registry
from ablate.slots.data import Pixels
from ablate.slots.probe import Subject
from ablate.slots.training import Autoencoder

REPEATS = 5
"""Timed runs after one that warms up; their median counts."""

SHOWN = 6
"""Pictures whose reconstructions are kept for the page."""

BITS = 16
"""Bits per number of a stored latent: diffusion models are trained on latents in half precision."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class Comparison:
    """The options of `ablate compare`.

    `models`: name -> checkpoint, the reference first. `images`: a folder; None for our held-out photographs. `sizes`:
    sides of the pictures, px; empty for 256 or the next multiple of all strides. `probes`: their plain settings, see
    `read_probes`. `leads`: metrics with a column; empty for the first metric of each probe. `frames`: as in `ablate
    probe`.
    """

    models: Mapping[str, Path]
    images: Path | None
    sizes: Sequence[int]
    probes: list[dict[str, Any]]
    leads: Sequence[str]
    device: torch.device
    frames: int = 1

    def __post_init__(self) -> None:
        """Raise ValueError for options that do not fit, before a model is loaded."""
        if len(self.models) < 2:
            raise ValueError("a comparison needs two VAEs or more; to probe one: ablate probe CHECKPOINT")
        for name in self.leads:
            if name not in (known := declared(self.levels)):
                raise ValueError(f"--metrics: unknown '{name}'{nearest(name, list(known))}")

    @property
    def levels(self) -> list[str]:
        """The names of the probes."""
        return [probe["level"] for probe in self.probes]


def compare(wanted: Comparison, say: Say) -> Results:
    """Size -> name -> what was measured; all on the same crops. `say` gets a line per measurement.

    Raises ValueError, before anything is measured, for a VAE that cannot be loaded, a size that a stride does not
    divide and pictures that are too small; ImportError where diffusers is missing.
    """
    strides = {}
    for name, path in wanted.models.items():
        strides[name] = load_vae(path, torch.device("cpu"), wanted.frames, say).stride
        gc.collect()  # frees the model, perhaps several GB, before the next one is loaded
    sizes = list(wanted.sizes) or [-(-SIDE // math.lcm(*strides.values())) * math.lcm(*strides.values())]
    for size in sizes:
        if wrong := [f"{name} {stride}" for name, stride in strides.items() if size % stride]:
            raise ValueError(f"--sizes {size} is not a multiple of the stride of {', '.join(wrong)}")
    crops = {size: pictures(wanted.images, size, say) for size in sizes}

    results: dict[int, dict[str, Measured]] = {size: {} for size in sizes}
    for name, path in wanted.models.items():
        vae = load_vae(path, wanted.device, wanted.frames)
        for size in sizes:
            say(f"{name} on {len(crops[size])} pictures of {size} px")
            try:
                results[size][name] = _measure(vae, crops[size], wanted)
            except RuntimeError as error:  # out of memory
                raise ValueError(f"{name} at {size} px: {str(error).splitlines()[0]}") from error
        del vae
        gc.collect()
    return results


def arrange(wanted: Comparison, results: Results) -> ListedTable:
    """The tables of what was measured. Raises ValueError where no VAE has a metric that was asked for.

    Metrics that no VAE has, such as those of clips, are left out where they were not.
    """
    known = declared(wanted.levels)
    measured = {name for by_name in results.values() for one in by_name.values() for name in one.metrics}
    if lacking := [name for name in wanted.leads if name not in measured]:
        raise ValueError(f"--metrics: no VAE was measured in {', '.join(lacking)} ({known[lacking[0]].meaning})")
    firsts = [registry.level("probe", name).metrics[0].name for name in wanted.levels]
    leads = wanted.leads or [name for name in firsts if name in measured]
    if not leads:
        raise ValueError(f"no VAE was measured in {', '.join(firsts)}; name other --metrics")
    pictures = wanted.images.name if wanted.images else "our held-out photographs"
    shown = {name: metric for name, metric in known.items() if name in measured}
    return build(results, shown, leads, pictures, wanted.device.type)


def _measure(vae: Autoencoder, crops: Pixels, wanted: Comparison) -> Measured:
    found = run_probes(vae, crops, wanted.probes, wanted.device, frames=wanted.frames)
    some = crops[:: -(-len(crops) // SHOWN)]
    x = torch.from_numpy(some).to(wanted.device).float() / 255
    shown = (Subject(vae, x, frames=wanted.frames).reconstruction.clamp(0, 1) * 255).round().byte().cpu().numpy()
    each = 1 if wanted.images else CROPS  # crops of one photograph are alike: a photograph counts once
    values = {name: means_of(per_crop, each) for name, per_crop in means_over_pictures(found, len(crops)).items()}
    return Measured(
        vae.class_name if isinstance(vae, Released) else "ablate", vae.stride, vae.latent_channels, len(crops) // each,
        len(crops), found.metrics, values, _cost(vae, x[:1], wanted.frames), some, shown,
    )  # fmt: skip


def means_of(values: Sequence[float], each: int) -> list[float]:
    """The means of groups of `each` values, in order."""
    return [fmean(values[start : start + each]) for start in range(0, len(values), each)]


@torch.no_grad()
def _cost(vae: Autoencoder, x: Tensor, frames: int) -> Cost:
    """What one picture or clip costs; `x` is `1 3 s s` in [0, 1]."""
    clip = (x * 2 - 1)[:, :, None].expand(-1, -1, frames, -1, -1) if vae.temporal else x * 2 - 1
    with PeakBytes() as held:
        latent = vae.encode(clip).mean
        vae.decode(latent)
    return Cost(
        sum(parameter.numel() for parameter in vae.parameters()) / 1e6,
        flops(vae, tuple(clip.shape[1:])) / 1e9,
        _milliseconds(lambda: vae.encode(clip), x.device),
        _milliseconds(lambda: vae.decode(latent), x.device),
        held.peak / 2**20,
        BITS * latent.numel() / (clip.numel() / 3),
    )


def _milliseconds(run: Callable[[], object], device: torch.device) -> float:
    """The median time of a run, after one that warms up."""
    taken = []
    for _ in range(REPEATS + 1):
        begun = time.perf_counter()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        taken.append(time.perf_counter() - begun)
    return 1000 * median(taken[1:])


class PeakBytes(TorchDispatchMode):
    """Within it, the most bytes that tensors made within it held at once; the same on every device.

    What an operation needs for itself, such as the workspace of a convolution, is not counted.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.alive: dict[int, int] = {}
        self.peak = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        given = {id(tensor.untyped_storage()) for tensor in tree_leaves((args, kwargs)) if isinstance(tensor, Tensor)}
        for tensor in tree_leaves(result):
            storage = tensor.untyped_storage() if isinstance(tensor, Tensor) else None
            if storage is not None and id(storage) not in self.alive and id(storage) not in given:
                self.alive[id(storage)] = storage.nbytes()
                weakref.finalize(storage, self.alive.pop, id(storage))
        self.peak = max(self.peak, sum(self.alive.values()))
        return result
