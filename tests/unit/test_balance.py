"""The adversarial weight: its schedule by hand, the adaptive factor against gradients taken in float64."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional

from ablate.engine.loss_weights import WeightSchedule, adaptive_factor
from ablate.slots import registry


@pytest.mark.parametrize(
    ("weight", "expected"),
    [
        (WeightSchedule(0.5), {1: 0.5, 2: 0.5, 1000: 0.5}),
        (WeightSchedule(0.5, start=3), {1: 0.0, 3: 0.0, 4: 0.5, 1000: 0.5}),
        (WeightSchedule(0.5, start=3, ramp=1), {3: 0.0, 4: 0.5, 5: 0.5}),
        (WeightSchedule(0.5, start=3, ramp=4), {3: 0.0, 4: 0.125, 5: 0.25, 6: 0.375, 7: 0.5, 8: 0.5}),
        (WeightSchedule(0.5, ramp=2), {1: 0.25, 2: 0.5, 3: 0.5}),
    ],
)
def test_schedule(weight, expected):
    assert {step: weight.at(step) for step in expected} == expected


def test_a_weight_without_schedule_is_itself_to_the_bit():
    assert all(WeightSchedule(0.1).at(step) == 0.1 for step in range(1, 100))


def networks():
    """A decoder of two layers and the discriminator, fixed, with a latent and the picture that it should become."""
    torch.manual_seed(0)
    decoder = nn.Sequential(nn.Conv2d(4, 8, 3, padding=1), nn.SiLU(), nn.Conv2d(8, 3, 3, padding=1))
    critic = registry.build("discriminator", "patchgan", {"width": 4, "layers": 1}).eval().requires_grad_(False)
    return decoder, critic, torch.randn(2, 4, 16, 16), torch.rand(2, 3, 16, 16) * 2 - 1


def losses(decoder, critic, z, x):
    y = decoder(z)
    return functional.mse_loss(y, x) + 0.1 * (y - x).abs().mean(), critic.generator_loss(critic(y))


def test_factor_is_the_quotient_of_gradient_norms():
    decoder, critic, z, x = networks()
    found = adaptive_factor(*losses(decoder, critic, z, x), decoder[-1].weight, 1e4)

    decoder, critic = copy.deepcopy(decoder).double(), copy.deepcopy(critic).double()
    reconstruction, _ = losses(decoder, critic, z.double(), x.double())
    realism = -critic(decoder(z.double())).mean()
    (r,) = torch.autograd.grad(reconstruction, decoder[-1].weight)
    (g,) = torch.autograd.grad(realism, decoder[-1].weight)
    quotient = r.square().sum().sqrt() / (g.square().sum().sqrt() + 1e-4)
    assert found.item() == pytest.approx(quotient.item(), rel=1e-4)
    assert found.shape == () and not found.requires_grad


def test_factor_makes_the_two_gradients_equally_long():
    decoder, critic, z, x = networks()
    reconstruction, realism = losses(decoder, critic, z, x)
    factor = adaptive_factor(reconstruction, 1e3 * realism, decoder[-1].weight, 1e4)
    (r,) = torch.autograd.grad(reconstruction, decoder[-1].weight, retain_graph=True)
    (g,) = torch.autograd.grad(factor * 1e3 * realism, decoder[-1].weight, retain_graph=True)
    assert g.norm().item() == pytest.approx(r.norm().item(), rel=1e-3)


def test_factor_is_clamped_and_finite_where_realism_is_flat():
    weight = torch.ones(3, requires_grad=True)
    flat = (0 * weight).sum()
    assert adaptive_factor(weight.sum(), flat, weight, 1e9).item() == pytest.approx(3**0.5 / 1e-4)
    assert adaptive_factor(weight.sum(), flat, weight, 1e4).item() == 1e4
    assert adaptive_factor(weight.sum(), flat, weight, 2.5).item() == 2.5
    assert adaptive_factor(flat, weight.sum(), weight, 1e4).item() == 0.0


def test_factor_leaves_the_graphs_and_the_gradients_as_they_were():
    decoder, critic, z, x = networks()
    untouched = copy.deepcopy(decoder)
    reconstruction, realism = losses(decoder, critic, z, x)
    adaptive_factor(reconstruction, realism, decoder[-1].weight, 1e4)
    assert all(parameter.grad is None for parameter in decoder.parameters())
    (reconstruction + realism).backward()
    torch.stack(losses(untouched, critic, z, x)).sum().backward()
    for parameter, expected in zip(decoder.parameters(), untouched.parameters(), strict=True):
        assert torch.equal(parameter.grad, expected.grad)


def test_factor_never_waits_for_the_device():
    """A meta tensor has no numbers: whatever reads one on the host raises."""
    decoder, critic, z, x = networks()
    decoder, critic = decoder.to("meta"), critic.to("meta")
    factor = adaptive_factor(*losses(decoder, critic, z.to("meta"), x.to("meta")), decoder[-1].weight, 1e4)
    assert factor.device.type == "meta"


def test_says_when_a_loss_does_not_reach_the_weight():
    weight, other = torch.ones(3, requires_grad=True), torch.ones(3, requires_grad=True)
    with pytest.raises(RuntimeError, match="not have been used"):
        adaptive_factor(weight.sum(), other.sum(), weight, 1e4)
