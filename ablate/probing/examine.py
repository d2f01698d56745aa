"""What `ablate probe` does: load a VAE, run the probes, check the conditions, draw the sheet."""

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
from ablate.probing.load import load_vae
from ablate.probing.pictures import pictures, side_for
from ablate.released.padding import Mode, override_padding
from ablate.released.vae import Released
from ablate.slots import registry
from ablate.slots.probe import Subject
from ablate.slots.settings import Metric
from ablate.slots.training import Autoencoder, Posterior

PROBES = ("reconstruction", "color", "grid", "flatfield", "blur", "border", "droplet", "health")
"""The probes that run by default."""


DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


SHEET = "probe.png"
"""The file name of the sheet."""


SHEET_PICTURES = 8
"""How many pictures the sheet's measurements use."""


Dtype = Literal["fp32", "bf16", "fp16"]


@dataclass(frozen=True)
class Request:
    """The options of `ablate probe`.

    `images`: a folder; None for our held-out photographs. `probes`: their plain settings, see `read_probes`.
    `fail_if`: conditions as text. `out`: the folder for the sheet; None for no sheet. `side`: of the pictures, px; None
    for 256 or the next multiple of the stride. `frames`: a video autoencoder gets each picture as a clip of this many
    equal frames.
    """

    checkpoint: Path
    images: Path | None
    probes: list[dict[str, Any]]
    fail_if: tuple[str, ...]
    out: Path | None
    padding: Mode | None
    dtype: Dtype
    side: int | None
    frames: int = 1


@dataclass(frozen=True)
class ProbeReport:
    """The result of `ablate probe`.

    `metrics`: a number per metric. `intervals`: 95 % bootstrap intervals over pictures, of those metrics that are means
    over pictures, if there are enough. `failed`: the conditions that hold. `about`: the model and the options, as JSON
    values. `sheet`: the path of the sheet, if one was drawn.
    """

    metrics: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    failed: tuple[conditions.Condition, ...]
    about: dict[str, Any]
    sheet: Path | None


def declared(probes: Sequence[str]) -> dict[str, Metric]:
    """The metrics that these probes may report, by name."""
    return {metric.name: metric for probe in probes for metric in registry.level("probe", probe).metrics}


def examine(request: Request, report: Callable[[str], None]) -> ProbeReport:
    """Load a VAE, probe it, check the conditions and draw the sheet. `report` gets messages for the user.

    Raises ValueError for options that are invalid and for a VAE that cannot be loaded or probed, ImportError where
    diffusers is missing.
    """
    # Conditions first: an error in them should not cost a run
    known = declared([probe["level"] for probe in request.probes])
    parsed = [conditions.parse(text, known) for text in request.fail_if]

    # Model
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    vae = load_vae(request.checkpoint, device, request.frames, report)
    about = {
        "model": vae.class_name if isinstance(vae, Released) else "ablate", "stride": vae.stride,
        "latent_channels": vae.latent_channels, "padding_mode": request.padding, "dtype": request.dtype,
        "device": device.type, "frames": request.frames,
    }  # fmt: skip
    if request.padding:
        override_padding(vae, request.padding)
    if request.dtype != "fp32":
        vae = InPrecision(vae, DTYPES[request.dtype])

    # Pictures
    side = request.side or side_for(vae.stride)
    if side % vae.stride:
        raise ValueError(f"--size {side} is not a multiple of the model's stride {vae.stride}")
    crops = pictures(request.images, side, report)

    # Probes, conditions, sheet
    try:
        results = run_probes(vae, crops, request.probes, device, frames=request.frames)
        failed = _failed(parsed, results.metrics, known)
        sheet = None
        if request.out is not None:
            x = torch.from_numpy(crops[:SHEET_PICTURES]).to(device).float() / 255
            sheet = _draw(Subject(vae, x, frames=request.frames), request, about, results.metrics, request.out / SHEET)
    except RuntimeError as error:  # out of memory, or an operation that the device lacks in half precision
        raise ValueError(
            f"{request.checkpoint} at {side} px in {request.dtype}: {str(error).splitlines()[0]}"
        ) from error
    about |= {"size": side, "images": len(crops)}
    return ProbeReport(results.metrics, _intervals(results, len(crops)), failed, about, sheet)


def means_over_pictures(results: ProbeResults, pictures: int) -> dict[str, list[float]]:
    """Metric -> its values per picture, of those that are means over the pictures."""
    no_sample = declared(["flatfield"])  # one value per fixed colour, whose number may equal that of the pictures
    return {
        name: values
        for name, values in results.per_image.items()
        if name not in no_sample
        and len(values) == pictures
        and math.isclose(fmean(values), results.metrics.get(name, math.nan), rel_tol=1e-4)
    }


def _intervals(results: ProbeResults, pictures: int) -> dict[str, tuple[float, float]]:
    """95 % bootstrap intervals of the metrics that are means over the pictures; infinite ones are left out."""
    means = means_over_pictures(results, pictures)
    intervals = {name: bootstrap_interval(values) for name, values in means.items()}
    return {name: (low, high) for name, (low, high) in intervals.items() if math.isfinite(low)}


def _failed(
    parsed: list[conditions.Condition], metrics: dict[str, float], known: dict[str, Metric]
) -> tuple[conditions.Condition, ...]:
    """The conditions that hold. Raises ValueError for one on a metric that was not measured."""
    for condition in parsed:
        if condition.metric not in metrics:
            meaning = known[condition.metric].meaning
            raise ValueError(f"'{condition.text}': not measured on this model at this size ({meaning})")
    return tuple(condition for condition in parsed if condition.holds(metrics))


def _draw(subject: Subject, request: Request, about: dict[str, Any], metrics: dict[str, float], path: Path) -> Path:
    from ablate.probing import sheet

    padding = f", padding {request.padding}" if request.padding else ""
    clips = f" in clips of {request.frames} frames" if request.frames > 1 else ""
    side = subject.images.shape[-1]
    title = (
        f"{request.checkpoint}   {about['model']}, stride {about['stride']}, {side} px{clips}, {request.dtype}{padding}"
    )
    with torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False):  # as in the probes
        sheet.draw(subject, metrics, title, path)
    return path


class InPrecision(Autoencoder):
    """A VAE with weights and activations in another precision; its inputs and outputs stay fp32."""

    def __init__(self, vae: Autoencoder, dtype: torch.dtype) -> None:
        super().__init__()
        self.vae = vae.to(dtype)
        self.dtype = dtype
        self.stride = vae.stride
        self.latent_channels = vae.latent_channels
        self.temporal = vae.temporal
        self.groups = vae.groups

    @property
    def decoder_blocks(self) -> list[torch.nn.Module]:
        return self.vae.decoder_blocks

    def encode(self, x: Tensor) -> Posterior:
        posterior = self.vae.encode(x.to(self.dtype))
        return Posterior(posterior.mean.float(), posterior.logvar.float())

    def decode(self, z: Tensor) -> Tensor:
        return self.vae.decode(z.to(self.dtype)).float()
