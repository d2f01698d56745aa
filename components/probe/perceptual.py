"""Perceptual distance of reconstructions from their sources, in features of learned networks.

`stlpips` is the shift-tolerant LPIPS with AlexNet (Ghildyal and Liu, ECCV 2022, arXiv 2207.13686), `lpips` is LPIPS
v0.1 (Zhang et al., 2018, arXiv 1801.03924). Both are computed picture by picture on [-1, 1] and averaged.

`perceptual/rfd` and `perceptual/kid` compare the distribution of all reconstructions with that of their sources: the
Fréchet and the kernel distance of EfficientNet-Lite0's 1280 pooled features, of pictures resized bilinearly to 224 px.
That network is not Inception, so these are no rFID and no KID as published. `rfid` is rFID, as torch-fidelity 0.4
computes it (features of pictures of 8 bits, resized as in TensorFlow 1); it needs the published weights. A Fréchet
distance depends on the number of pictures: compare it at equal numbers only. `perceptual/rfd_real` and
`perceptual/rfid_real` say how far two halves of the sources are apart.

Reconstructions are clamped to [0, 1]. Of clips the middle frames are compared. On one CPU core, 32 pictures of 96 px
took 6 s; a trial's raw and averaged weights are both examined.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ablate.components.probe._inception import FidelityInception
from ablate.components.probe._paired import half_interval, paired_frechet, paired_kernel_distance
from ablate.components.shared.efficientnet import EfficientNetLite0
from ablate.components.shared.lpips import lpips_network
from ablate.components.shared.measure import displayed
from ablate.components.shared.stlpips import ShiftTolerantLPIPS
from ablate.slots import Metric, Probe, ProbeResult, ProbeSettings, Subject, added

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
    Metric(
        "rfid", "1", "down", "Fréchet Inception distance from the sources", needs="the setting `inception`",
        interest=0.1,
    ),
    Metric(
        "perceptual/rfid_ci", "1", "none", "half of its 95 % interval over pictures", needs="the setting `inception`"
    ),
    Metric(
        "perceptual/rfid_real", "1", "none", "Fréchet Inception distance of one half of the sources from the other",
        needs="the setting `inception`",
    ),
    Metric(
        "perceptual/rfid_kid", "1", "down", "kernel distance (cubic, unbiased) in the features of rFID, times 1000",
        needs="the setting `inception`",
    ),
    Metric(
        "perceptual/rfid_kid_ci", "1", "none", "half of its 95 % interval over pictures",
        needs="the setting `inception`",
    ),
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
    `inception`: file with the weights of FID's Inception network, as published with pytorch-fid; without it no rFID is
    reported.
    """

    lpips: Literal["vgg", "alex"] | None = None
    lpips_weights: str | None = None
    inception: str | None = added(None, absent_means=None)

    def smallest(self, stride: int) -> int:
        """Smallest side in px at which the first metric is reported, for a model of this stride."""
        return -(-32 // stride) * stride

    def trunk_file(self) -> Path | None:
        """The file that the weights of LPIPS's trunk are read from; None without LPIPS."""
        from ablate.components.shared.lpips import trunk_file

        return trunk_file(self.lpips, self.lpips_weights) if self.lpips else None

    def inception_file(self) -> Path | None:
        """The file that the weights of FID's network are read from; None without rFID."""
        return Path(self.inception).expanduser() if self.inception else None

    def content_paths(self) -> dict[str, Path]:
        """The files of the networks' weights."""
        from ablate.components.shared.weights import EFFICIENTNET, STLPIPS

        files = [STLPIPS["alex"].path(), EFFICIENTNET.path(), self.trunk_file(), self.inception_file()]
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
        inception = self.inception_file()
        if inception and not inception.is_file():
            raise ValueError(
                f"perceptual.inception: {inception} does not exist; put pytorch-fid's "
                "pt_inception-2015-12-05-6726825d.pth there, or leave `inception` out: no rFID is reported then"
            )


def build(config: Config) -> Probe:
    """Raises ValueError as `Config.preflight` does, or if the file does not hold the trunk's weights."""
    config.preflight()
    networks: dict[str, nn.Module] = {"stlpips": ShiftTolerantLPIPS("alex", "probe/perceptual")}
    file = config.trunk_file()
    if config.lpips and file:
        networks["lpips"] = lpips_network(config.lpips, file, "probe/perceptual")
    features = EfficientNetLite0("probe/perceptual")
    inception_file = config.inception_file()
    inception = FidelityInception(inception_file, "perceptual.inception") if inception_file else None

    def examine(subject: Subject) -> ProbeResult:
        """Without the metrics of distributions if there are fewer than four pictures."""
        x, y = _compared(subject)
        values = {name: _distances(network, x, y, subject.batch) for name, network in networks.items()}
        metrics = {name: value.mean().item() for name, value in values.items()}
        if len(x) >= FEWEST:
            both = (_features(features, _resized(one, subject.batch)) for one in (x, y))
            metrics |= _distribution_metrics("perceptual/rfd", "perceptual/kid", *both)
            metrics["perceptual/pictures"] = float(len(x))
        if len(x) >= FEWEST and inception:
            both = (_features(inception, one.split(subject.batch)) for one in (x, y))
            metrics |= _distribution_metrics("rfid", "perceptual/rfid_kid", *both)
        return ProbeResult(metrics, per_image={name: value.tolist() for name, value in values.items()})

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


def _resized(x: Tensor, batch: int) -> Iterator[Tensor]:
    """Batches of pictures in [0, 1] as EfficientNet-Lite0 takes them."""
    for part in x.split(batch):
        yield F.interpolate(part, (SIDE, SIDE), mode="bilinear", align_corners=False) * 2 - 1


@torch.inference_mode()
def _features(network: nn.Module, batches: Iterable[Tensor]) -> Tensor:
    """Pooled features `n d`."""
    return torch.cat([network.to(batch.device)(batch) for batch in batches])


def _distribution_metrics(frechet: str, kernel: str, x: Tensor, y: Tensor) -> dict[str, float]:
    """What compares the features `n d` of all pictures with those of all reconstructions, under these two names.

    `_real` is the Fréchet distance of every second picture from the others.
    """
    short = f"perceptual/{frechet.removeprefix('perceptual/')}"
    half = len(x) // 2
    return {
        frechet: paired_frechet(x, y),
        f"{short}_ci": half_interval(paired_frechet, x, y),
        f"{short}_real": paired_frechet(x[: 2 * half : 2], x[1 : 2 * half : 2]),
        kernel: SCALE * paired_kernel_distance(x, y),
        f"{kernel}_ci": SCALE * half_interval(paired_kernel_distance, x, y),
    }
