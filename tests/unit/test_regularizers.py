"""The regularizers against closed forms, float64 and finite differences."""

import math

import pytest
import torch

from ablate.components.regularizer.outlier import outlier_penalty
from ablate.slots import registry
from ablate.slots.training import Posterior, Step

torch.set_num_threads(1)


CHANNELS, SIZE = 16, 32


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def penalty(z, **settings):
    regularizer = registry.build("regularizer", "outlier", {"strength": 1.0, **settings})
    return regularizer(None, Step(None, None, Posterior(z, torch.zeros_like(z)), z, None))


def with_spot(times, pictures, seed=0):
    """Standard normal latents, one of whose places is `times` as long."""
    z = normal(pictures, CHANNELS, SIZE, SIZE, seed=seed)
    z[:, :, 7, 20] *= times
    return z


def test_opl_is_the_formula_in_float64():
    z = normal(3, 5, 4, 6) * torch.tensor([0.1, 1, 3, 0.5, 2]).view(5, 1, 1) + 7
    z[1, :, 2, 3] += 20
    total = 0.0
    for picture in z.double():
        m, s = picture.mean((1, 2)), picture.std((1, 2), correction=0)
        for i in range(4):
            for j in range(6):
                total += max((picture[:, i, j] - m).norm().item() - 1.2 * s.norm().item(), 0) / (3 * 4 * 6)
    assert penalty(z, r=1.2).item() == pytest.approx(total, rel=1e-5)
    assert penalty(z, r=1.2, strength=1e5).item() == pytest.approx(1e5 * total, rel=1e-5)


@pytest.mark.parametrize("seed", range(4))
def test_gaussian_latents_cost_nothing(seed):
    assert penalty(normal(16, CHANNELS, SIZE, SIZE, seed=seed)).item() == 0.0


@pytest.mark.parametrize(("times", "single_draw"), [(5, 0.009), (10, 0.028), (30, 0.106)])
def test_one_spot_costs_what_it_is_too_long(times, single_draw):
    """Expected: the mean length of the spot's vector less three deviations, both known for Gaussian latents."""
    each = torch.stack([penalty(z[None]) for z in with_spot(times, 128)])
    places = SIZE * SIZE
    mean_length = times * math.sqrt(2) * math.exp(math.lgamma((CHANNELS + 1) / 2) - math.lgamma(CHANNELS / 2))
    deviation = math.sqrt(CHANNELS * (1 + (times**2 - 1) / places))
    expected = (mean_length - 3 * deviation) / places
    assert each.mean().item() == pytest.approx(expected, abs=4 * each.std().item() / math.sqrt(128))
    assert single_draw == pytest.approx(expected, abs=2 * each.std().item()), "one draw, measured elsewhere"


def test_the_penalty_grows_with_the_latents_and_looks_at_each_picture_and_frame_alone():
    z = with_spot(20, 2)
    assert penalty(3 * z + 5).item() == pytest.approx(3 * penalty(z).item(), rel=1e-4)
    loud = torch.cat([with_spot(20, 1), 100 * normal(1, CHANNELS, SIZE, SIZE, seed=1)])
    assert penalty(loud).item() == pytest.approx(penalty(with_spot(20, 1)).item() / 2, rel=1e-5)
    assert penalty(loud.transpose(0, 1)[None]).item() == pytest.approx(penalty(loud).item(), rel=1e-6)  # b c t h w


@pytest.mark.parametrize(("size", "costs"), [((2, 5), False), ((3, 4), True)])
def test_a_few_places_hold_no_outlier_of_three_deviations(size, costs):
    z = torch.zeros(1, 4, *size)
    z[..., 0, 0] = 1e3
    assert (penalty(z).item() > 1e-3) == costs


def test_gradients_are_those_of_the_whole_formula_mean_and_deviation_included():
    z = normal(2, 3, 4, 4).double()
    z[:, :, 1, 2] *= 6
    assert outlier_penalty(z, 1.5) > 0
    assert torch.autograd.gradcheck(lambda z: outlier_penalty(z, 1.5), z.requires_grad_())


@pytest.mark.parametrize("size", [1, 4])
def test_flat_latents_cost_nothing_and_have_a_finite_gradient(size):
    z = torch.full((2, 3, size, size), 0.5, requires_grad=True)
    loss = penalty(z)
    loss.backward()
    assert loss.item() == 0.0
    assert (z.grad == 0).all()


def test_the_gradient_pulls_the_outlier_in():
    z = with_spot(10, 1).requires_grad_()
    penalty(z).backward()
    spot, pull = z.detach()[0, :, 7, 20], -z.grad[0, :, 7, 20]
    assert torch.cosine_similarity(spot, pull, dim=0) < -0.99
    lengths = z.grad.norm(dim=1).flatten()
    assert lengths.argmax() == 7 * SIZE + 20


def test_gradients_reach_the_encoder_in_fp32_from_bf16_latents():
    torch.manual_seed(0)
    encoder = torch.nn.Conv2d(3, 4, 8, stride=8)
    x = normal(2, 3, 64, 64)
    x[:, :, 8:16, 8:16] *= 20
    with torch.autocast("cpu", torch.bfloat16):
        z = encoder(x)
    assert z.dtype == torch.bfloat16
    loss = penalty(z)
    assert loss.dtype == torch.float32
    loss.backward()
    assert encoder.weight.grad.abs().sum() > 0


def test_settings_out_of_range_are_refused():
    config = registry.level("regularizer", "outlier").Config
    assert config.read({"strength": 1e5}).r == 3.0
    for wrong in ({}, {"strength": -1.0}, {"strength": 1.0, "r": 0}):
        with pytest.raises(ValueError, match=r"strength|r\n"):
            config.read(wrong)
    assert registry.build("regularizer", "none", {}) is None
