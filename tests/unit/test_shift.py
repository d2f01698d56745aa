"""The shift probe on fake autoencoders whose answer to a move is known, and on the real one."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ablate.components.probe import shift
from ablate.components.probe._tone import toned
from ablate.slots import registry
from ablate.slots.probe import ProbeResult, Subject
from ablate.slots.training import Autoencoder, Posterior
from tests.support.planted import Fake, blur, contrast, image_kl, photographs

torch.set_num_threads(1)


class Pooled(Autoencoder):
    """Means of squares of `stride` px, repeated: detail depends on where it lies in its square."""

    latent_channels = 3

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def encode(self, x: Tensor) -> Posterior:
        z = F.avg_pool2d(x, self.stride)
        return Posterior(z, torch.zeros_like(z))

    def decode(self, z: Tensor) -> Tensor:
        return F.interpolate(z, scale_factor=self.stride)


def striped(amplitude: float) -> Fake:
    """Every 8th row is raised by `amplitude` gl, wherever the picture lies."""

    def defect(y: Tensor) -> Tensor:
        y = y.clone()
        y[..., ::8, :] += amplitude / 255
        return y

    return Fake(defect)


def examine(vae: Autoencoder, images: Tensor) -> ProbeResult:
    return shift.build(shift.Config())(Subject(vae.eval(), images))


@pytest.mark.parametrize("amplitude", [1, 10])
def test_a_pattern_that_stays_in_place_is_measured_exactly(amplitude: float) -> None:
    """For every move short of the stride, a row of 8 is raised before and another one after."""
    found = examine(striped(amplitude), photographs(72)).metrics  # crops of 64 px, of which 24 are compared
    assert found["shift/error"] == pytest.approx(amplitude * 2 / 8, rel=1e-3)
    assert found["shift/psnr"] == pytest.approx(-10 * math.log10((amplitude / 255) ** 2 * 2 / 8), abs=1e-2)
    assert found["shift/error_stride"] == pytest.approx(0, abs=1e-4)


def test_a_model_that_moves_with_the_image_has_no_error() -> None:
    found = examine(Fake(blur(1.0)), photographs(64)).metrics
    assert found["shift/error"] == pytest.approx(0, abs=1e-4)
    assert found["shift/psnr"] > 120


@pytest.mark.parametrize("side", [32, 60, 64])
def test_means_of_squares_against_numpy(side: int) -> None:
    images = photographs(64)[:3, :, :side, :side]
    size = side - 4
    crops = {}
    for by in range(5):
        x = images[..., by : by + size, by : by + size].double().numpy()
        squares = x.reshape(3, 3, size // 4, 4, size // 4, 4).mean((3, 5))
        whole = np.full((3, 3, side, side), np.nan)
        whole[..., by : by + size, by : by + size] = squares.repeat(4, 2).repeat(4, 3)
        crops[by] = whole
    common = slice(4 + size // 4, size - size // 4)
    changes = [(crops[by] - crops[0])[..., common, common] for by in range(1, 4)]
    found = examine(Pooled(4), images)
    gain = toned(images, Subject(Pooled(4), images).reconstruction).gain
    assert gain.numpy() == pytest.approx(1, abs=0.05)
    changes = [change / gain[:, None, None, None].numpy() for change in changes]
    assert found.metrics["shift/error"] == pytest.approx(255 * np.abs(changes).mean(), rel=1e-4)
    psnr = -10 * np.log10(np.square(changes).mean((2, 3, 4)))
    assert found.per_image["shift/psnr"] == pytest.approx(psnr.mean(0), rel=1e-5)
    assert found.metrics["shift/error_stride"] == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize("gain", [0.3, 0.8])
def test_a_faded_picture_suffers_as_much(gain: float) -> None:
    plain, faded = Pooled(4), Pooled(4)
    faded.decode = lambda z: contrast(gain)(plain.decode(z) / 2 + 0.5) * 2 - 1  # type: ignore[method-assign]
    expected, found = (examine(vae, photographs(64)).metrics["shift/error"] for vae in (plain, faded))
    assert found == pytest.approx(expected, rel=0.01)


def test_sharp_detail_suffers_more_than_soft() -> None:
    sharp = photographs(64)
    soft = blur(3.0)(sharp)
    assert examine(Pooled(4), soft).metrics["shift/error"] < examine(Pooled(4), sharp).metrics["shift/error"] / 1.5


def test_what_comes_into_view_shows_in_the_control() -> None:
    glare = Fake(lambda y: y + 0.1 * (y.mean((2, 3), keepdim=True) - 0.5))
    found = examine(glare, photographs(64)).metrics
    assert found["shift/error_stride"] > 0.05
    assert found["shift/error"] < found["shift/error_stride"], "less comes into view"


def test_the_real_model_at_random_weights() -> None:
    found = examine(image_kl(), photographs(48))
    assert 0 < found.metrics["shift/error_stride"] < found.metrics["shift/error"]


def test_every_metric_is_declared_and_reported() -> None:
    found = examine(striped(1), photographs(64))
    assert set(found.metrics) == {metric.name for metric in registry.level("probe", "shift").metrics}
    for name, values in found.per_image.items():
        assert len(values) == len(photographs(64))
        assert np.mean(values) == pytest.approx(found.metrics[name])


@pytest.mark.parametrize("stride", [1, 2, 4, 8, 16])
def test_the_smallest_size_is_enough_and_one_stride_less_is_not(stride: int) -> None:
    smallest = registry.level("probe", "shift").Config().smallest(stride)
    for side in range(smallest, smallest + 8 * stride, stride):
        metrics = examine(Pooled(stride), torch.rand(2, 3, side, side)).metrics
        assert math.isfinite(metrics["shift/error"]), side
    assert examine(Pooled(stride), torch.rand(2, 3, smallest - stride, smallest - stride)).metrics == {}


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_model_gone_to_nan_is_reported_as_such(value: float) -> None:
    found = examine(Fake(lambda y: y + value), photographs(64)).metrics
    assert found
    assert not any(math.isfinite(number) for number in found.values())
