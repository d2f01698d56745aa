"""Perceptual distance in deep features: LPIPS, or random features on machines without LPIPS's weights.

Zhang et al., "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric", 2018 (arXiv 1801.03924). The
heads come with the `lpips` package, but the trunk (VGG-16 or AlexNet trained on ImageNet) does not, and nothing is
downloaded here.
"""

import warnings
from itertools import pairwise
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ablate.components.shared.layers import pictures
from ablate.slots import LossSettings, Step, Term


class Config(LossSettings):
    """`weight`: the term's factor in the training loss. `backbone`: the features; `random_features` is not LPIPS.

    `trunk` and `weights` apply to `lpips` only. `trunk`: its network, VGG-16 or AlexNet. `weights`: file with
    torchvision's state dict of the trunk; by default the one that torchvision stores in $TORCH_HOME/hub/checkpoints.
    """

    backbone: Literal["lpips", "random_features"] = "lpips"
    trunk: Literal["vgg", "alex"] = "vgg"
    weights: str | None = None

    def trunk_file(self) -> Path:
        """The file that the trunk's weights are read from."""
        import os

        if self.weights is not None:
            return Path(self.weights).expanduser()
        cache = os.environ.get("XDG_CACHE_HOME", "~/.cache")
        home = Path(os.environ.get("TORCH_HOME", f"{cache}/torch")).expanduser()
        name = {"vgg": "vgg16-397923af.pth", "alex": "alexnet-owt-7be5be79.pth"}[self.trunk]
        return home / "hub" / "checkpoints" / name

    def content_paths(self) -> dict[str, Path]:
        """The file of the trunk's weights, if they are used."""
        file = self.trunk_file()
        return {self.weights or file.name: file} if self.backbone == "lpips" and self.weight > 0 else {}

    def preflight(self) -> None:
        """Raise ValueError if LPIPS is asked for and the weights of its trunk are missing."""
        file = self.trunk_file()
        if self.backbone == "lpips" and self.weight > 0 and not file.is_file():
            raise ValueError(
                f"loss.perceptual: LPIPS needs ImageNet weights of its trunk `{self.trunk}`, and {file} is missing. "
                f"Put torchvision's {file.name} there, name another file with loss.perceptual.weights, "
                "or set loss.perceptual.backbone to random_features (which is not LPIPS)"
            )


def build(config: Config) -> Term:
    """Raises ValueError as `Config.preflight` does, or if the file does not hold the trunk's weights."""
    if config.backbone == "random_features":
        return Perceptual(RandomFeatures())
    config.preflight()
    return Perceptual(lpips_network(config.trunk, config.trunk_file()))


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


def lpips_network(trunk: Literal["vgg", "alex"], file: Path) -> nn.Module:
    """LPIPS v0.1 with the trunk's weights from torchvision's state dict; the global random state is left as it was."""
    import lpips

    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", category=UserWarning, module="torchvision"
        )  # lpips passes torchvision a deprecated argument
        network: nn.Module = lpips.LPIPS(net=trunk, pnet_rand=True, verbose=False)
    given = torch.load(file, map_location="cpu", weights_only=True)
    features = network.get_submodule("net")
    try:  # `slice2.5.weight` here is `features.5.weight` there
        features.load_state_dict({name: given[f"features.{name.split('.', 1)[1]}"] for name in features.state_dict()})
    except (KeyError, RuntimeError) as error:
        raise ValueError(f"loss.perceptual: {file} does not hold torchvision's `{trunk}`: {error}") from error
    return network


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
            first, second = (F.normalize(h.float(), dim=1, eps=self.floor) for h in (x, y))
            distances.append((first - second).square().sum(1).mean((1, 2)))
        return torch.stack(distances).mean(0)
