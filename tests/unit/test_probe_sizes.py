"""What a probe says of itself, unimported: the smallest pictures that it can work on, and whether it is cheap."""

import importlib
import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ablate.slots import registry
from ablate.slots.probe import Subject
from ablate.slots.training import Autoencoder, Posterior

torch.set_num_threads(1)


PROBES = (
    *("blur", "border", "color", "droplet", "grid", "health", "inputs", "reconstruction"),
    *("spectrum", "erasure", "equivariance", "latent_noise", "intrinsic_dimension"),
)


class Pooled(Autoencoder):
    """Means of squares of stride px, and a decoder of one block that names it."""

    latent_channels = 3

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride, self.block = stride, nn.Identity()

    @property
    def decoder_blocks(self) -> list[nn.Module]:
        return [self.block]

    def encode(self, x: Tensor) -> Posterior:
        z = F.avg_pool2d(x, self.stride)
        return Posterior(z, torch.zeros_like(z))

    def decode(self, z: Tensor) -> Tensor:
        return F.interpolate(self.block(z), scale_factor=self.stride)


def first_metric(name: str, stride: int, side: int) -> float:
    """NaN if it is not reported."""
    images = torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(0))
    try:
        found = registry.build("probe", name, {})(Subject(Pooled(stride), images, training=images)).metrics
    except ValueError:
        return math.nan
    return found.get(registry.level("probe", name).metrics[0].name, math.nan)


@pytest.mark.parametrize("name", PROBES)
@pytest.mark.parametrize("stride", [1, 2, 4, 8, 16])
def test_the_smallest_size_is_enough_and_one_stride_less_is_not(name: str, stride: int) -> None:
    smallest = registry.level("probe", name).Config().smallest(stride)
    assert smallest % stride == 0
    for side in range(smallest, smallest + 8 * stride, stride):
        assert not math.isnan(first_metric(name, stride, side)), side
    below = smallest - stride
    assert below == 0 or math.isnan(first_metric(name, stride, below))


def test_cheap_probes_are_known_without_their_import() -> None:
    assert {name for name in PROBES if registry.level("probe", name).cheap} == {"reconstruction", "color", "grid"}
    for name in PROBES:
        module = importlib.import_module(f"ablate.components.probe.{name}")
        assert registry.level("probe", name).cheap == getattr(module, "CHEAP", False)
    assert not registry.level("norm", "scn").cheap
    assert [name for name in registry.levels("probe") if registry.level("probe", name).costly] == ["diffusability"]
