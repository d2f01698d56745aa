"""The measurements behind the probes, against reference libraries and closed forms."""

import itertools
import math

import numpy as np
import pytest
import torch
from skimage import color, data, metrics
from torch import Tensor, nn

from ablate.components.probe._cielab import ciede2000, srgb_to_lab
from ablate.components.shared import measure, periodic

torch.set_num_threads(1)


# Sharma, Wu & Dalal (2005), Table 1: two CIELAB colours and their CIEDE2000.
SHARMA = """
50.0000   2.6772 -79.7751  50.0000   0.0000 -82.7485  2.0425
50.0000   3.1571 -77.2803  50.0000   0.0000 -82.7485  2.8615
50.0000   2.8361 -74.0200  50.0000   0.0000 -82.7485  3.4412
50.0000  -1.3802 -84.2814  50.0000   0.0000 -82.7485  1.0000
50.0000  -1.1848 -84.8006  50.0000   0.0000 -82.7485  1.0000
50.0000  -0.9009 -85.5211  50.0000   0.0000 -82.7485  1.0000
50.0000   0.0000   0.0000  50.0000  -1.0000   2.0000  2.3669
50.0000  -1.0000   2.0000  50.0000   0.0000   0.0000  2.3669
50.0000   2.4900  -0.0010  50.0000  -2.4900   0.0009  7.1792
50.0000   2.4900  -0.0010  50.0000  -2.4900   0.0010  7.1792
50.0000   2.4900  -0.0010  50.0000  -2.4900   0.0011  7.2195
50.0000   2.4900  -0.0010  50.0000  -2.4900   0.0012  7.2195
50.0000  -0.0010   2.4900  50.0000   0.0009  -2.4900  4.8045
50.0000  -0.0010   2.4900  50.0000   0.0010  -2.4900  4.8045
50.0000  -0.0010   2.4900  50.0000   0.0011  -2.4900  4.7461
50.0000   2.5000   0.0000  50.0000   0.0000  -2.5000  4.3065
50.0000   2.5000   0.0000  73.0000  25.0000 -18.0000 27.1492
50.0000   2.5000   0.0000  61.0000  -5.0000  29.0000 22.8977
50.0000   2.5000   0.0000  56.0000 -27.0000  -3.0000 31.9030
50.0000   2.5000   0.0000  58.0000  24.0000  15.0000 19.4535
50.0000   2.5000   0.0000  50.0000   3.1736   0.5854  1.0000
50.0000   2.5000   0.0000  50.0000   3.2972   0.0000  1.0000
50.0000   2.5000   0.0000  50.0000   1.8634   0.5757  1.0000
50.0000   2.5000   0.0000  50.0000   3.2592   0.3350  1.0000
60.2574 -34.0099  36.2677  60.4626 -34.1751  39.4387  1.2644
63.0109 -31.0961  -5.8663  62.8187 -29.7946  -4.0864  1.2630
61.2901   3.7196  -5.3901  61.4292   2.2480  -4.9620  1.8731
35.0831 -44.1164   3.7933  35.0232 -40.0716   1.5901  1.8645
22.7233  20.0904 -46.6940  23.0331  14.9730 -42.5619  2.0373
36.4612  47.8580  18.3852  36.2715  50.5065  21.2231  1.4146
90.8027  -2.0831   1.4410  91.1528  -1.6435   0.0447  1.4441
90.9257  -0.5406  -0.9208  88.6381  -0.8985  -0.7239  1.5381
 6.7747  -0.2908  -2.4247   5.8714  -0.0985  -2.2286  0.6377
 2.0776   0.0795  -1.1350   0.9033  -0.0636  -0.5514  0.9082
"""


@pytest.fixture(scope="module")
def noisy() -> tuple[Tensor, Tensor]:
    """Four photographs, and the same with noise of very different strengths."""
    crops = [photo[:100, :120] for photo in (data.astronaut(), data.chelsea(), data.coffee(), data.rocket())]
    x = torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).float() / 255
    sds = torch.tensor([0.005, 0.03, 0.1, 0.3])[:, None, None, None]
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    return x, measure.displayed(x + sds * noise)


def channels_last(x: Tensor) -> list[np.ndarray]:
    return [image.double().permute(1, 2, 0).numpy() for image in x]


def test_psnr_and_ssim_agree_with_scikit_image(noisy: tuple[Tensor, Tensor]) -> None:
    pairs = list(zip(*map(channels_last, noisy), strict=True))
    psnr = [metrics.peak_signal_noise_ratio(x, y, data_range=1) for x, y in pairs]
    wang = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1, "channel_axis": 2}
    ssim = [metrics.structural_similarity(x, y, **wang) for x, y in pairs]
    assert measure.psnr(*noisy).tolist() == pytest.approx(psnr, abs=1e-4)
    assert measure.ssim(*noisy).tolist() == pytest.approx(ssim, abs=1e-4)


def test_psnr_is_not_that_of_the_pooled_error(noisy: tuple[Tensor, Tensor]) -> None:
    x, y = noisy
    pooled = -10 * (x - y).square().mean().log10()
    assert measure.psnr(x, y).mean() - pooled > 8


def test_identical_images(noisy: tuple[Tensor, Tensor]) -> None:
    x, _ = noisy
    assert measure.psnr(x, x).tolist() == [math.inf] * 4
    assert measure.ssim(x, x).tolist() == pytest.approx([1.0] * 4, abs=1e-6)


def test_ssim_says_which_size_it_needs() -> None:
    with pytest.raises(ValueError, match="at least 11 px, got \\(16, 10\\)"):
        measure.ssim(torch.zeros(1, 3, 16, 10), torch.zeros(1, 3, 16, 10))


def test_blur_has_unit_gain_and_the_variance_asked_for() -> None:
    impulse = torch.zeros(1, 1, 65, 65, dtype=torch.float64)
    impulse[0, 0, 32, 32] = 1
    response = measure.gaussian_blur(impulse, sigma=2.0, radius=12)[0, 0]
    offsets = torch.arange(-20, 21, dtype=torch.float64)
    assert response.shape == (41, 41)
    assert response.sum().item() == pytest.approx(1)
    assert (response.sum(0) * offsets.square()).sum().item() == pytest.approx(4, rel=1e-3)


def test_displayed_hides_no_infinity() -> None:
    shown = measure.displayed(torch.tensor([-0.1, 0.5, 1.2, math.inf, math.nan]))
    assert shown[:3].tolist() == [0.0, 0.5, 1.0]
    assert shown[3:].isnan().all()


@pytest.mark.parametrize(
    ("side", "columns", "shape"),
    [
        (32, 2, (256, 128, 3)),
        (64, 2, (256, 128, 3)),
        (96, 2, (192, 192, 3)),
        (128, 1, (256, 128, 3)),
        (512, 2, (256, 256, 3)),
    ],
)
def test_sheet_fits_256_px(side: int, columns: int, shape: tuple[int, ...]) -> None:
    sheet = measure.sheet(*[torch.zeros(5, 3, side, side)] * columns)
    assert sheet.shape == shape
    assert sheet.dtype == np.uint8


def test_sheet_shows_pixels_unscaled() -> None:
    left, right = torch.full((1, 3, 64, 64), 0.5), torch.full((1, 3, 64, 64), 2.0)
    right[0, 0, 0, 1] = torch.nan
    sheet = measure.sheet(left, right)
    assert (sheet[:, :128] == 128).all()
    assert (sheet[:2, 128:132, 0] == [255, 255, 0, 0]).all()
    assert (sheet[:, 128:, 1:] == 255).all()


def test_ciede2000_gives_the_published_values() -> None:
    table = torch.tensor([[float(v) for v in row.split()] for row in SHARMA.split("\n") if row], dtype=torch.float64)
    assert len(table) == 34
    first, second, published = table[:, :3, None, None], table[:, 3:6, None, None], table[:, 6].tolist()
    assert ciede2000(first, second).flatten().tolist() == pytest.approx(published, abs=5.1e-5)
    assert ciede2000(second, first).flatten().tolist() == pytest.approx(published, abs=5.1e-5)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-4), (torch.float32, 2e-3)])
def test_lab_and_ciede2000_agree_with_scikit_image(dtype: torch.dtype, tolerance: float) -> None:
    generator = torch.Generator().manual_seed(0)
    rgb = torch.rand(2, 3, 50, 40, generator=generator, dtype=torch.float64)
    rgb[1, :, :25] = rgb[0, :, :25] + 0.01 * rgb[1, :, :25]  # small differences too
    rgb = rgb.clamp(0, 1)
    rgb[0, :, 0] = 0.3  # greys have no hue
    expected = [color.rgb2lab(image) for image in channels_last(rgb)]
    lab = srgb_to_lab(rgb.to(dtype))
    assert np.abs(lab.permute(0, 2, 3, 1).numpy() - np.stack(expected)).max() < tolerance
    difference = ciede2000(lab[0], lab[1]).numpy()
    assert np.abs(difference - color.deltaE_ciede2000(*expected)).max() < tolerance


def white(n: int, side: int, sd: float = 2 / 255) -> Tensor:
    return sd * torch.randn(n, 3, side, side, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.mark.parametrize(
    ("side", "period", "size"),
    [(256, 8, 192), (240, 8, 176), (128, 8, 96), (64, 8, 48), (64, 4, 48), (128, 32, 64), (64, 32, 0), (8, 8, 0)],
)
def test_interior_keeps_whole_periods_and_their_phase(side: int, period: int, size: int) -> None:
    marked = torch.zeros(1, 1, side, side)
    marked[..., ::period, ::period] = 1
    inner = periodic.interior(marked, period)
    assert inner.shape == (1, 1, size, size)
    assert inner[..., ::period, ::period].eq(1).all()


def test_fold_recovers_a_pattern_and_its_amplitude() -> None:
    lines = torch.zeros(1, 1, 64, 64, dtype=torch.float64)
    lines[..., ::8, :] += 1 / 255
    lines[..., :, ::8] += 1 / 255
    pattern = periodic.fold(lines + 0.25, 8)
    assert periodic.amplitude(pattern).item() == pytest.approx(math.sqrt(2 * 1 / 8 * 7 / 8))
    assert pattern[0, 0, 0, 0] - pattern[0, 0, 1, 1] == pytest.approx(2 / 255)


def test_folds_are_nested() -> None:
    patterns = periodic.fold(white(3, 64), 32)
    energies = [periodic.amplitude(periodic.fold(patterns, p)).square() for p in (2, 4, 8, 16, 32)]
    assert all((b - a >= 0).all() for a, b in itertools.pairwise(energies))
    assert torch.allclose(periodic.fold(patterns, 8), periodic.fold(white(3, 64), 8))


def test_rolling_an_image_rolls_its_pattern() -> None:
    noise = white(1, 48)
    rolled = periodic.fold(noise.roll((3, 5), (-2, -1)), 8)
    assert torch.allclose(rolled, periodic.fold(noise, 8).roll((3, 5), (-2, -1)))


@pytest.mark.parametrize("period", [2, 4, 8])
def test_chance_amplitude_of_white_noise_has_the_closed_form(period: int) -> None:
    n, side, sd = 48, 64, 2.0
    patterns = periodic.fold(white(n, side, sd / 255), period)
    closed = sd * math.sqrt((period**2 - 1) / period**2 / (n * (side / period) ** 2))
    assert periodic.chance_amplitude(patterns).item() == pytest.approx(closed, rel=0.1)


def test_a_shared_pattern_exceeds_chance_by_the_root_of_the_images() -> None:
    patterns = periodic.fold(white(1, 64), 8).expand(100, -1, -1, -1)
    ratio = periodic.amplitude(patterns[0]) / periodic.chance_amplitude(patterns)
    assert ratio.item() == pytest.approx(10, rel=0.1)


def test_comb_of_white_noise_is_flat() -> None:
    ratios = periodic.comb(white(32, 96), 8)
    assert ratios.shape == (63,)
    assert ratios.mean().item() == pytest.approx(1, abs=0.05)


def test_comb_of_a_wave_in_white_noise_has_the_closed_form() -> None:
    sd, height, size = 2 / 255, 6 / 255, 96
    wave = height * torch.cos(2 * math.pi * torch.arange(size, dtype=torch.float64) / 8)
    hann = torch.hann_window(size, dtype=torch.float64)
    tone = (height / 2 * hann.sum() ** 2) ** 2
    expected = 1 + tone / (sd**2 * hann.square().sum() ** 2)
    ratios = periodic.comb(white(32, size, sd) + wave, 8)
    assert ratios.argmax() == 0  # one cycle per period along the row
    assert ratios.max().item() == pytest.approx(expected.item(), rel=0.1)
    assert ratios[1:6].mean().item() == pytest.approx(1, abs=0.2)


def test_comb_sees_a_grid_of_changing_sign_and_fold_does_not() -> None:
    noise = white(32, 96)
    signs = torch.tensor([1.0, -1.0], dtype=torch.float64).repeat(16)[:, None, None, None]
    grid = torch.zeros(96, 96, dtype=torch.float64)
    grid[::8] = 2 / 255
    flawed = noise + signs * grid
    plain, seen = (periodic.amplitude(periodic.fold(r, 8).mean(0)).item() for r in (noise, flawed))
    assert seen == pytest.approx(plain, rel=1e-6)
    assert periodic.comb(flawed, 8).mean() > 2 * periodic.comb(noise, 8).mean()


def test_comb_of_nothing_is_one_and_of_too_few_periods_an_error() -> None:
    nothing = periodic.comb(torch.zeros(1, 3, 48, 48, dtype=torch.float64), 8)
    assert nothing.numpy() == pytest.approx(1, abs=1e-9)
    with pytest.raises(ValueError, match="needs 48 px, found 40"):
        periodic.comb(white(1, 40), 8)


def answers_to_constants(layer: nn.Module, channels: int, period: int) -> Tensor:
    """Values at each phase, away from the border, for an input that is 1 in one channel: `phases input output`."""
    inputs = torch.eye(channels, dtype=torch.float64)[:, :, None, None].expand(-1, -1, 12, 12)
    with torch.no_grad():
        drawn = layer(inputs)
    block = drawn[:, :, 4 * period : 5 * period, 4 * period : 5 * period]
    return block.flatten(2).permute(2, 0, 1)


@pytest.mark.parametrize(
    "settings",
    [
        {"kernel_size": 4, "stride": 2, "padding": 1},
        {"kernel_size": 3, "stride": 2, "padding": 1, "output_padding": 1},
        {"kernel_size": 2, "stride": 4},
        {"kernel_size": 3, "stride": 4, "dilation": 3},
    ],
    ids=str,
)
def test_phases_of_a_transposed_convolution_are_its_answers_to_constants(settings: dict[str, int]) -> None:
    torch.manual_seed(0)
    layer = nn.ConvTranspose2d(3, 5, bias=False, **settings).double()
    drawn = answers_to_constants(layer, 3, settings["stride"])
    sums = periodic.transposed_phases(layer)
    assert sums.shape == drawn.shape
    for i, o in itertools.product(range(3), range(5)):
        assert sorted(sums[:, i, o].tolist()) == pytest.approx(sorted(drawn[:, i, o].tolist()))


def test_phases_of_a_sub_pixel_convolution_are_its_answers_to_constants() -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(3, 5 * 9, 3, padding=1).double()
    drawn = answers_to_constants(nn.Sequential(layer, nn.PixelShuffle(3)), 3, 3)
    phases = periodic.subpixel_phases(layer, 3)
    assert torch.allclose(phases[:, :, :3] + phases[:, :, 3:], drawn.transpose(1, 2))


def test_polyphase_is_the_spread_over_the_size() -> None:
    phases = torch.tensor([[1.0, 4.0], [3.0, 4.0]], dtype=torch.float64)
    assert periodic.polyphase(phases).item() == pytest.approx(math.sqrt(0.5) / math.sqrt(42 / 4))
    assert periodic.polyphase(torch.full((9, 4, 4), 0.1, dtype=torch.float64)) == 0
    assert periodic.polyphase(torch.zeros(4, 2, 2, dtype=torch.float64)) == 0


def test_the_worst_layer_that_enlarges_by_learned_phases_counts() -> None:
    class Block(nn.Module):
        def __init__(self, layer: nn.Conv2d, after: nn.Module) -> None:
            super().__init__()
            self.conv, self.after = layer, after

    even, uneven = nn.Conv2d(2, 8, 3), nn.Conv2d(2, 8, 3)
    nn.init.constant_(even.weight, 0.5)
    nn.init.constant_(even.bias, 0.5)
    shuffle = nn.PixelShuffle(2)
    worst = periodic.polyphase(periodic.subpixel_phases(uneven, 2))
    assert worst > 0.5
    assert periodic.worst_polyphase(nn.Sequential(Block(even, shuffle), Block(uneven, nn.Identity()))) == 0
    assert periodic.worst_polyphase(nn.Sequential(Block(even, shuffle), Block(uneven, shuffle))) == worst
    weak = nn.ConvTranspose2d(2, 2, 2, stride=2)
    nn.init.constant_(weak.weight, 1.0)
    assert periodic.worst_polyphase(nn.Sequential(weak, even)) == 0
    nn.init.zeros_(weak.weight[:, :, 0, 0])
    assert periodic.worst_polyphase(nn.Sequential(weak)).item() == pytest.approx(math.sqrt(3 / 16) / math.sqrt(3 / 4))
    assert periodic.worst_polyphase(even) == 0
