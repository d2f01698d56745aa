"""Group and spatially conditional normalisation against diffusers and float64 arithmetic."""

import pytest
import torch
from diffusers.models.attention_processor import SpatialNorm
from torch.nn import functional as F

from ablate import registry

torch.set_num_threads(1)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_group_is_mean_and_variance_of_each_group():
    norm = registry.build("norm", "group", {"groups": 4}, 8, 16)
    h = normal(2, 8, 3, 5) * 3 + 1
    groups = h.double().view(2, 4, -1)
    truth = (groups - groups.mean(-1, keepdim=True)) / (groups.var(-1, correction=0, keepdim=True) + 1e-6).sqrt()
    torch.testing.assert_close(norm(h, normal(2, 16, 3, 5)), truth.view_as(h).float(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("factor", [1, 2, 8])
def test_scn_is_diffusers_spatial_norm(factor):
    torch.manual_seed(0)
    theirs = SpatialNorm(64, 16)
    ours = registry.build("norm", "scn", {}, 64, 16)
    ours.load_state_dict(theirs.state_dict(), strict=True)
    h, z = normal(2, 64, 2 * factor, 3 * factor), normal(2, 16, 2, 3, seed=1)
    torch.testing.assert_close(ours(h, z), theirs(h, z), rtol=1e-5, atol=1e-5)


def test_scn_gradients_are_those_of_the_resized_form():
    torch.manual_seed(0)
    norm = registry.build("norm", "scn", {"groups": 2}, 4, 3).double()
    h, z = normal(1, 4, 4, 4).double().requires_grad_(), normal(1, 3, 2, 2, seed=1).double().requires_grad_()
    wide = F.interpolate(z, scale_factor=2, mode="nearest")
    truth = norm.norm_layer(h) * norm.conv_y(wide) + norm.conv_b(wide)
    inputs = [h, z, *norm.parameters()]
    for ours, theirs in zip(
        torch.autograd.grad(norm(h, z).pow(3).sum(), inputs),
        torch.autograd.grad(truth.pow(3).sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("level", ["group", "scn"])
def test_encoder_norms_are_plain_group_norms(level):
    norm = registry.build("norm", level, {"groups": 4}, 8, None)
    h = normal(2, 8, 4, 4)
    assert sorted(norm.state_dict()) == ["bias", "weight"]
    torch.testing.assert_close(norm(h, None), F.group_norm(h, 4, eps=1e-6))


@pytest.mark.parametrize("level", registry.levels("norm"))
def test_names_channels_and_groups_that_do_not_fit(level):
    with pytest.raises(ValueError, match="48 channels do not divide into 32 groups"):
        registry.build("norm", level, {}, 48, 16)
