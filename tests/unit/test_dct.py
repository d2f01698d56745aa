"""The cosine transform against SciPy, JPEG's order, and the energy of power laws."""

import pytest
import scipy.fft
import torch

from ablate.components.shared.dct import blocks_dct, chop, dct_matrix, inverse_blocks_dct, kept, zigzag

torch.set_num_threads(1)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def power_law(exponent, count=256, side=32):
    """Gaussian fields `1 count side side` with power f^-exponent; their means have the power of the lowest f."""
    f = torch.fft.fftfreq(side, dtype=torch.float64)
    radius = torch.hypot(f, f[:, None])
    radius[0, 0] = 1 / side
    return torch.fft.ifft2(torch.fft.fft2(normal(1, count, side, side)) * radius ** (-exponent / 2)).real


@pytest.mark.parametrize("n", [1, 2, 3, 8, 64])
def test_the_matrix_is_scipys_transform_and_orthonormal(n):
    expected = torch.from_numpy(scipy.fft.dct(torch.eye(n, dtype=torch.float64).numpy(), norm="ortho", axis=0))
    torch.testing.assert_close(dct_matrix(n), expected, rtol=0, atol=1e-12)
    identity = torch.eye(n, dtype=torch.float64)
    torch.testing.assert_close(dct_matrix(n) @ dct_matrix(n).T, identity, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("n", "h", "w"), [(8, 16, 40), (4, 4, 8), (5, 10, 5)])
def test_blocks_against_scipy_and_back(n, h, w):
    x = normal(2, 3, h, w)
    found = blocks_dct(x, n)
    assert found.shape == (2, 3, h // n, w // n, n, n)
    for i in range(h // n):
        for j in range(w // n):
            block = x[:, :, i * n : i * n + n, j * n : j * n + n].numpy()
            expected = torch.from_numpy(scipy.fft.dctn(block, axes=(-2, -1), norm="ortho"))
            torch.testing.assert_close(found[:, :, i, j], expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(inverse_blocks_dct(found), x, rtol=0, atol=1e-12)


def test_blocks_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="blocks of 8 do not fill 16 x 12"):
        blocks_dct(normal(1, 1, 16, 12), 8)


def test_zigzag_is_jpegs():
    natural_order_of_jpeg = [0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27]
    natural_order_of_jpeg += [20, 13, 6, 7, 14, 21, 28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51]
    natural_order_of_jpeg += [58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63]
    assert zigzag(8).tolist() == natural_order_of_jpeg
    for n in (1, 2, 7, 32):
        assert sorted(zigzag(n).tolist()) == list(range(n * n))


@pytest.mark.parametrize("cut", ["zigzag", "square"])
def test_the_cut_is_a_projection_that_keeps_constants(cut):
    x = normal(2, 3, 16, 24)
    torch.testing.assert_close(chop(x, 8, 0.0, cut), x, rtol=0, atol=1e-12)
    once = chop(x, 8, 0.6, cut)
    torch.testing.assert_close(chop(once, 8, 0.6, cut), once, rtol=0, atol=1e-12)
    assert (once - x).abs().max() > 0.1
    means = x.unflatten(-1, (3, 8)).unflatten(-3, (2, 8)).mean((-3, -1))
    flattest = chop(x, 8, 0.999, cut)
    expected = means.repeat_interleave(8, -1).repeat_interleave(8, -2)
    torch.testing.assert_close(flattest, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("share", "cut", "count"), [(0.25, "zigzag", 48), (0.9, "zigzag", 6), (0.5, "square", 16), (0.3, "square", 25)]
)
def test_how_many_coefficients_are_kept(share, cut, count):
    assert kept(8, share, cut).sum() == count


@pytest.mark.parametrize(
    ("exponent", "energies"),
    [
        (0, (0.75, 0.5, 0.25, 0.09)),
        (1, (0.86, 0.69, 0.47, 0.27)),
        (2, (0.96, 0.89, 0.77, 0.62)),
        (3, (0.99, 0.98, 0.95, 0.89)),
    ],
)
def test_energy_that_the_cut_keeps_of_power_laws(exponent, energies):
    x = power_law(exponent)
    for share, energy in zip((0.25, 0.5, 0.75, 0.9), energies, strict=True):
        assert chop(x, 8, share).square().sum() / x.square().sum() == pytest.approx(energy, abs=0.02)
