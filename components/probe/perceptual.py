"""Perceptual distance of reconstructions from their sources, in features of learned networks.

`stlpips` is the shift-tolerant LPIPS with AlexNet (Ghildyal and Liu, ECCV 2022, arXiv 2207.13686), `lpips` is LPIPS
v0.1 (Zhang et al., 2018, arXiv 1801.03924). Both are computed picture by picture on [-1, 1] and averaged.

`perceptual/rfd` and `perceptual/kid` compare the distribution of all reconstructions with that of their sources: the
Fréchet and the kernel distance of EfficientNet-Lite0's 1280 pooled features, of pictures resized bilinearly to 224 px.
The network is not Inception, so these are no rFID and no KID as published. The Fréchet distance depends on the number
of pictures: compare it at equal numbers only. `perceptual/rfd_real` says how far two halves of the sources are apart.

Reconstructions are clamped to [0, 1]. Of clips the middle frames are compared. On one CPU core, 32 pictures of 96 px
took 6 s; a trial's raw and averaged weights are both examined.
"""

from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ablate.components.probe._paired import half_interval, paired_frechet, paired_kernel_distance
from ablate.components.shared.efficientnet import EfficientNetLite0
from ablate.components.shared.lpips import lpips_network
from ablate.components.shared.measure import displayed
from ablate.components.shared.stlpips import ShiftTolerantLPIPS
from ablate.slots import Metric, Probe, ProbeResult, ProbeSettings, Subject

METRICS = (
    Metric(
        "stlpips", "1", "down", "shift-tolerant LPIPS (AlexNet), mean of the images' values", decimals=4, interest=0.01
    ),
    Metric(
        "lpips", "1", "down", "LPIPS v0.1, mean of the images' values", decimals=4, needs="the setting `lpips`",
        interest=0.01,
    ),
    Metric("perceptual/rfd", "1", "down", "Fréchet distance from the sources in EfficientNet-Lite0's features; no FID"),
    Metric("perceptual/rfd_ci", "1", "none", "half of its 95 % interval over pictures"),
    Metric("perceptual/rfd_real", "1", "none", "Fréchet distance of one half of the sources from the other"),
    Metric("perceptual/kid", "1", "down", "kernel distance (cubic, unbiased) in the same features, times 1000"),
    Metric("perceptual/kid_ci", "1", "none", "half of its 95 % interval over pictures"),
    Metric("perceptual/pictures", "1", "none", "number of pictures that are compared", decimals=0, exact=True),
)  # fmt: skip


SIDE = 224
"""Side in px to which pictures are resized for EfficientNet-Lite0: that of its training."""


FEWEST = 4
"""Pictures from which on distributions are compared."""


SCALE = 1000
"""Factor of the kernel distance."""


class Config(ProbeSettings):
    """`lpips`: the trunk with which LPIPS is reported too; it needs torchvision's weights.

    `lpips_weights`: their file; by default the one that torchvision stores in $TORCH_HOME/hub/checkpoints.
    """

    lpips: Literal["vgg", "alex"] | None = None
    lpips_weights: str | None = None

    def smallest(self, stride: int) -> int:
        """Smallest side in px at which the first metric is reported, for a model of this stride."""
        return -(-32 // stride) * stride

    def trunk_file(self) -> Path | None:
        """The file that the weights of LPIPS's trunk are read from; None without LPIPS."""
        from ablate.components.shared.lpips import trunk_file

        return trunk_file(self.lpips, self.lpips_weights) if self.lpips else None

    def content_paths(self) -> dict[str, Path]:
        """The files of the networks' weights."""
        from ablate.components.shared.weights import EFFICIENTNET, STLPIPS

        files = [STLPIPS["alex"].path(), EFFICIENTNET.path(), self.trunk_file()]
        return {file.name: file for file in files if file}

    def preflight(self) -> None:
        """Raise ValueError if a network's weights are missing, or are not those that are known."""
        from ablate.components.shared.weights import EFFICIENTNET, STLPIPS

        for weights in (STLPIPS["alex"], EFFICIENTNET):
            weights.check("probe/perceptual")
        file = self.trunk_file()
        if file and not file.is_file():
            raise ValueError(
                f"perceptual.lpips: ImageNet weights of LPIPS's trunk `{self.lpips}` are missing: {file}. Put "
                f"torchvision's file there, name another one with perceptual.lpips_weights, or leave `lpips` out"
            )


def build(config: Config) -> Probe:
    """Raises ValueError as `Config.preflight` does, or if the file does not hold the trunk's weights."""
    config.preflight()
    networks: dict[str, nn.Module] = {"stlpips": ShiftTolerantLPIPS("alex", "probe/perceptual")}
    file = config.trunk_file()
    if config.lpips and file:
        networks["lpips"] = lpips_network(config.lpips, file, "probe/perceptual")
    features = EfficientNetLite0("probe/perceptual")

    def examine(subject: Subject) -> ProbeResult:
        """Without the metrics of distributions if there are fewer than four pictures."""
        x, y = _compared(subject)
        values = {name: _distances(network, x, y, subject.batch) for name, network in networks.items()}
        return ProbeResult(
            metrics={name: value.mean().item() for name, value in values.items()}
            | _distribution_metrics(*(_features(features, pictures, subject.batch) for pictures in (x, y))),
            per_image={name: value.tolist() for name, value in values.items()},
        )

    return examine


def _compared(subject: Subject) -> tuple[Tensor, Tensor]:
    """Pictures and their reconstructions as a viewer sees them, `n 3 h w` in [0, 1]; of clips their middle frames."""
    if subject.clips is None:
        return subject.images, displayed(subject.reconstruction)
    middle = subject.frames // 2
    return subject.whole_clips[:, :, middle], displayed(subject.clip_reconstruction[:, :, middle])


@torch.inference_mode()
def _distances(network: nn.Module, x: Tensor, y: Tensor, batch: int) -> Tensor:
    """A network's distance of each picture from its reconstruction: `n`."""
    network = network.to(x.device)
    pairs = zip((x * 2 - 1).split(batch), (y * 2 - 1).split(batch), strict=True)
    return torch.cat([network(*pair).flatten() for pair in pairs])


@torch.inference_mode()
def _features(network: nn.Module, x: Tensor, batch: int) -> Tensor:
    """Pooled features of pictures in [0, 1], resized: `n 1280`."""
    network = network.to(x.device)
    resized = (F.interpolate(part, (SIDE, SIDE), mode="bilinear", align_corners=False) for part in x.split(batch))
    return torch.cat([network(part * 2 - 1) for part in resized])


def _distribution_metrics(x: Tensor, y: Tensor) -> dict[str, float]:
    """What compares the features of all pictures with those of all reconstructions."""
    if len(x) < FEWEST:
        return {}
    half = len(x) // 2
    return {
        "perceptual/rfd": paired_frechet(x, y),
        "perceptual/rfd_ci": half_interval(paired_frechet, x, y),
        "perceptual/rfd_real": paired_frechet(x[: 2 * half : 2], x[1 : 2 * half : 2]),
        "perceptual/kid": SCALE * paired_kernel_distance(x, y),
        "perceptual/kid_ci": SCALE * half_interval(paired_kernel_distance, x, y),
        "perceptual/pictures": float(len(x)),
    }
