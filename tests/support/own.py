"""Own levels as a user writes them, beside a study that trains in seconds."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ablate.slots import discover, registry
from ablate.slots.own_code import OwnCode

NORM = '''\
"""Divides each pixel's channel vector by its root mean square, times a factor."""

import torch
from torch import Tensor, nn

from ablate.slots import Settings

from ._size import size


class Config(Settings):
    """`factor`: what the normalised features are multiplied by."""

    factor: float = 1.0


def build(config: Config, channels: int, latent_channels: int | None) -> nn.Module:
    return Norm(channels, config.factor)


class Norm(nn.Module):
    def __init__(self, channels: int, factor: float) -> None:
        super().__init__()
        self.factor = factor
        self.gain = nn.Parameter(torch.empty(channels))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.ones_(self.gain)

    def forward(self, h: Tensor, z: Tensor | None = None) -> Tensor:
        return self.factor * h / size(h) * self.gain.view(-1, 1, 1)
'''

SIZE = "def size(h):\n    return (h.float().square().mean(1, keepdim=True) + 1e-6).sqrt()\n"

IN_FACTORS = (("loss.kl: [1, 1e-4]", "norm: [{level: group, groups: 4}, mine]"),)
"""A replacement in the tiny study that compares its norm with the own one."""


def write_norm(components: Path, name: str = "mine", text: str = NORM) -> Path:
    """Write an own norm with its helper into a folder of levels; gives its path."""
    folder = components / "norm"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "_size.py").write_text(SIZE, encoding="utf-8")
    (folder / f"{name}.py").write_text(text, encoding="utf-8")
    return folder / f"{name}.py"


@contextmanager
def fresh() -> Iterator[None]:
    """No own code before and after."""
    registry.use(OwnCode())
    discover.given = ()
    try:
        yield
    finally:
        registry.use(OwnCode())
        discover.given = ()
