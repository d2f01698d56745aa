"""Perceptual distance in deep features: LPIPS, ST-LPIPS, features of EfficientNet-Lite0, or random ones.

| `backbone` | distance | where its weights are |
|---|---|---|
| `lpips` | LPIPS: Zhang et al., 2018 (arXiv 1801.03924), trunk VGG-16 or AlexNet | a file that you provide |
| `stlpips` | ST-LPIPS: Ghildyal and Liu, ECCV 2022 (arXiv 2207.13686), trunk VGG-16 or AlexNet | the extra `features` |
| `efficientnet` | of unit-normalised features, LPIPS's form without heads; not LPIPS | the extra `features` |
| `random_features` | the same of a small random network; not LPIPS | none |

Values of different backbones are not comparable, nor are weights of the term that suit them. Nothing is downloaded.

On one CPU core, a training step of the study vivat_losses at scale `cpu` took 1.06 times (0.89 to 1.09, five pairs of
20 steps) as long with `efficientnet` as with `random_features`, and 1.27 times (1.15 to 1.52) with `stlpips` and
AlexNet.
"""

from itertools import pairwise
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ablate.components.shared.efficientnet import EfficientNetLite0
from ablate.components.shared.layers import pictures
from ablate.components.shared.lpips import lpips_network
from ablate.components.shared.stlpips import ShiftTolerantLPIPS
from ablate.components.shared.weights import Weights
from ablate.slots import LossSettings, Step, Term

PLACE = "loss.perceptual"


class Config(LossSettings):
    """`weight`: the term's factor in the training loss. `backbone`: the features; only `lpips` is LPIPS.

    `trunk` applies to `lpips` and `stlpips`, `weights` to `lpips` alone. `trunk`: the network, VGG-16 or AlexNet.
    `weights`: file with torchvision's state dict of the trunk; by default the one that torchvision stores in
    $TORCH_HOME/hub/checkpoints.
    """

    backbone: Literal["lpips", "stlpips", "efficientnet", "random_features"] = "lpips"
    trunk: Literal["vgg", "alex"] = "vgg"
    weights: str | None = None

    def trunk_file(self) -> Path:
        """The file that the weights of LPIPS's trunk are read from."""
        from ablate.components.shared.lpips import trunk_file

        return trunk_file(self.trunk, self.weights)

    def content_paths(self) -> dict[str, Path]:
        """The file of the network's weights, if they are used."""
        if self.weight == 0 or self.backbone == "random_features":
            return {}
        if self.backbone == "lpips":
            file = self.trunk_file()
            return {self.weights or file.name: file}
        packaged = self._packaged().path()
        return {packaged.name: packaged} if packaged else {}

    def preflight(self) -> None:
        """Raise ValueError if the weights of the network are missing, or are not those that are known."""
        if self.weight == 0 or self.backbone == "random_features":
            return
        if self.backbone != "lpips":
            self._packaged().check(f"loss.perceptual.backbone {self.backbone}")
        elif not (file := self.trunk_file()).is_file():
            raise ValueError(
                f"loss.perceptual: LPIPS needs ImageNet weights of its trunk `{self.trunk}`, and {file} is missing. "
                f"Put torchvision's {file.name} there, name another file with loss.perceptual.weights, "
                "or set loss.perceptual.backbone to stlpips, efficientnet or random_features (which are not LPIPS)"
            )

    def _packaged(self) -> "Weights":
        """The file of an installed package that the backbone needs."""
        from ablate.components.shared.weights import EFFICIENTNET, STLPIPS

        return EFFICIENTNET if self.backbone == "efficientnet" else STLPIPS[self.trunk]


def build(config: Config) -> Term:
    """Raises ValueError as `Config.preflight` does, or if the file does not hold the trunk's weights."""
    place = f"{PLACE}.backbone {config.backbone}"
    if config.backbone == "random_features":
        return Perceptual(RandomFeatures())
    if config.backbone == "efficientnet":
        return Perceptual(EfficientNetFeatures(place))
    if config.backbone == "stlpips":
        return Perceptual(ShiftTolerantLPIPS(config.trunk, place))
    config.preflight()
    return Perceptual(lpips_network(config.trunk, config.trunk_file(), PLACE))


class Perceptual(Term):
    """A frozen network's distance between target and reconstruction, mean over b and the frames of clips."""

    of = "reconstruction"
    smallest = 32  # VGG-16 halves the size four times

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network.eval().requires_grad_(False)

    def forward(self, step: Step) -> Tensor:
        x, y = (batch if batch.ndim == 4 else pictures(batch) for batch in (step.x, step.y))
        distance: Tensor = self.network(x, y)
        return distance.float().mean()

    def train(self, mode: bool = True) -> "Perceptual":
        """Stays in eval mode: LPIPS's heads hold dropout, which a parent's `train()` would turn on."""
        return super().train(False)


class EfficientNetFeatures(nn.Module):
    """Distance of unit-normalised features of EfficientNet-Lite0 at strides 2, 4 and 8. It is not LPIPS.

    It keeps LPIPS's form: at each stride, each position's vector of length 1, squared differences summed over channels
    and averaged over positions; then the mean over strides. It has no heads that were trained on people's judgements.
    The strided convolutions weigh neighbouring pixels unevenly: of white noise, the mean gradient of the 16 places in a
    4 x 4 cell differs by up to a factor of 1.3 (random features: 1.05, ST-LPIPS with AlexNet: 1.1).
    """

    def __init__(self, place: str) -> None:
        super().__init__()
        self.network = EfficientNetLite0(place)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Distances `b` between two batches `b 3 h w` in [-1, 1], from 0 (equal) to 4."""
        pairs = zip(self.network.pyramid(x), self.network.pyramid(y), strict=True)
        return torch.stack([apart(*features) for features in pairs]).mean(0)


class RandomFeatures(nn.Module):
    """Distance of unit-normalised features of a small random network. It is not LPIPS and not comparable with it.

    It keeps LPIPS's form (features at several sizes, each position's vector of length 1, squared differences summed
    over channels and averaged over positions) without learnt features or heads, so that a study with a perceptual term
    runs anywhere and cheaply. Sizes are halved by averaging: strided convolutions weigh neighbouring pixels unevenly,
    which could draw the very grid that a study looks for. The weights come from one fixed seed in every trial.
    """

    widths = (8, 16, 32)
    floor = 0.1  # vectors shorter than this, with hardly any active channel, are not scaled up to length 1

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)
            pairs = pairwise((3, *self.widths))
            self.convs = nn.ModuleList(nn.Conv2d(before, after, 3, padding=1) for before, after in pairs)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Distances `b` between two batches `b 3 h w` in [-1, 1], from 0 (equal) to 4."""
        distances = []
        for stage, conv in enumerate(self.convs):
            if stage:
                x = F.avg_pool2d(x, 2)
                y = F.avg_pool2d(y, 2)
            x = F.relu(conv(x))
            y = F.relu(conv(y))
            distances.append(apart(x, y, self.floor))
        return torch.stack(distances).mean(0)


def apart(x: Tensor, y: Tensor, floor: float = 1e-12) -> Tensor:
    """Squared distance of features `b c h w`, each position's vector scaled to length 1, averaged over positions: `b`.

    `floor`: the shortest length that is scaled up to 1.
    """
    first, second = (F.normalize(h.float(), dim=1, eps=floor) for h in (x, y))
    return (first - second).square().sum(1).mean((1, 2))
