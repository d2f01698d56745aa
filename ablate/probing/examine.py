"""The work of `ablate probe`: load a VAE, examine it, judge the conditions, draw the sheet."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

import torch
from torch import Tensor

from ablate.analysis.statistics.chance import bootstrap_interval
from ablate.engine.probes import ProbeResults, run_probes
from ablate.probing import conditions
from ablate.probing.pictures import pictures, side_for
from ablate.released.load import Released, load_vae
from ablate.released.padding import Mode, override_padding
from ablate.slots import registry
from ablate.slots.probe import Subject
from ablate.slots.settings import Metric
from ablate.slots.training import Autoencoder, Posterior

PROBES = ("reconstruction", "color", "grid", "flatfield", "blur", "border", "droplet", "health")


DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


SHEET = "probe.png"


SHEET_PICTURES = 8


Dtype = Literal["fp32", "bf16", "fp16"]


@dataclass(frozen=True)
class Request:
    """What is asked for, as on the command line. `side` None: 256 px, or the next multiple of the stride.

    `frames`: of the clip that a picture is to a video autoencoder.
    """

    checkpoint: Path
    images: Path | None
    probes: tuple[str, ...]
    fail_if: tuple[str, ...]
    out: Path | None
    padding: Mode | None
    dtype: Dtype
    side: int | None
    frames: int = 1


@dataclass(frozen=True)
class ProbeReport:
    """What was found; `failed` are the conditions that hold, `about` what was examined and how.

    `intervals`: of those metrics that are means over pictures, 95 % over other pictures, where there are enough.
    """

    metrics: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    failed: tuple[conditions.Condition, ...]
    about: dict[str, Any]
    sheet: Path | None


def declared(probes: Sequence[str]) -> dict[str, Metric]:
    """Every metric that these probes may report, by name."""
    return {metric.name: metric for probe in probes for metric in registry.level("probe", probe).metrics}


def examine(request: Request, report: Callable[[str], None]) -> ProbeReport:
    """Load, probe, judge, draw. `report` hears what a user should know besides.

    Raises ValueError for what cannot be examined or was not understood, ImportError where diffusers is missing.
    """
    known = declared(request.probes)
    asked = [conditions.parse(text, known) for text in request.fail_if]
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    vae = load_vae(request.checkpoint, device, request.frames)
    about = {
        "model": vae.class_name if isinstance(vae, Released) else "ablate", "stride": vae.stride,
        "latent_channels": vae.latent_channels, "padding_mode": request.padding, "dtype": request.dtype,
        "device": device.type, "frames": request.frames,
    }  # fmt: skip
    if request.padding:
        override_padding(vae, request.padding)
    if request.dtype != "fp32":
        vae = InPrecision(vae, DTYPES[request.dtype])
    side = request.side or side_for(vae.stride)
    if side % vae.stride:
        raise ValueError(f"--size {side} is not a multiple of the model's stride {vae.stride}")
    crops = pictures(request.images, side, report)
    try:
        probes = [{"level": name} for name in request.probes]
        found = run_probes(vae, crops, probes, device, frames=request.frames)
        failed = _judge(asked, found.metrics, known)
        sheet = None
        if request.out is not None:
            x = torch.from_numpy(crops[:SHEET_PICTURES]).to(device).float() / 255
            sheet = _draw(Subject(vae, x, frames=request.frames), request, about, found.metrics, request.out / SHEET)
    except RuntimeError as error:  # out of memory, or an operation that a device lacks in half precision
        raise ValueError(
            f"{request.checkpoint} at {side} px in {request.dtype}: {str(error).splitlines()[0]}"
        ) from error
    about |= {"size": side, "images": len(crops)}
    return ProbeReport(found.metrics, _intervals(found, len(crops)), failed, about, sheet)


def _intervals(found: ProbeResults, pictures: int) -> dict[str, tuple[float, float]]:
    no_sample = declared(["flatfield"])  # its values are of fixed colours, of which there may be as many
    intervals = {
        name: bootstrap_interval(values)
        for name, values in found.per_image.items()
        if name not in no_sample
        and len(values) == pictures
        and math.isclose(fmean(values), found.metrics.get(name, math.nan), rel_tol=1e-4)
    }
    return {name: (low, high) for name, (low, high) in intervals.items() if math.isfinite(low)}


def _judge(
    asked: list[conditions.Condition], metrics: dict[str, float], known: dict[str, Metric]
) -> tuple[conditions.Condition, ...]:
    for condition in asked:
        if condition.metric not in metrics:
            meaning = known[condition.metric].meaning
            raise ValueError(f"'{condition.text}': not measured on this model at this size ({meaning})")
    return tuple(condition for condition in asked if condition.holds(metrics))


def _draw(subject: Subject, request: Request, about: dict[str, Any], metrics: dict[str, float], path: Path) -> Path:
    from ablate.probing import sheet

    padding = f", padding {request.padding}" if request.padding else ""
    clips = f" in clips of {request.frames} frames" if request.frames > 1 else ""
    side = subject.images.shape[-1]
    title = (
        f"{request.checkpoint}   {about['model']}, stride {about['stride']}, {side} px{clips}, {request.dtype}{padding}"
    )
    with torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False):  # as the probes see it
        sheet.draw(subject, metrics, title, path)
    return path


class InPrecision(Autoencoder):
    """A VAE whose weights and activations are of another precision; what goes in and comes out stays fp32."""

    def __init__(self, vae: Autoencoder, dtype: torch.dtype) -> None:
        super().__init__()
        self.vae, self.dtype = vae.to(dtype), dtype
        self.stride, self.latent_channels = vae.stride, vae.latent_channels
        self.temporal, self.groups = vae.temporal, vae.groups

    @property
    def decoder_blocks(self) -> list[torch.nn.Module]:
        return self.vae.decoder_blocks

    def encode(self, x: Tensor) -> Posterior:
        found = self.vae.encode(x.to(self.dtype))
        return Posterior(found.mean.float(), found.logvar.float())

    def decode(self, z: Tensor) -> Tensor:
        return self.vae.decode(z.to(self.dtype)).float()
