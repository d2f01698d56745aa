"""The levels that halve and double: their filters against scipy, torch and closed forms, and the grid they draw."""

import itertools
import math
from functools import partial

import numpy as np
import pytest
import scipy.signal
import torch
from torch import nn
from torch.nn import functional as F

from ablate.components.probe import grid
from ablate.components.shared.layers import pad_zeros
from ablate.components.shared.periodic import worst_polyphase
from ablate.components.shared.resample import binomial, double, filtered_silu, half_band, halve, pad_replicate
from ablate.identity import derive
from ablate.slots import registry
from ablate.slots.probe import Subject
from ablate.slots.training import Layers

torch.set_num_threads(1)


PADDINGS = registry.levels("padding")


UP = {
    "nearest_conv": [{}],
    "bilinear_conv": [{}],
    "transposed_conv": [{}, {"kernel": 3}],
    "pixel_shuffle": [{}],
    "pixel_shuffle_icnr": [{}, {"blur": True}, {"project": True}],
    "nearest_residual": [{}],
    "alias_free": [{}],
}


DOWN = {
    "strided_conv": [{}],
    "blur_pool": [{"taps": 3}, {"taps": 4}, {"taps": 5}],
    "space_to_depth": [{}],
    "alias_free": [{}],
}


UPSAMPLERS = [(name, settings) for name, several in UP.items() for settings in several]


DOWNSAMPLERS = [(name, settings) for name, several in DOWN.items() for settings in several]


FLAT = ("nearest_conv", "bilinear_conv", "alias_free")  # on constants, whatever the weights


ODD_SIZES = ("strided_conv", "space_to_depth")  # round odd sizes down, or refuse them


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def sampler(slot, name, settings, channels=3, padding="reflect", seed=0):
    torch.manual_seed(seed)
    return registry.build(slot, name, settings, channels, registry.build("padding", padding, {})).double()


def assemble(upsample="nearest_conv", downsample="strided_conv", up=None, down=None, pad=None):
    """The model with group norm."""
    parts = Layers(
        padding=pad or registry.build("padding", "reflect", {}),
        norm=partial(registry.build, "norm", "group", {"groups": 4}),
        upsample=partial(registry.build, "upsample", upsample, up or {}),
        downsample=partial(registry.build, "downsample", downsample, down or {}),
    )
    settings = {"channels": [8, 12, 12], "latent_channels": 4, "blocks": 1}
    return registry.build("model", "image_kl", settings, parts, parts)


def autoencoder(**levels):
    """The same with all weights from `init: scratch`."""
    vae = assemble(**levels)
    with torch.no_grad():
        for parameter in vae.parameters():
            parameter.fill_(math.nan)  # so that all are seen to be drawn
    registry.build("init", "scratch", {}, lambda name: derive(0, "init", name))(vae)
    return vae


def test_every_level_is_examined():
    assert registry.levels("upsample") == sorted(UP)
    assert registry.levels("downsample") == sorted(DOWN)


@pytest.mark.parametrize("count", [3, 4, 5])
def test_binomial_is_the_box_convolved_with_itself(count):
    truth = np.ones(1)
    for _ in range(count - 1):
        truth = np.convolve(truth, [0.5, 0.5])
    assert binomial(count) == tuple(truth)


def test_half_band_is_scipy_s_kaiser_window_design():
    taps = np.array(half_band())
    np.testing.assert_allclose(taps, scipy.signal.firwin(12, 0.5, width=math.sqrt(2) - 1, fs=2), atol=1e-12)
    np.testing.assert_allclose(taps[:6], [0.0057, 0.0157, -0.0336, -0.0656, 0.1341, 0.4437], atol=5e-5)
    assert np.array_equal(taps, taps[::-1])
    assert taps.sum() == pytest.approx(1, abs=1e-12)


def test_half_band_damps_by_6_db_at_half_the_band_and_35_beyond_its_transition():
    frequency, response = scipy.signal.freqz(half_band(), worN=8192)
    decibels = 20 * np.log10(np.abs(response) + 1e-12)
    assert np.interp(np.pi / 2, frequency, decibels) == pytest.approx(-6, abs=0.1)
    assert decibels[frequency > 0.7 * np.pi].max() < -35
    assert np.abs(decibels[frequency < 0.25 * np.pi]).max() < 0.3, "the rest of the band is kept"


@pytest.mark.parametrize("taps", [binomial(4), half_band()], ids=["bilinear", "half_band"])
def test_both_phases_of_a_doubling_weigh_the_same(taps):
    assert taps[0::2] == taps[1::2][::-1]
    assert sum(taps[0::2]) == pytest.approx(0.5, abs=1e-12)


@pytest.mark.parametrize("taps", [binomial(3), binomial(4), binomial(5), half_band()], ids=len)
@pytest.mark.parametrize("size", [(7, 10), (8, 9), (1, 2)])
def test_halve_is_scipy_s_upfirdn(taps, size):
    x = normal(2, 3, *size)
    truth = x.numpy()
    before = len(taps) // 2  # of the full convolution: its outputs that begin before the picture
    for axis in (2, 3):
        full = scipy.signal.upfirdn(taps, truth, axis=axis)
        wanted = np.arange(0, truth.shape[axis], 2) + before
        truth = full.take(wanted, axis)
    ours = halve(x, taps, pad_zeros)
    assert ours.shape[2:] == tuple((n + 1) // 2 for n in size)
    np.testing.assert_allclose(ours.numpy(), truth, atol=1e-12)


@pytest.mark.parametrize("taps", [binomial(4), half_band()], ids=len)
@pytest.mark.parametrize("size", [(5, 8), (1, 2)])
def test_double_is_scipy_s_upfirdn_with_gain_2_along_each_axis(taps, size):
    x = normal(2, 3, *size)
    truth = x.numpy()
    for axis in (2, 3):
        full = scipy.signal.upfirdn(2 * np.array(taps), truth, up=2, axis=axis)
        first = len(taps) // 2 - 1  # so that the pixel's two outputs lie on either side of the filter's middle
        truth = full.take(np.arange(first, first + 2 * truth.shape[axis]), axis)
    np.testing.assert_allclose(double(x, taps, pad_zeros).numpy(), truth, atol=1e-12)


@pytest.mark.parametrize("size", [(1, 1), (3, 4), (8, 5)])
def test_doubling_by_the_binomial_of_4_is_torch_s_bilinear(size):
    x = normal(2, 3, *size)
    truth = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
    torch.testing.assert_close(double(x, binomial(4), pad_replicate), truth)


@pytest.mark.parametrize("pads", [(1, 1, 1, 1), (1, 0, 1, 0), (0, 3, 2, 0)])
def test_pad_replicate_is_torch_s(pads):
    x = normal(2, 3, 4, 5)
    assert torch.equal(pad_replicate(x, pads), F.pad(x, pads, mode="replicate"))


@pytest.mark.parametrize("value", [1.0, 0.1, -math.pi])
@pytest.mark.parametrize("taps", [binomial(4), half_band()], ids=len)
def test_a_constant_is_doubled_to_one_number_to_the_last_bit(value, taps):
    x = torch.full((2, 3, 9, 13), value)  # float32
    assert double(x, taps, pad_replicate).unique().numel() == 1
    assert halve(x, taps, pad_replicate).unique().numel() == 1


def test_filtered_silu_moves_by_half_a_pixel_with_its_input_where_silu_aliases():
    """A periodic signal that lacks the upper half of its band, moved by the Fourier shift theorem before and after."""
    size = 33  # odd: no frequency whose shift is undefined
    frequency = torch.fft.fftfreq(size, dtype=torch.float64)
    turn = torch.exp(1j * math.pi * frequency)[:, None] * torch.exp(1j * math.pi * frequency)
    low = (frequency.abs()[:, None] < 0.25) & (frequency.abs() < 0.25)
    x = torch.fft.ifft2(torch.fft.fft2(normal(4, 3, size, size)) * low).real
    x = 2 * x / x.std()

    def error(act):
        moved, expected = (f(x) for f in (lambda x: act(shift(x)), lambda x: shift(act(x))))
        return ((moved - expected).square().mean() / expected.var()).sqrt()

    def shift(x):
        return torch.fft.ifft2(torch.fft.fft2(x) * turn).real

    circular = registry.build("padding", "circular", {})
    assert error(partial(filtered_silu, padding=circular)) < error(F.silu) / 3


def test_filtered_silu_leaves_constants_and_the_lower_band_as_silu_has_them():
    constant = torch.full((1, 2, 8, 8), 0.7)
    out = filtered_silu(constant, pad_replicate)
    assert out.unique().numel() == 1
    torch.testing.assert_close(out, F.silu(constant))
    wave = 0.01 * torch.sin(2 * math.pi * torch.arange(32, dtype=torch.float64) / 32).expand(1, 1, 32, 32)
    out = filtered_silu(wave, registry.build("padding", "circular", {}))
    torch.testing.assert_close(out, F.silu(wave), atol=1e-5, rtol=0.01)


@pytest.mark.parametrize("slot", ["halve", "double"])
@pytest.mark.parametrize("taps", [binomial(4), half_band()], ids=len)
def test_gradients(slot, taps):
    function = {"halve": halve, "double": double}[slot]
    x = normal(1, 2, 7, 8).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: function(x, taps, registry.build("padding", "reflect", {})).square(), x)


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize(("name", "settings"), UPSAMPLERS)
def test_upsamplers_double(name, settings, padding):
    for height, width in ((4, 6), (5, 7)):
        out = sampler("upsample", name, settings, padding=padding)(normal(2, 3, height, width))
        assert out.shape == (2, 3, 2 * height, 2 * width)


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize(("name", "settings"), DOWNSAMPLERS)
def test_downsamplers_halve(name, settings, padding):
    module = sampler("downsample", name, settings, padding=padding)
    assert module(normal(2, 3, 8, 14)).shape == (2, 3, 4, 7)
    if name not in ODD_SIZES:
        assert module(normal(2, 3, 7, 9)).shape == (2, 3, 4, 5)


@pytest.mark.parametrize(("name", "settings"), DOWNSAMPLERS)
def test_where_an_output_looks(name, settings):
    """Middle of the pixels that reach an output, from that of its square: the half pixel that docstrings tell of."""
    module = sampler("downsample", name, settings, padding="circular")
    x = normal(1, 3, 32, 32).requires_grad_()
    (seen,) = torch.autograd.grad(module(x)[0, :, 8, 8].square().sum(), x)
    rows = seen.abs().sum((0, 1, 3)).nonzero().flatten()
    middle = (rows.min() + rows.max()).item() / 2 - 16.5
    moved = {"strided_conv": 0.5, "blur_pool": 0.0 if settings.get("taps") == 4 else -0.5}
    assert middle == moved.get(name, 0.0)


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize(("slot", "name", "settings"), [
    *(("upsample", *level) for level in UPSAMPLERS), *(("downsample", *level) for level in DOWNSAMPLERS)
])  # fmt: skip
def test_only_padding_with_zeros_draws_a_border_on_constants(slot, name, settings, padding):
    out = sampler(slot, name, settings, padding=padding)(torch.ones(1, 3, 16, 16, dtype=torch.float64))
    period = 2 if slot == "upsample" else 1
    blocks = out.unflatten(3, (-1, period)).unflatten(2, (-1, period))
    spread = (blocks - blocks[:, :, 4:5, :, 4:5]).abs().max()
    assert (spread < 1e-12) == (padding != "zeros")


@pytest.mark.parametrize("mode", ["nearest", "bilinear"])
def test_resize_convs_are_torch_s_resize_and_a_convolution(mode):
    module = sampler("upsample", f"{mode}_conv", {})
    x = normal(2, 3, 4, 5)
    torch.testing.assert_close(module(x), module.conv(F.interpolate(x, scale_factor=2, mode=mode)))


@pytest.mark.parametrize("taps", [3, 4, 5])
def test_blur_pool_is_torch_s_depthwise_convolution_of_the_outer_product(taps):
    module = sampler("downsample", "blur_pool", {"taps": taps})
    x = normal(2, 3, 8, 10)
    row = torch.tensor([math.comb(taps - 1, k) for k in range(taps)], dtype=torch.float64)
    kernel = torch.outer(row, row) / torch.outer(row, row).sum()
    before, after = (taps - 1) // 2, math.ceil((taps - 1) / 2)
    wide = F.pad(module.conv(x), (before, after, before, after), mode="reflect")
    truth = F.conv2d(wide, kernel.expand(3, 1, taps, taps), stride=2, groups=3)
    torch.testing.assert_close(module(x), truth)


@pytest.mark.parametrize("kernel", [3, 4])
@pytest.mark.parametrize("size", [(1, 1), (4, 7)])
def test_transposed_convolution_with_zeros_is_torch_s_own(kernel, size):
    ours = sampler("upsample", "transposed_conv", {"kernel": kernel}, padding="zeros")
    theirs = nn.ConvTranspose2d(3, 3, kernel, stride=2, padding=1, output_padding=kernel % 2).double()
    theirs.load_state_dict({name.removeprefix("conv."): value for name, value in ours.state_dict().items()})
    x = normal(2, 3, *size)
    torch.testing.assert_close(ours(x), theirs(x))


def test_transposed_convolution_of_a_padded_picture_is_the_middle_of_a_larger_one_s():
    """With circular padding, a picture tiled 3 x 3 has one in its middle that no border reaches."""
    x = normal(1, 3, 4, 6)
    ours = sampler("upsample", "transposed_conv", {}, padding="circular")
    tiled = sampler("upsample", "transposed_conv", {}, padding="zeros")(x.tile(1, 1, 3, 3))
    torch.testing.assert_close(ours(x), tiled[:, :, 8:16, 12:24])


def test_icnr_starts_as_a_convolution_doubled_to_the_nearest():
    module = sampler("upsample", "pixel_shuffle_icnr", {})
    x = normal(2, 3, 5, 6)
    phases = module.conv.weight.unflatten(0, (3, 4)), module.conv.bias.unflatten(0, (3, 4))
    single = F.conv2d(F.pad(x, [1] * 4, mode="reflect"), *(phase[:, 0] for phase in phases))
    torch.testing.assert_close(module(x), F.interpolate(single, scale_factor=2, mode="nearest"))
    out = module(x)
    for row, column in ((0, 1), (1, 0), (1, 1)):
        assert torch.equal(out[..., row::2, column::2], out[..., ::2, ::2])
    plain = sampler("upsample", "pixel_shuffle", {})(x)
    assert not torch.allclose(plain[..., 1::2, 1::2], plain[..., ::2, ::2], atol=0.1)


def test_icnr_draws_what_torch_draws_for_a_quarter_of_the_outputs():
    module = registry.build("upsample", "pixel_shuffle_icnr", {}, 8, pad_zeros)
    torch.manual_seed(3)
    module.conv.reset_parameters()
    torch.manual_seed(3)
    truth = nn.Conv2d(8, 8, 3)
    assert torch.equal(module.conv.weight[::4], truth.weight)
    assert torch.equal(module.conv.bias[::4], truth.bias)


def test_blur_after_the_shuffle_averages_one_pixel_of_each_phase():
    plain, blurred = (sampler("upsample", "pixel_shuffle_icnr", {"blur": blur}) for blur in (False, True))
    for module in (plain, blurred):
        torch.manual_seed(1)
        nn.Conv2d.reset_parameters(module.conv)  # phases of their own, as after training
    x = normal(2, 3, 5, 6)
    wide = F.pad(plain(x), (1, 0, 1, 0), mode="replicate")
    torch.testing.assert_close(blurred(x), F.avg_pool2d(wide, 2, stride=1))
    constant = torch.ones(1, 3, 8, 8, dtype=torch.float64)
    assert plain(constant)[..., 1:, 1:].std() > 0.1
    inner = blurred(constant)[..., 1:, 1:]
    assert all(channel.unique().numel() == 1 for channel in inner[0])


@pytest.mark.parametrize("project", [False, True])
def test_only_projected_phases_stay_equal_under_training(project):
    module = sampler("upsample", "pixel_shuffle_icnr", {"project": project})
    optimizer = torch.optim.AdamW(module.parameters(), 1e-2)
    x, y = normal(2, 3, 6, 6), normal(2, 3, 12, 12, seed=1)
    for _ in range(5):
        optimizer.zero_grad()
        (module(x) - y).square().mean().backward()
        optimizer.step()
    phases = module.conv.weight.unflatten(0, (3, 4))
    assert torch.equal(phases, phases[:, :1].expand_as(phases)) == project
    assert (module(torch.ones(1, 3, 8, 8, dtype=torch.float64)).std((2, 3)).max() < 1e-12) == project


def test_projected_phases_convolve_by_their_mean():
    module = sampler("upsample", "pixel_shuffle_icnr", {"project": True})
    nn.Conv2d.reset_parameters(module.conv)
    x = normal(2, 3, 5, 6)
    mean = module.conv.weight.unflatten(0, (3, 4)).mean(1), module.conv.bias.unflatten(0, (3, 4)).mean(1)
    single = F.conv2d(F.pad(x, [1] * 4, mode="reflect"), *mean)
    torch.testing.assert_close(module(x), F.interpolate(single, scale_factor=2, mode="nearest"))


@torch.no_grad()
def test_residual_levels_without_their_convolution_are_the_nearest_neighbour_and_the_mean():
    up, down = sampler("upsample", "nearest_residual", {}), sampler("downsample", "space_to_depth", {})
    for module in (up, down):
        module.conv.weight.zero_()
        module.conv.bias.zero_()
    x = normal(2, 3, 6, 8)
    assert torch.equal(up(x), F.interpolate(x, scale_factor=2, mode="nearest"))
    torch.testing.assert_close(down(x), F.avg_pool2d(x, 2))


def test_space_to_depth_refuses_odd_sizes():
    with pytest.raises(RuntimeError, match="divisible"):
        sampler("downsample", "space_to_depth", {})(normal(1, 3, 7, 8))


@pytest.mark.parametrize(("name", "settings"), DOWNSAMPLERS[1:])
def test_less_aliasing_than_a_strided_convolution_under_a_shift_of_one_pixel(name, settings):
    """A picture moved by one pixel is to give features moved by half of one, here by the Fourier shift theorem."""
    x = normal(1, 3, 62, 62)  # 31 px, odd, leave no frequency whose shift is undefined

    def error(name, settings):
        module = sampler("downsample", name, settings, padding="circular")
        still, moved = module(x), module(x.roll((-1, -1), (2, 3)))
        turn = torch.exp(1j * math.pi * torch.fft.fftfreq(31, dtype=torch.float64))
        expected = torch.fft.ifft2(torch.fft.fft2(still) * turn * turn[:, None]).real
        return ((moved - expected).square().mean() / still.var()).sqrt()

    assert error(name, settings) < error("strided_conv", {}) * {"space_to_depth": 1}.get(name, 0.75)


@pytest.mark.parametrize(("name", "settings"), UPSAMPLERS)
@torch.no_grad()
def test_which_upsamplers_draw_a_grid_on_constants_at_random_weights(name, settings):
    vae = autoencoder(upsample=name, up=settings)
    images = torch.rand(2, 3, 48, 48, generator=torch.Generator().manual_seed(0))
    found = grid.examine(Subject(vae.eval(), images)).metrics
    if name in (*FLAT, "pixel_shuffle_icnr"):
        assert found["grid/const_fold_max"] == 0
        assert found["grid/polyphase"] == 0
    else:
        assert found["grid/const_fold"] > 1, "grey levels"
        assert found["grid/polyphase"] > 0.1


def test_polyphase_sees_each_level_that_has_phases_of_its_own():
    for name, settings in UPSAMPLERS:
        module = sampler("upsample", name, settings)
        with torch.no_grad():
            module.conv.weight += normal(*module.conv.weight.shape)
        assert (worst_polyphase(nn.Sequential(module)) > 0) == (name not in FLAT), name


SWAPS = [
    *({"upsample": name, "up": settings} for name, settings in UPSAMPLERS),
    *({"downsample": name, "down": settings} for name, settings in DOWNSAMPLERS[1:]),
]


@pytest.mark.parametrize("swap", SWAPS)
def test_every_level_trains_in_the_model_and_leaves_the_border_to_the_padding_level(swap):
    reached = []

    def recording(x, pads):
        reached.append(pads)
        return F.pad(x, pads, mode="reflect")

    vae = autoencoder(pad=recording, **swap)
    x = normal(2, 3, 32, 48).float()
    posterior = vae.encode(x)
    y = vae.decode(posterior.sample(normal(*posterior.mean.shape, seed=1).float()))
    assert y.shape == x.shape
    ((y - x).square().mean() + posterior.mean.square().mean()).backward()
    silent = [name for name, parameter in vae.named_parameters() if not parameter.grad.abs().sum() > 0]
    assert [name for name in silent if not name.endswith("to_k.bias")] == []  # softmax does not see a shift of all keys
    wide = [conv for conv in vae.modules() if isinstance(conv, nn.Conv2d) and conv.kernel_size != (1, 1)]
    assert len(reached) >= len(wide)
    assert all(conv.padding == (0, 0) for conv in wide)


@pytest.mark.parametrize("swap", SWAPS)
def test_filters_are_no_part_of_a_checkpoint(swap):
    vae = autoencoder(**swap)
    assert set(vae.state_dict()) == {name for name, _ in vae.named_parameters()}


@pytest.mark.parametrize("swap", SWAPS)
@torch.no_grad()
def test_every_level_can_be_tried_without_memory(swap):
    with torch.device("meta"):
        vae = assemble(**swap)
        assert vae.decode(vae.encode(torch.empty(1, 3, 32, 32)).mean).shape == (1, 3, 32, 32)


def test_convolutions_start_equal_whatever_the_sampler():
    states = [autoencoder(**swap).state_dict() for swap in SWAPS]
    for one, other in itertools.pairwise(states):
        shared = [name for name in one if "samplers" not in name]
        assert len(shared) > 60
        assert all(torch.equal(one[name], other[name]) for name in shared)


@pytest.mark.parametrize(
    ("slot", "name", "wrong"),
    [("upsample", "transposed_conv", {"kernel": 5}), ("downsample", "blur_pool", {"taps": 2}),
     ("upsample", "pixel_shuffle_icnr", {"blur": 1})],
)  # fmt: skip
def test_settings_are_checked(slot, name, wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        registry.level(slot, name).Config.read(wrong)


@pytest.mark.gpu
@pytest.mark.parametrize("swap", SWAPS)
def test_gradients_repeat_on_the_gpu(swap):
    torch.backends.cudnn.deterministic = True
    vae = autoencoder(**swap).cuda().to(memory_format=torch.channels_last)
    x = normal(4, 3, 128, 128).float().cuda()
    weights = [parameter for name, parameter in vae.named_parameters() if name.endswith("conv.weight")]

    def gradients():
        return torch.autograd.grad(vae.decode(vae.encode(x).mean).pow(3).mean(), weights)

    assert all(torch.equal(a, b) for a, b in zip(gradients(), gradients(), strict=True))
