"""Equivariance, noise and dimensions of latents against closed forms and planted defects."""

import math

import numpy as np
import pytest
import scipy.integrate
import torch
import torch.nn.functional as F
from torch import Tensor

from ablate.components.probe import equivariance, intrinsic_dimension, latent_noise
from ablate.slots.probe import Subject
from ablate.slots.training import Posterior
from tests.support.latents import Identity, Pooled, checkerboard, of_field, power_law
from tests.support.planted import image_kl, photographs

torch.set_num_threads(1)


def test_what_commutes_has_no_error() -> None:
    found = equivariance.examine(Subject(Identity(), photographs(64))).metrics
    assert len(found) == 8
    assert found == pytest.approx(dict.fromkeys(found, 0.0), abs=1e-9)
    pooled = equivariance.examine(Subject(Pooled(), photographs(128))).metrics
    assert pooled.pop("equi/dec_scale4") > pooled.pop("equi/dec_scale2") > 0.01, "squares of 4 px stay of 4 px"
    assert pooled == pytest.approx(dict.fromkeys(pooled, 0.0), abs=1e-9)


class Patterned(Identity):
    """A checkerboard of height `c` is added to the latent, and taken off again by the decoder."""

    c = 0.3

    def encode(self, x: Tensor) -> Posterior:
        return super().encode(x + self.c * checkerboard(x))

    def decode(self, z: Tensor) -> Tensor:
        return z - self.c * checkerboard(z)


def test_a_pattern_that_stays_in_place_has_its_closed_form() -> None:
    """Gone from T E(x) when scaled, opposite when turned; what the decoder takes off is as wrong."""
    x = photographs(64) * 2 - 1
    found = equivariance.examine(Subject(Patterned(), photographs(64))).metrics

    def expected(y: Tensor, difference: float) -> float:
        return difference**2 / y.var((0, 2, 3), correction=0).mean().item()

    c, small = Patterned.c, F.avg_pool2d(x, 2)
    assert found["equi/enc_scale2"] == pytest.approx(expected(small + c * checkerboard(small), c), rel=1e-4)
    assert found["equi/dec_scale2"] == pytest.approx(expected(small, c), rel=1e-4)
    turned = x.rot90(dims=(2, 3))
    assert found["equi/enc_rot90"] == pytest.approx(expected(turned + c * checkerboard(x), 2 * c), rel=1e-4)
    assert found["equi/dec_rot90"] == pytest.approx(expected(x, 2 * c), rel=1e-4)
    assert found["equi/dec_shift"] == 0, "a move along the diagonal keeps the checkerboard"


def test_errors_depend_on_neither_scale_nor_offset_of_the_latent() -> None:
    class Rescaled(Patterned):
        def encode(self, x: Tensor) -> Posterior:
            return Posterior(7 * super().encode(x).mean + 3, torch.zeros_like(x))

        def decode(self, z: Tensor) -> Tensor:
            return super().decode((z - 3) / 7)

    a, b = (equivariance.examine(Subject(vae, photographs(64))).metrics for vae in (Patterned(), Rescaled()))
    assert a == pytest.approx(b, rel=1e-4, abs=1e-9)


def test_a_real_model_moves_with_the_picture_and_turns_less_well() -> None:
    found = equivariance.examine(Subject(image_kl(), photographs(128))).metrics
    assert found["equi/enc_shift"] < 0.1 < found["equi/enc_rot90"]


def test_noise_of_the_latent_has_its_psnr_and_the_noise_that_doubles_the_error_is_found() -> None:
    """A linear decoder: squared errors add. Its own error is white as well, of sd `own`."""
    own = 0.02

    class Erring(Identity):
        def decode(self, z: Tensor) -> Tensor:
            return z + 2 * own * checkerboard(z)

    generator = torch.Generator().manual_seed(3)
    images = 0.5 + 0.05 * torch.randn(16, 3, 64, 64, generator=generator)
    found = latent_noise.examine(Subject(Erring(), images)).metrics
    for share in (0.1, 0.25, 0.5, 1.0):
        truth = -10 * math.log10(own**2 + (share * 0.05) ** 2)
        assert found[f"znoise/psnr_{100 * share:.0f}"] == pytest.approx(truth, abs=0.05)
    assert found["znoise/sd_3db"] == pytest.approx(own / 0.05 * math.sqrt(10**0.3 - 1), rel=0.02)


def test_noise_follows_the_sd_of_each_channel() -> None:
    class Rescaled(Identity):
        gains = torch.tensor([100.0, 1.0, 0.01])[:, None, None]

        def encode(self, x: Tensor) -> Posterior:
            return super().encode(x * self.gains)

        def decode(self, z: Tensor) -> Tensor:
            return z / self.gains

    a, b = (latent_noise.examine(Subject(vae, photographs(64))).metrics for vae in (Identity(), Rescaled()))
    assert {k: v for k, v in a.items() if "psnr" in k} == pytest.approx(
        {k: v for k, v in b.items() if "psnr" in k}, abs=1e-3
    )


@pytest.mark.parametrize("error", [0.02, 0.07, 0.2, 0.6, 1.5])
def test_three_decibels_are_found_wherever_they_lie(error: float) -> None:
    shares = (0.1, 0.25, 0.5, 1.0)
    losses = [10 * math.log10(1 + (share / error) ** 2) for share in shares]
    truth = min(1.0, error * math.sqrt(10**0.3 - 1))
    assert latent_noise.tolerated_share(shares, losses) == pytest.approx(truth)


def test_three_decibels_of_no_error_and_of_no_number() -> None:
    assert latent_noise.tolerated_share((0.1, 1.0), [math.inf, math.inf]) == 0
    assert math.isnan(latent_noise.tolerated_share((0.1, 1.0), [0.1, math.nan]))
    assert latent_noise.tolerated_share((0.1, 1.0), [-0.5, 0.0]) == 1


def embedded(points: Tensor, channels: int = 16) -> Tensor:
    """Rotated into more channels."""
    generator = torch.Generator().manual_seed(9)
    basis, _ = torch.linalg.qr(torch.randn(channels, channels, generator=generator, dtype=torch.float64))
    return F.pad(points, (0, channels - points.shape[1])) @ basis


@pytest.mark.parametrize("dimension", [1, 2, 3, 5])
def test_two_neighbours_tell_the_dimension_of_a_gaussian_and_of_a_torus(dimension: int) -> None:
    generator = torch.Generator().manual_seed(0)
    gaussian = torch.randn(2048, dimension, generator=generator, dtype=torch.float64)
    angles = 2 * torch.pi * torch.rand(2048, dimension, generator=generator, dtype=torch.float64)
    torus = torch.cat([angles.cos(), angles.sin()], 1)
    for points in (gaussian, torus):
        found = intrinsic_dimension.two_nearest_neighbours(embedded(points))
        assert found == pytest.approx(dimension, rel=0.06)
        assert intrinsic_dimension.two_nearest_neighbours(1e-3 * points + 5) == pytest.approx(found, rel=1e-6)


@pytest.mark.parametrize("dimension", [1, 2, 3])
def test_two_neighbours_tell_the_dimension_of_a_hypercube(dimension: int) -> None:
    points = torch.rand(2048, dimension, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert intrinsic_dimension.two_nearest_neighbours(embedded(points)) == pytest.approx(dimension, rel=0.06)


def test_equal_points_are_left_out_and_nothing_is_made_of_too_few() -> None:
    points = torch.randn(500, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = intrinsic_dimension.two_nearest_neighbours(points)
    doubled = torch.cat([points, torch.full((300, 3), 9.0, dtype=torch.float64)])
    assert intrinsic_dimension.two_nearest_neighbours(doubled) == pytest.approx(found, rel=1e-9)
    assert math.isnan(intrinsic_dimension.two_nearest_neighbours(torch.zeros(10, 3)))
    assert math.isnan(intrinsic_dimension.two_nearest_neighbours(torch.full((10, 3), torch.inf)))


def test_white_latents_have_all_dimensions_and_channels_that_share_fewer() -> None:
    white = intrinsic_dimension.examine(of_field(power_law(0))).metrics
    assert white["idim/twonn"] == pytest.approx(3, rel=0.08)
    assert white["idim/viv"] == pytest.approx(math.pi / 2, rel=0.01)
    mixed = power_law(0)
    mixed[:, 2] = mixed[:, 0] - mixed[:, 1]
    shared = intrinsic_dimension.examine(of_field(mixed)).metrics
    assert shared["idim/twonn"] == pytest.approx(2, rel=0.08)
    assert shared["idim/viv"] < white["idim/viv"]


def matrix_normal(count: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Windows `m 16 64` of unit variance, and the Kronecker product of their covariances."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(16, 32, generator=generator, dtype=torch.float64)
    of_channels = torch.corrcoef(mixing)
    steps = torch.arange(64, dtype=torch.float64)
    of_positions = torch.exp(-(steps[:, None] - steps).abs() / 5)
    white = torch.randn(count, 16, 64, generator=generator, dtype=torch.float64)
    windows = torch.linalg.cholesky(of_channels) @ white @ torch.linalg.cholesky(of_positions).T
    return windows, torch.kron(of_channels, of_positions)


def test_the_velocity_left_is_its_integral_over_time() -> None:
    windows, covariance = matrix_normal(1000)
    eigenvalues = torch.linalg.eigvalsh(covariance).numpy()

    def left(t: float) -> float:
        return float((eigenvalues / ((1 - t) ** 2 + t**2 * eigenvalues)).mean())

    integral, _ = scipy.integrate.quad(left, 0, 1)
    assert math.pi / 2 * np.sqrt(eigenvalues).mean() == pytest.approx(integral, rel=1e-6)
    scaled = windows * torch.logspace(-3, 3, 16, dtype=torch.float64)[:, None] + 10
    assert intrinsic_dimension.irreducible_variance(scaled) == pytest.approx(integral, rel=0.01)


def test_both_factors_of_the_covariance_are_found_and_a_dead_channel_is_none() -> None:
    windows, covariance = matrix_normal(2000)
    of_positions, of_channels = intrinsic_dimension.kronecker(windows)
    error = torch.kron(of_channels, of_positions) - covariance
    assert error.norm() / covariance.norm() < 0.05
    white = torch.randn(200, 4, 64, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    white[:, 3] = 1.5
    assert intrinsic_dimension.irreducible_variance(white) == pytest.approx(math.pi / 2 * 3 / 4, rel=0.02)
    assert math.isnan(intrinsic_dimension.irreducible_variance(white * math.nan))


def test_too_few_windows_have_no_covariance() -> None:
    found = intrinsic_dimension.examine(Subject(Identity(), torch.rand(2, 3, 8, 8))).metrics
    assert set(found) == {"idim/twonn"}


def test_principal_components_are_those_of_numpy_up_to_their_sign() -> None:
    z = power_law(2, 4, 6) * torch.tensor([3.0, 1, 2, 0.1, 0.5, 0.2], dtype=torch.float64)[:, None, None]
    vectors = z.transpose(0, 1).flatten(1).numpy()
    u, s, _ = np.linalg.svd(vectors - vectors.mean(1, keepdims=True), full_matrices=False)
    found = (intrinsic_dimension.components(z) - 0.5).transpose(0, 1).flatten(1).numpy() * 4
    for k in range(3):
        scores = u[:, k] @ (vectors - vectors.mean(1, keepdims=True)) / (s[k] / math.sqrt(vectors.shape[1]))
        expected = scores.clip(-2, 2)
        assert min(np.abs(found[k] - expected).max(), np.abs(found[k] + expected).max()) < 1e-9
    one = intrinsic_dimension.components(z[:, :1])
    assert one.shape == (4, 3, 32, 32) and torch.all(one[:, 1:] == 0.5)
