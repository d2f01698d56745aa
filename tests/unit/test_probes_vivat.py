"""Blur, droplet and health on fake autoencoders with one known defect each."""

import math
from types import ModuleType

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ablate.components.probe import blur as blur_probe
from ablate.components.probe import droplet, health
from ablate.components.probe._spectrum import LUMA, radial_spectra
from ablate.components.shared.measure import GREY_LEVELS
from ablate.slots import registry
from ablate.slots.probe import ProbeResult, Subject
from ablate.slots.training import LOGVAR_RANGE, Autoencoder, Posterior
from tests.support.planted import RISE, Fake, blob, blur, blurred, contrast, image_kl, photographs

torch.set_num_threads(1)


PROBES = {"blur": blur_probe, "droplet": droplet, "health": health}


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def examine(vae: Autoencoder, images: Tensor) -> dict[str, ProbeResult]:
    subject = Subject(vae.eval(), images)
    return {name: probe.build(probe.Config())(subject) for name, probe in PROBES.items()}


@pytest.mark.parametrize("side", [32, 48, 64])
def test_blur_is_measured_on_small_images(side: int) -> None:
    found = blur_probe.examine(Subject(Fake(blur(1.0)), photographs(side))).metrics
    assert found["blur/mtf50"] == pytest.approx(0.1874, rel=0.03)
    assert found["blur/edge_px"] == pytest.approx(RISE * (math.hypot(0.5, 1) - 0.5), abs=0.06)


def test_a_sharpened_edge_rises_faster_than_its_own() -> None:
    sharpen = Fake(lambda y: y + 0.5 * (y - blurred(y, 1.0)))
    found = blur_probe.examine(Subject(sharpen, photographs())).metrics
    assert found["blur/edge_px"] < -0.1
    assert found["blur/mtf50"] == 0.5
    assert found["blur/hf_hi"] > 1.5


def test_noise_in_noise_has_the_coherence_and_power_of_its_share() -> None:
    x = 0.5 + 0.1 * normal(64, 3, 128, 128)
    found = blur_probe.examine(Subject(Fake(lambda y: y + 0.05 * normal(*y.shape, seed=2)), x, batch=64)).metrics
    assert found["blur/coherence"] == pytest.approx(1 / 1.25, abs=0.01)
    assert found["blur/hf_lo"] == pytest.approx(1.25, abs=0.03)  # the gain of white noise is not exactly 1
    assert found["blur/hf_hi"] == pytest.approx(1.25, abs=0.03)
    assert found["blur/slope"] == pytest.approx(0, abs=0.02)
    assert found["blur/mtf50"] == 0.5


@pytest.mark.parametrize("power", [-1.0, 0.5])
def test_slope_is_the_exponent_of_a_power_law(power: float) -> None:
    def shape(y: Tensor) -> Tensor:
        frequency = torch.fft.fftfreq(y.shape[-1])
        radius = torch.hypot(frequency, frequency[:, None]).clamp(min=1 / y.shape[-1])
        return torch.fft.ifft2(torch.fft.fft2(y) * radius ** (power / 2)).real

    found = blur_probe.examine(Subject(Fake(shape), 0.5 + 0.1 * normal(16, 3, 64, 64))).metrics
    assert found["blur/slope"] == pytest.approx(power, abs=0.05)


@pytest.mark.parametrize("sigma", [0.8, 1.5])
def test_slope_of_a_gaussian_blur_is_that_of_its_power_fitted_by_numpy(sigma: float) -> None:
    found = blur_probe.examine(Subject(Fake(blur(sigma)), 0.5 + 0.1 * normal(16, 3, 128, 128))).metrics
    frequency = np.arange(5, 33) / 128
    log_power = -((2 * np.pi * sigma * frequency) ** 2)
    expected = np.polyfit(np.log(frequency), log_power, 1, w=frequency**-0.5)[0]
    assert found["blur/slope"] == pytest.approx(expected, rel=0.02)


def test_spectra_of_white_noise_are_flat_and_of_its_variance() -> None:
    x = 0.1 * normal(32, 3, 64, 64)
    spectra = radial_spectra(x, x)
    expected = 0.01 * sum(weight**2 for weight in LUMA) * spectra.white
    assert (spectra.source / expected - 1).abs()[3:].max() < 0.1
    assert spectra.source.sum() == pytest.approx(expected.sum().item(), rel=0.01)
    assert spectra.frequency.tolist() == [k / 64 for k in range(1, 33)]


def test_a_wave_falls_into_the_ring_of_its_frequency() -> None:
    wave = torch.sin(2 * math.pi * torch.arange(64) * 10 / 64)
    spectra = radial_spectra(wave.expand(1, 3, 64, 64), -wave.expand(1, 3, 64, 64) / 2)
    assert spectra.frequency[spectra.source.argmax()] == 10 / 64
    assert spectra.transfer()[9] == pytest.approx(0.5)
    assert spectra.coherence()[9] == pytest.approx(1)


def test_a_decoder_that_draws_nothing_has_no_sharpness_and_no_edge() -> None:
    found = blur_probe.examine(Subject(Fake(lambda y: torch.full_like(y, 0.5)), photographs(64))).metrics
    assert found["blur/mtf50"] < 1 / 64
    assert found["blur/coherence"] == found["blur/hf_lo"] == 0
    assert math.isfinite(found["blur/slope"])
    assert found["blur/edge_px"] == pytest.approx(48, abs=2), "as wide as what is looked at"


def test_an_edge_needs_a_twentieth_of_its_contrast() -> None:
    for gain, lost in ((0.2, 0), (0.06, 0), (0.03, 48)):
        rise = blur_probe.examine(Subject(Fake(contrast(gain)), photographs(64))).metrics["blur/edge_px"]
        assert rise == pytest.approx(lost, abs=2 if lost else 1e-3)


@pytest.mark.parametrize("height", [0.2, -0.2])
def test_a_spot_in_the_middle_has_its_closed_form(height: float) -> None:
    found = droplet.examine(Subject(Fake(blob(height)), photographs())).metrics
    peak = abs(height) * GREY_LEVELS * 36 / (36 + 16)  # sigma 6 px, seen at sigma 4 px
    assert found["droplet/blob"] == pytest.approx(peak, rel=0.01)


def corner(y: Tensor) -> Tensor:
    """A spot in the upper left corner of the third image."""
    profile = torch.exp(-0.5 * (torch.arange(y.shape[-1]) / 6).square())
    return y + 0.2 * profile[:, None] * profile * (torch.arange(len(y)) == 2)[:, None, None, None]


def test_a_spot_in_the_corner_is_seen_in_full_and_shown() -> None:
    found = droplet.examine(Subject(Fake(corner), photographs()[:4]))
    sizes = found.per_image["droplet/blob"]
    assert sizes[2] == pytest.approx(0.2 * GREY_LEVELS * 36 / 52, rel=0.05)
    assert [sizes[i] for i in (0, 1, 3)] == pytest.approx([0] * 3, abs=1e-3)
    assert found.metrics["droplet/blob"] == pytest.approx(sizes[2] / 4, rel=1e-3)
    picture = found.pictures["droplet_worst_x8"]
    assert picture.shape == (256, 256, 3)
    assert picture[:8, :8].min() == 255
    assert (picture[-128:, -128:].min(), picture[-128:, -128:].max()) in ((127, 128), (128, 128))


def test_where_and_how_often_spots_are() -> None:
    middle = droplet.examine(Subject(Fake(blob(0.6)), photographs()))
    assert middle.metrics["droplet/incidence"] == 1
    assert middle.metrics["droplet/blob_border"] == pytest.approx(1, abs=0.02)
    counts = middle.pictures["droplet_positions"][::32, ::32, 0]
    assert counts[4, 4] == 255, "a spot at pixel 64 of 128 is in the fifth of 8 bins"
    assert counts.sum() == 255

    mixed = droplet.examine(Subject(Fake(lambda y: corner(blob(0.05)(y))), photographs()[:4]))
    assert mixed.per_image["droplet/incidence"] == [0, 0, 1, 0]
    assert mixed.metrics["droplet/incidence"] == 0.25
    assert mixed.per_image["droplet/blob_border"] == pytest.approx([1, 1, 0, 1], abs=0.02)
    counts = mixed.pictures["droplet_positions"][::32, ::32, 0]
    assert (counts[4, 4], counts[0, 0], np.count_nonzero(counts)) == (255, 85, 2)


def test_a_place_drawn_by_chance_is_a_third_of_the_way_to_the_centre_on_average() -> None:
    side = 64
    places = torch.cartesian_prod(torch.arange(side), torch.arange(side))
    assert droplet._inwards(places, side).mean().item() == pytest.approx(1 / 3, abs=1e-3)


def test_the_size_of_a_picture_is_that_of_large_images_thinned() -> None:
    found = droplet.examine(Subject(Fake(lambda y: y), torch.rand(1, 3, 600, 600)))
    assert found.pictures["droplet_worst_x8"].shape == (200, 200, 3)


class Gain(nn.Module):
    """Multiplies the features at one position of every image."""

    def __init__(self, gain: float) -> None:
        super().__init__()
        self.gain = gain

    def forward(self, h: Tensor) -> Tensor:
        h = h.clone()
        h[..., 1, 2] *= self.gain
        return h


class Spiky(Autoencoder):
    """Latents of norm 1, except where an image's first pixel says how many times; a decoder of `Gain`."""

    stride = 8
    latent_channels = 3

    def __init__(self, *gains: float) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Gain(gain) for gain in gains)

    @property
    def decoder_blocks(self) -> list[nn.Module]:
        return list(self.blocks)

    def encode(self, x: Tensor) -> Posterior:
        z = F.normalize(F.avg_pool2d(x, 8) + 2, dim=1)
        z[..., 0, 0] *= x[:, :1, 0, 0] / 2 + 0.5
        return Posterior(z, torch.zeros_like(z))

    def decode(self, z: Tensor) -> Tensor:
        for block in self.blocks:
            z = block(z)
        return F.interpolate(z, scale_factor=8)


def spiked(count: int, spikes: list[float]) -> Tensor:
    """`count` images of 64 px; the first pixels of the first of them are `spikes`, of the others 1."""
    images = photographs(64, 4).repeat(1 + count // 64, 1, 1, 1)[:count].clone()
    images[:, :, 0, 0] = 1
    images[: len(spikes), :, 0, 0] = torch.tensor(spikes)[:, None]
    return images


def test_a_spike_in_the_latent_is_measured_exactly() -> None:
    found = droplet.examine(Subject(Spiky(), spiked(16, [7.0])))
    assert found.per_image["droplet/z_maxmed"] == pytest.approx([7, *[1] * 15], rel=1e-4)
    assert found.metrics["droplet/z_maxmed"] == pytest.approx(22 / 16, rel=1e-4)
    assert found.metrics["droplet/z_p999_med"] == pytest.approx(1, rel=1e-4), "one position of 1024 is no thousandth"


def test_the_thousandth_of_the_latent_norms_is_that_of_numpy() -> None:
    spikes = [3.0, 4.0, 5.0, 6.0, 7.0, 8.0]
    found = droplet.examine(Subject(Spiky(), spiked(64, spikes)))
    norms = [*spikes, *[1.0] * (64 * 64 - len(spikes))]
    truth = np.quantile(norms, 0.999, method="inverted_cdf")
    assert truth > 1
    assert found.metrics["droplet/z_p999_med"] == pytest.approx(truth, rel=1e-4)


def test_a_spike_in_the_decoder_is_measured_and_followed() -> None:
    found = droplet.examine(Subject(Spiky(2, 3, 0.5, 4), spiked(10, [])))
    assert found.metrics["droplet/act_maxmed"] == pytest.approx(2 * 3 * 0.5 * 4, rel=1e-4)
    assert found.metrics["droplet/growth"] == pytest.approx(6, rel=1e-4)
    fading = droplet.examine(Subject(Spiky(6, 0.5), spiked(10, [])))
    assert fading.metrics["droplet/act_maxmed"] == pytest.approx(6, rel=1e-4), "the worst block, not the last"
    assert fading.metrics["droplet/growth"] == pytest.approx(0.5, rel=1e-4)


def test_models_that_name_no_blocks_or_one_lack_those_numbers() -> None:
    activations = {"droplet/act_maxmed", "droplet/act_absmax", "droplet/growth"}
    for blocks, missing in ((0, activations), (1, {"droplet/growth"}), (2, set())):
        found = droplet.examine(Subject(Spiky(*[1.0] * blocks), spiked(4, [])))
        assert activations - found.metrics.keys() == missing


def test_hooks_are_removed_also_after_an_error() -> None:
    class Broken(Gain):
        def forward(self, h: Tensor) -> Tensor:
            raise RuntimeError("broken")

    whole, broken = Spiky(2, 3), Spiky(2, 3)
    broken.blocks.append(Broken(1))
    droplet.examine(Subject(whole, spiked(4, [])))
    with pytest.raises(RuntimeError, match="broken"):
        droplet._norms(Subject(broken, spiked(4, [])))
    assert not any(block._forward_hooks for vae in (whole, broken) for block in vae.blocks)


def test_image_kl_names_its_blocks_in_the_order_they_run() -> None:
    vae, seen = image_kl(), []
    for block in vae.decoder_blocks:
        block.register_forward_hook(lambda module, _, h: seen.append((module, tuple(h.shape[1:]))))
    with torch.no_grad():
        vae.decode(normal(1, 4, 8, 8))
    assert [module for module, _ in seen] == vae.decoder_blocks
    assert [shape for _, shape in seen] == [(16, 8, 8), (16, 16, 16), (12, 32, 32), (8, 32, 32)]


def test_a_spike_planted_in_a_real_decoder_is_found() -> None:
    vae, images = image_kl(), photographs(32, 2)[:6]
    calm = droplet.examine(Subject(vae, images)).metrics

    def spike(_: nn.Module, __: tuple[Tensor, ...], h: Tensor) -> Tensor:
        h = h.clone()
        h[..., 5, 5] *= 1000
        h[1, 0, 5, 5] = -70000
        return h

    vae.decoder_blocks[1].register_forward_hook(spike)
    found = droplet.examine(Subject(vae, images)).metrics
    assert calm["droplet/act_maxmed"] < 10
    assert found["droplet/act_maxmed"] > 100
    assert calm["droplet/act_absmax"] < 100
    assert found["droplet/act_absmax"] == 70000
    assert found["droplet/z_maxmed"] == calm["droplet/z_maxmed"]


class Coded(Autoencoder):
    """Means and log-variances of 6 latent channels are functions of the image."""

    stride = 8
    latent_channels = 6

    def __init__(self, logvar: list[float], scale: list[float]) -> None:
        super().__init__()
        self.logvar, self.scale = (torch.tensor(values)[:, None, None] for values in (logvar, scale))

    def encode(self, x: Tensor) -> Posterior:
        small = F.avg_pool2d(x, 8)
        mean = self.scale * torch.cat([small, small.square()], 1)
        return Posterior(mean, (self.logvar + 0 * mean).clamp(*LOGVAR_RANGE))

    def decode(self, z: Tensor) -> Tensor:
        return F.interpolate(z[:, :3], scale_factor=8)


def test_divergence_and_scale_are_those_of_torch_and_numpy() -> None:
    vae, x = Coded([-3.0, -1.0, 0.0, 0.5, 1.0, -8.0], [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]), photographs(64)
    found = health.examine(Subject(vae, x))
    posterior = vae.encode(x.double() * 2 - 1)
    ours = torch.distributions.Normal(posterior.mean, (0.5 * posterior.logvar).exp())
    truth = torch.distributions.kl_divergence(ours, torch.distributions.Normal(0.0, 1.0)).sum((1, 2, 3))
    assert found.per_image["health/kl_nats"] == pytest.approx(truth.tolist(), rel=1e-5)
    assert found.metrics["health/kl_nats"] == pytest.approx(truth.mean().item(), rel=1e-5)
    assert found.metrics["health/z_std"] == pytest.approx(posterior.mean.numpy().std(), rel=1e-5)
    assert found.metrics["health/active_dims"] == 6


@pytest.mark.parametrize("active", range(7))
def test_collapsed_channels_are_not_counted(active: int) -> None:
    scale = [1.0] * active + [0.05] * (6 - active)
    found = health.examine(Subject(Coded([0.0] * 6, scale), photographs(64))).metrics
    assert found["health/active_dims"] == active


def test_small_but_noiseless_means_are_active() -> None:
    vae = Coded([-14.0] * 3 + [0.0] * 3, [0.05] * 6)
    means = vae.encode(photographs(64) * 2 - 1).mean
    assert means.var((0, 2, 3)).max() < 0.01, "none would count by the variance of the mean"
    assert health.examine(Subject(vae, photographs(64))).metrics["health/active_dims"] == 3


def test_log_variances_at_the_lower_clamp_are_counted() -> None:
    found = health.examine(Subject(Coded([-99.0, -99.0, -29.9, 0.0, 5.0, 99.0], [1.0] * 6), photographs(64))).metrics
    assert found["health/posterior_floor"] == pytest.approx(2 / 6)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_values_that_are_not_finite_are_counted(value: float) -> None:
    def spoil(y: Tensor) -> Tensor:
        y = y.clone()
        y[:, 0, :16] = value
        return y

    found = health.examine(Subject(Fake(spoil), photographs(64))).metrics
    assert found["health/nonfinite"] == pytest.approx(16 / 64 / 3)
    assert math.isfinite(found["health/kl_nats"])


def test_an_encoder_gone_to_nan_is_reported_as_such() -> None:
    found = health.examine(Subject(Coded([math.nan] * 6, [math.nan] * 6), photographs(64))).metrics
    assert found.pop("health/nonfinite") == 1
    assert len(found) == 4
    assert all(math.isnan(value) for value in found.values())


@pytest.mark.parametrize("name", ["blur", "droplet"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_model_gone_to_nan_is_reported_as_such(name: str, value: float) -> None:
    found = examine(Fake(lambda y: y + value), photographs(64))[name]
    of_images = {metric: number for metric, number in found.metrics.items() if "/z_" not in metric}
    assert of_images
    assert not any(math.isfinite(number) for number in of_images.values())
    vae = Spiky(math.nan, 1)
    assert math.isnan(droplet.examine(Subject(vae, spiked(4, []))).metrics["droplet/act_maxmed"])


@pytest.mark.parametrize("name", PROBES)
def test_every_metric_is_declared_and_reported(name: str) -> None:
    declared = [metric.name for metric in registry.level("probe", name).metrics]
    assert len(set(declared)) == len(declared)
    assert set(examine(image_kl(), photographs(64))[name].metrics) == set(declared)


@pytest.mark.parametrize("name", PROBES)
def test_findings_are_well_formed(name: str) -> None:
    found = examine(image_kl(), photographs(64))[name]
    assert all(type(value) is float for value in found.metrics.values())
    for key, values in found.per_image.items():
        assert len(values) == len(photographs(64))
        assert np.mean(values) == pytest.approx(found.metrics[key], rel=1e-5)
    for picture in found.pictures.values():
        assert picture.dtype == np.uint8
        assert picture.shape == (256, 256, 3)


def test_a_perfect_model_has_no_blur_and_no_droplet() -> None:
    images = (photographs() * 256).round() / 256  # passes through [-1, 1] without rounding
    found = examine(Fake(lambda y: y), images)
    perfect = {"mtf50": 0.5, "coherence": 1.0, "hf_lo": 1.0, "hf_hi": 1.0, "slope": 0.0, "edge_px": 0.0}
    assert found["blur"].metrics == pytest.approx({f"blur/{name}": value for name, value in perfect.items()}, abs=1e-6)
    assert found["droplet"].metrics["droplet/blob"] == 0
    assert found["droplet"].metrics["droplet/blob_over_median"] == 1
    assert found["health"].metrics["health/nonfinite"] == 0


@pytest.mark.parametrize(("probe", "side"), [(blur_probe, 24), (droplet, 8), (health, 8)], ids=[*PROBES])
def test_tiny_images_are_survived(probe: ModuleType, side: int) -> None:
    found = probe.examine(Subject(Fake(lambda y: y), torch.rand(2, 3, side, side))).metrics
    assert bool(found) == (probe is not blur_probe)
    assert all(math.isfinite(value) for value in found.values())
