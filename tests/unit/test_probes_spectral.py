"""Spectrum and erasure against scipy, closed forms and references; then all probes of the latent as one."""

import itertools
import math

import numpy as np
import pytest
import scipy.fft
import scipy.integrate
import torch
import torch.nn.functional as F
from torch import Tensor

from ablate.components.probe import equivariance, erasure, intrinsic_dimension, latent_noise, spectrum
from ablate.components.shared.dct import chop
from ablate.slots import registry
from ablate.slots.probe import ProbeResult, Subject
from ablate.slots.training import Autoencoder, Posterior
from tests.support.latents import Identity, Pooled, Scrambled, of_field, power_law
from tests.support.planted import image_kl, photographs

torch.set_num_threads(1)


PROBES = {
    "spectrum": spectrum,
    "erasure": erasure,
    "equivariance": equivariance,
    "latent_noise": latent_noise,
    "intrinsic_dimension": intrinsic_dimension,
}


OF_PICTURES = {"spec/hf_tail_rgb", "erase/auc_rgb"}


def examine(vae: Autoencoder, images: Tensor) -> dict[str, ProbeResult]:
    subject = Subject(vae.eval(), images)
    return {name: probe.build(probe.Config())(subject) for name, probe in PROBES.items()}


def numbers(vae: Autoencoder, images: Tensor) -> dict[str, float]:
    return {name: value for found in examine(vae, images).values() for name, value in found.metrics.items()}


REFERENCE = {  # log profile at 1, 32, 63 of the zigzag, mean of the last 16; SEC at 1/2 and 1/4
    0: ((0.00, 0.01, 0.00, 0.00), (0.485, 0.867)),
    1: ((-0.30, -0.91, -1.23, -1.13), (0.293, 0.661)),
    2: ((-0.60, -1.94, -2.58, -2.40), (0.098, 0.301)),
    3: ((-0.84, -3.05, -4.03, -3.74), (0.0145, 0.066)),
}


@pytest.mark.parametrize("exponent", REFERENCE)
def test_fields_of_a_power_law_have_their_profile_slope_and_shares(exponent: int) -> None:
    (first, middle, last, tail), (half, quarter) = REFERENCE[exponent]
    found = spectrum.examine(of_field(power_law(exponent)))
    profile = found.per_image["spec/profile"]
    assert [profile[i] for i in (0, 1, 32, 63)] == pytest.approx([0, first, middle, last], abs=0.05)
    assert found.metrics["spec/hf_tail"] == pytest.approx(tail, abs=0.05 if exponent else 0.03)
    assert found.metrics["spec/slope"] == pytest.approx(-exponent / 2, abs=0.07)
    assert found.metrics["spec/sec50"] == pytest.approx(half, abs=0.005)
    assert found.metrics["spec/sec25"] == pytest.approx(quarter, abs=0.01)


def test_white_noise_is_flat_and_a_mean_of_ratios_would_not_be() -> None:
    white = power_law(0)
    profile = spectrum.log_profile(white).mean(0)
    assert profile.abs().max() < 0.03
    blocks = white.unfold(2, 8, 8).unfold(3, 8, 8).numpy()
    coefficients = scipy.fft.dctn(blocks, axes=(-2, -1), norm="ortho")
    ratios = np.log(np.abs(coefficients / coefficients[..., :1, :1]).mean((0, 1, 2, 3)))
    assert ratios.flatten()[1:].mean() > 1


def test_amplitudes_are_those_of_scipy_in_the_order_of_jpeg() -> None:
    x = photographs(32).double()[:, :2]
    blocks = x.unfold(2, 8, 8).unfold(3, 8, 8).numpy()
    truth = np.abs(scipy.fft.dctn(blocks, axes=(-2, -1), norm="ortho")).mean((0, 2, 3))
    found = spectrum.amplitudes(x)
    for place, (u, v) in {0: (0, 0), 1: (0, 1), 2: (1, 0), 3: (2, 0), 4: (1, 1), 5: (0, 2), 63: (7, 7)}.items():
        assert found[:, place].numpy() == pytest.approx(truth[:, u, v], rel=1e-10)
    assert found.sort(1).values.numpy() == pytest.approx(np.sort(truth.reshape(2, 64)), rel=1e-10)


@pytest.mark.parametrize(("offset", "tail"), [(0, -2.40), (1, -3.22), (3, -4.30)])
def test_an_offset_passes_for_smoothness_only_as_the_authors_compute_it(offset: float, tail: float) -> None:
    found = spectrum.examine(of_field(power_law(2) + offset)).metrics
    assert found["spec/hf_tail_authors"] == pytest.approx(tail, abs=0.05)
    assert found["spec/hf_tail"] == pytest.approx(-2.40, abs=0.05)


@pytest.mark.parametrize(("sd", "tail"), [(0.3, -2.17), (0.5, -1.93), (1.0, -1.44)])
def test_noise_of_the_posterior_raises_the_tail_of_the_draw(sd: float, tail: float) -> None:
    field = power_law(2)
    found = spectrum.examine(of_field(field, sd)).metrics
    drawn = found["spec/hf_tail"] + found["spec/kl_rise"]
    assert drawn == pytest.approx(tail, abs=0.05)
    blocks = scipy.fft.dctn(field.unfold(2, 8, 8).unfold(3, 8, 8).numpy(), axes=(-2, -1), norm="ortho")
    mean = math.sqrt(blocks[..., 0, 0].var() + sd**2)
    assert found["spec/kl_floor"] == pytest.approx(math.log(sd / mean), abs=0.03), "half-normal both"
    assert found["spec/kl_floor"] < drawn


def test_a_latent_that_is_noise_alone_lies_on_the_floor() -> None:
    found = spectrum.examine(of_field(1e-4 * power_law(2), 1.0)).metrics
    assert found["spec/hf_tail"] + found["spec/kl_rise"] == pytest.approx(0, abs=0.03)
    assert found["spec/kl_floor"] == pytest.approx(0, abs=0.03)


def test_a_latent_that_is_the_picture_has_no_gap() -> None:
    found = spectrum.examine(Subject(Identity(), photographs(64))).metrics
    assert (found["spec/gap_to_rgb"], found["spec/gap_signed"]) == pytest.approx((0, 0), abs=1e-7)
    assert found["spec/hf_tail"] == pytest.approx(found["spec/hf_tail_rgb"], abs=1e-7)
    scrambled = spectrum.examine(Subject(Scrambled(), photographs(64))).metrics
    assert scrambled["spec/gap_to_rgb"] >= scrambled["spec/gap_signed"] > 2


def test_pictures_are_averaged_down_to_the_latent() -> None:
    """Pooled means have the spectrum of pooled pictures, whatever gain and offset they have."""

    class Scaled(Pooled):
        def encode(self, x: Tensor) -> Posterior:
            mean = 5 * F.avg_pool2d(x, 4) - 2
            return Posterior(mean, torch.zeros_like(mean))

    found = spectrum.examine(Subject(Scaled(), photographs(128))).metrics
    assert found["spec/gap_to_rgb"] == pytest.approx(0, abs=1e-5)


def test_planted_noise_raises_the_tail_step_by_step_and_what_is_decoded_stays() -> None:
    base, *planted = (numbers(Pooled(sd), photographs(128)) for sd in (0.0, 0.02, 0.1, 0.5))
    for name in ("spec/hf_tail", "spec/gap_signed", "spec/sec50", "spec/sec25", "spec/slope", "idim/viv"):
        series = [found[name] for found in (base, *planted)]
        assert all(a < b for a, b in itertools.pairwise(series)), (name, series)
    assert planted[-1]["spec/hf_tail"] > base["spec/hf_tail"] + 0.5
    assert planted[-1]["equi/enc_scale2"] > base["equi/enc_scale2"] + 0.05
    calm = [name for name in base if name.startswith(("znoise/", "equi/dec", "erase/"))] + ["spec/hf_tail_rgb"]
    assert len(calm) == 15
    for found in planted:
        assert {name: found[name] for name in calm} == pytest.approx({name: base[name] for name in calm}, rel=1e-6)


ENERGY = {
    0: (0.75, 0.50, 0.25, 0.09),
    1: (0.86, 0.69, 0.47, 0.27),
    2: (0.96, 0.89, 0.77, 0.62),
    3: (0.99, 0.98, 0.95, 0.89),
}


@pytest.mark.parametrize("exponent", ENERGY)
def test_erasing_keeps_the_energy_of_a_power_law(exponent: int) -> None:
    field = power_law(exponent)
    kept = [(chop(field, 8, share).square().sum() / field.square().sum()).item() for share in (0.25, 0.5, 0.75, 0.9)]
    assert kept == pytest.approx(ENERGY[exponent], abs=0.02)


def test_a_latent_that_is_the_picture_loses_what_the_picture_loses() -> None:
    found = erasure.examine(Subject(Identity(), photographs(64)))
    assert found.metrics["erase/auc"] == pytest.approx(found.metrics["erase/auc_rgb"], abs=1e-3)
    assert found.per_image["erase/curve"] == pytest.approx(found.per_image["erase/curve_rgb"], abs=1e-3)
    assert found.metrics["erase/match"] > 100
    assert found.per_image["erase/shares"] == pytest.approx([0.1, 0.25, 0.5, 0.75, 0.9])


def test_the_curve_is_that_of_scipy_and_its_area_the_mean() -> None:
    x = photographs(64).double()
    found = erasure.examine(Subject(Identity(), x.float()))
    order = sorted(itertools.product(range(8), repeat=2), key=lambda p: (sum(p), p[0] if sum(p) % 2 else p[1]))
    curve = []
    for kept in (57, 48, 32, 16, 6):
        mask = np.zeros((8, 8))
        mask[tuple(zip(*order[:kept], strict=True))] = 1
        coefficients = scipy.fft.dctn(x.unfold(2, 8, 8).unfold(3, 8, 8).numpy(), axes=(-2, -1), norm="ortho")
        blocks = torch.from_numpy(scipy.fft.idctn(coefficients * mask, axes=(-2, -1), norm="ortho"))
        y = blocks.permute(0, 1, 2, 4, 3, 5).reshape(x.shape).clamp(0, 1)
        curve.append((-10 * (x - y).square().mean((1, 2, 3)).log10()).mean().item())
    assert found.per_image["erase/curve"] == pytest.approx(curve, abs=1e-3)
    assert found.metrics["erase/auc"] == pytest.approx(np.trapezoid(curve, (0.1, 0.25, 0.5, 0.75, 0.9)) / 0.8, abs=1e-3)


def test_detail_hidden_in_high_frequencies_is_lost_first() -> None:
    plain, scrambled = (erasure.examine(Subject(vae, photographs(64))).metrics for vae in (Identity(), Scrambled()))
    assert scrambled["erase/auc_rgb"] == plain["erase/auc_rgb"]
    assert scrambled["erase/auc"] < plain["erase/auc"] - 15
    assert scrambled["erase/match"] < 20


def test_blocks_of_pictures_cover_the_place_of_those_of_the_latent() -> None:
    """Pooled, then smoothly enlarged, a latent that loses half of its frequencies looks like a picture that does."""
    found = erasure.examine(Subject(Pooled(), photographs(128))).metrics
    assert found["erase/match"] > found["erase/auc"] > 20
    assert 0 < found["erase/drop50"] < found["erase/drop"] < 3


@pytest.mark.parametrize("name", PROBES)
def test_every_metric_is_declared_and_reported(name: str) -> None:
    declared = [metric.name for metric in registry.level("probe", name).metrics]
    assert len(set(declared)) == len(declared)
    assert set(examine(image_kl(), photographs(64))[name].metrics) == set(declared)


@pytest.mark.parametrize("side", [64, 76])
def test_findings_are_well_formed_and_the_same_every_time(side: int) -> None:
    once, again = (examine(image_kl(), photographs(side, 3)) for _ in range(2))
    for name, found in once.items():
        assert found.metrics == again[name].metrics
        assert found.per_image == again[name].per_image
        assert all(type(value) is float and math.isfinite(value) for value in found.metrics.values())
        for key in found.metrics.keys() & found.per_image.keys():
            assert np.mean(found.per_image[key]) == pytest.approx(found.metrics[key], rel=1e-5)
        for key, picture in found.pictures.items():
            assert picture.dtype == np.uint8
            assert picture.shape == (384, 512, 3) if key in ("spectrum", "erasure") else max(picture.shape) <= 256
            assert np.array_equal(picture, again[name].pictures[key])


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_model_gone_to_nan_is_reported_as_such(value: float) -> None:
    class Broken(Identity):
        def encode(self, x: Tensor) -> Posterior:
            return super().encode(x + value)

    found = numbers(Broken(), photographs(64))
    assert not {name for name, number in found.items() if math.isfinite(number)} - OF_PICTURES


@pytest.mark.parametrize("name", [name for name in PROBES if name != "latent_noise"])
def test_latents_without_a_block_give_no_number(name: str) -> None:
    assert PROBES[name].examine(Subject(Pooled(), torch.rand(2, 3, 28, 28))).metrics == {}


@pytest.mark.parametrize("name", PROBES)
def test_pictures_of_one_colour_are_survived(name: str) -> None:
    found = PROBES[name].examine(Subject(Pooled(), torch.full((4, 3, 32, 32), 0.5)))
    assert all(type(value) is float for value in found.metrics.values())
