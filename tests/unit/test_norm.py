"""Group and spatially conditional normalisation against diffusers and float64 arithmetic."""

from functools import partial

import pytest
import torch
from diffusers.models.attention_processor import SpatialNorm
from torch.nn import functional as F

from ablate.identity import derive
from ablate.slots import registry
from ablate.slots.training import Layers

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


@pytest.mark.parametrize("interp", ["nearest", "bilinear"])
@pytest.mark.parametrize("factors", [(1, 1), (2, 4), (8, 8)])
def test_scn_is_that_of_the_resized_latent_with_its_gradients(interp, factors):
    """The textbook order, in float64: first the latent is resized, then the convolutions run at full size."""
    torch.manual_seed(0)
    norm = registry.build("norm", "scn", {"groups": 2, "interp": interp}, 4, 3).double()
    sizes = [2 * factors[0], 3 * factors[1]]
    h, z = normal(2, 4, *sizes).double().requires_grad_(), normal(2, 3, 2, 3, seed=1).double().requires_grad_()
    wide = F.interpolate(z, size=sizes, mode=interp)
    truth = norm.norm_layer(h) * norm.conv_y(wide) + norm.conv_b(wide)
    torch.testing.assert_close(norm(h, z), truth)
    inputs = [h, z, *norm.parameters()]
    for ours, theirs in zip(
        torch.autograd.grad(norm(h, z).pow(3).sum(), inputs),
        torch.autograd.grad(truth.pow(3).sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("interp", ["nearest", "bilinear"])
def test_scn_s_convolutions_run_at_the_latent_s_size(interp):
    norm = registry.build("norm", "scn", {"groups": 2, "interp": interp}, 4, 3)
    seen = []
    for conv in (norm.conv_y, norm.conv_b):
        conv.register_forward_hook(lambda module, inputs, output: seen.append(output.shape[2:]))
    norm(normal(1, 4, 16, 24), normal(1, 3, 2, 3))
    assert seen == [(2, 3), (2, 3)]


@pytest.mark.gpu
def test_bilinear_scn_repeats_its_gradients_on_the_gpu():
    norm = registry.build("norm", "scn", {"interp": "bilinear"}, 64, 16).cuda()
    h, z = normal(4, 64, 256, 256).cuda(), normal(4, 16, 32, 32, seed=1).cuda().requires_grad_()
    first, second = (torch.autograd.grad(norm(h, z).pow(3).sum(), z)[0] for _ in range(2))
    assert torch.equal(first, second)


def decoding(norm, **settings):
    """A model whose weights `init: scratch` drew, with the given norm."""
    parts = Layers(
        padding=registry.build("padding", "zeros", {}),
        norm=partial(registry.build, "norm", norm, {"groups": 4, **settings}),
        upsample=partial(registry.build, "upsample", "nearest_conv", {}),
        downsample=partial(registry.build, "downsample", "strided_conv", {}),
    )
    vae = registry.build("model", "image_kl", {"channels": [8, 12, 12], "latent_channels": 4}, parts, parts)
    with torch.no_grad():
        for parameter in vae.parameters():
            parameter.fill_(float("nan"))  # so that all are seen to be drawn
    registry.build("init", "scratch", {}, lambda name: derive(0, "init", name))(vae)
    return vae


@pytest.mark.parametrize("interp", ["nearest", "bilinear"])
@torch.no_grad()
def test_identity_scn_starts_as_group_normalisation_bit_for_bit(interp):
    z = normal(2, 4, 4, 6) * 5
    plain = decoding("group").decode(z)
    assert torch.equal(decoding("scn", init="identity", interp=interp).decode(z), plain)
    assert not torch.allclose(decoding("scn", interp=interp).decode(z), plain, rtol=0.1)


def test_identity_scn_learns():
    norm = registry.build("norm", "scn", {"groups": 2, "init": "identity"}, 4, 3)
    norm(normal(1, 4, 4, 4), normal(1, 3, 2, 2)).pow(3).sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in norm.parameters())


def test_scn_s_added_settings_change_no_signature_and_are_checked():
    config = registry.level("norm", "scn").Config
    assert config.read({}).identity() == {"groups": 32}
    changed = {"groups": 32, "interp": "bilinear", "init": "identity"}
    assert config.read(changed).identity() == changed
    for wrong in ({"interp": "bicubic"}, {"init": "zeros"}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            config.read(wrong)


@pytest.mark.parametrize("level", ["group", "scn"])
def test_encoder_norms_are_plain_group_norms(level):
    norm = registry.build("norm", level, {"groups": 4}, 8, None)
    h = normal(2, 8, 4, 4)
    assert sorted(norm.state_dict()) == ["bias", "weight"]
    torch.testing.assert_close(norm(h, None), F.group_norm(h, 4, eps=1e-6))


@pytest.mark.parametrize("level", ["group", "scn"])
def test_names_channels_and_groups_that_do_not_fit(level):
    with pytest.raises(ValueError, match="48 channels do not divide into 32 groups"):
        registry.build("norm", level, {}, 48, 16)
