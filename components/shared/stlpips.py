"""ST-LPIPS, shift-tolerant LPIPS, with its published weights: a distance that a shift by a pixel changes little.

Ghildyal and Liu, "Shift-tolerant Perceptual Similarity Metric", ECCV 2022 (arXiv 2207.13686): LPIPS whose trunk samples
finely and blurs before it samples down. Trunks and heads (BSD-2-Clause) lie in the package `stlpips-pytorch`.
"""

import re
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ablate.components.shared.weights import STLPIPS

EPS = 1e-10
"""Shortest length by which a vector of features is divided."""


class BlurDown(nn.Module):
    """Every second pixel after a 3 x 3 binomial blur, padded by 2 px of reflection: `n c h w -> n c h/2+1 w/2+1`."""

    filt: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("filt", torch.empty(channels, 1, 3, 3))

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(F.pad(x, (2, 2, 2, 2), mode="reflect"), self.filt, stride=2, groups=x.shape[1])


def alexnet() -> tuple[nn.Sequential, tuple[int, ...]]:
    """The shift-tolerant AlexNet and the places of the five layers that are compared."""
    layers = nn.Sequential(
        nn.Conv2d(3, 64, 11, padding=2), BlurDown(64), nn.ReLU(),
        nn.MaxPool2d(3, 1), BlurDown(64), nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(),
        nn.MaxPool2d(3, 1), BlurDown(192), nn.Conv2d(192, 384, 3, padding=1), nn.ReLU(),
        nn.Conv2d(384, 256, 3, padding=1), nn.ReLU(),
        nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(),
    )  # fmt: skip
    return layers, (2, 6, 10, 12, 14)


def vgg16() -> tuple[nn.Sequential, tuple[int, ...]]:
    """The shift-tolerant VGG-16 and the places of the five layers that are compared."""
    layers: list[nn.Module] = []
    ends = []
    before = 3
    for channels, count in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        if layers:
            layers += [nn.MaxPool2d(2, 1), BlurDown(before)]
        for _ in range(count):
            layers += [nn.Conv2d(before, channels, 3, padding=1), nn.ReLU()]
            before = channels
        ends.append(len(layers) - 1)
    return nn.Sequential(*layers), tuple(ends)


class ShiftTolerantLPIPS(nn.Module):
    """Distances `n` between batches `n 3 h w` in [-1, 1], of at least 21 px; frozen, in eval mode.

    At each of five layers, vectors of features are scaled to length 1 and their squared differences weighted and summed
    over channels and averaged over positions; the sum over layers is the distance. Raises ValueError as `Weights.check`
    does. `place`: the setting or level that needs it, for messages.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, trunk: Literal["vgg", "alex"], place: str) -> None:
        super().__init__()
        self.layers, self.ends = alexnet() if trunk == "alex" else vgg16()
        given = STLPIPS[trunk].read(place)
        heads = [given.pop(f"lin{number}.model.1.weight") for number in range(len(self.ends))]
        self.heads = nn.ParameterList(heads)
        self.register_buffer("shift", given.pop("scaling_layer.shift"))
        self.register_buffer("scale", given.pop("scaling_layer.scale"))
        self.layers.load_state_dict({re.sub(r"^net\.slice\d\.", "", name): tensor for name, tensor in given.items()})
        self.eval().requires_grad_(False)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        distances = [
            (head[0] * (first - second).square()).sum(1).mean((1, 2))
            for head, first, second in zip(self.heads, self.features(x), self.features(y), strict=True)
        ]
        return torch.stack(distances).sum(0)

    def features(self, x: Tensor) -> list[Tensor]:
        """Of the five layers, each position's vector of length 1: `n c h w`, fp32."""
        h = (x - self.shift) / self.scale
        found = []
        for number, layer in enumerate(self.layers):
            h = layer(h)
            if number in self.ends:
                found.append(F.normalize(h.float(), dim=1, eps=EPS))
        return found
