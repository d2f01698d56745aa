"""The autoencoder against diffusers, and its use of the padding and norm levels."""

import itertools
from functools import partial

import pytest
import torch
from diffusers import AutoencoderKL, VQModel
from torch import nn

from ablate.components.shared.periodic import worst_polyphase
from ablate.identity import derive
from ablate.slots import registry
from ablate.slots.training import LOGVAR_RANGE, Autoencoder, Layers

torch.set_num_threads(1)


def build(padding="zeros", norm="group", groups=32, **settings):
    """The model with the default samplers. `padding`: a level's name or a callable."""
    pad = registry.build("padding", padding, {}) if isinstance(padding, str) else padding
    parts = Layers(
        padding=pad,
        norm=partial(registry.build, "norm", norm, {} if norm.startswith("rms") else {"groups": groups}),
        upsample=partial(registry.build, "upsample", "nearest_conv", {}),
        downsample=partial(registry.build, "downsample", "strided_conv", {}),
    )
    vae: Autoencoder = registry.build("model", "image_kl", settings, parts, parts)
    return vae.eval()


def small(**changes):
    return build(**{"groups": 4, "channels": [8, 12, 12], "latent_channels": 4, "blocks": 1, **changes})


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("channels", [(32, 64, 64), (32, 32, 64, 96), (32,)])
@pytest.mark.parametrize(("blocks", "mid_attention"), [(1, True), (2, False)])
@torch.no_grad()
def test_is_diffusers_autoencoder_kl(channels, blocks, mid_attention):
    torch.manual_seed(0)
    theirs = AutoencoderKL(
        block_out_channels=channels,
        down_block_types=("DownEncoderBlock2D",) * len(channels),
        up_block_types=("UpDecoderBlock2D",) * len(channels),
        layers_per_block=blocks,
        latent_channels=8,
        mid_block_add_attention=mid_attention,
    ).eval()
    ours = build(channels=channels, latent_channels=8, blocks=blocks, mid_attention=mid_attention)
    ours.load_state_dict(theirs.state_dict(), strict=True)
    x = normal(2, 3, 32, 48)
    posterior, truth = ours.encode(x), theirs.encode(x).latent_dist
    assert ours.stride == 2 ** (len(channels) - 1)
    assert posterior.mean.shape == (2, 8, 32 // ours.stride, 48 // ours.stride)
    torch.testing.assert_close(posterior.mean, truth.mean, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(posterior.logvar, truth.logvar, rtol=1e-5, atol=1e-5)
    z = normal(*posterior.mean.shape)
    torch.testing.assert_close(ours.decode(z), theirs.decode(z).sample, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(posterior.sample(z), truth.mean + truth.std * z, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("norm", ["group", "scn"])
@pytest.mark.parametrize(("patch", "channels"), [(2, [8, 12]), (4, [8, 12]), (4, [8]), (1, [8, 12, 12])])
def test_patches_are_channels_at_both_ends(patch, channels, norm):
    torch.manual_seed(0)
    vae = small(patch=patch, channels=channels, norm=norm)
    assert vae.stride == patch * 2 ** (len(channels) - 1)
    rows, columns = 16 // patch, 24 // patch
    x, inside = normal(2, 3, 16, 24), {}
    vae.encoder.conv_in.register_forward_hook(lambda _, given, __: inside.update(first=given[0]))
    vae.decoder.conv_out.register_forward_hook(lambda _, __, made: inside.update(last=made))
    posterior = vae.encode(x)
    y = vae.decode(posterior.sample(normal(*posterior.mean.shape, seed=1)))
    assert posterior.mean.shape == (2, 4, 16 // vae.stride, 24 // vae.stride)
    assert inside["first"].shape == inside["last"].shape == (2, 3 * patch**2, rows, columns)
    for picture, features in ((x, inside["first"]), (y, inside["last"])):
        for row, column in itertools.product(range(patch), repeat=2):
            channel = row * patch + column
            assert torch.equal(picture[..., row::patch, column::patch], features[:, channel :: patch**2])
    ((y - x).square().mean() + posterior.mean.square().mean()).backward()
    silent = [name for name, parameter in vae.named_parameters() if not parameter.grad.abs().sum() > 0]
    assert [name for name in silent if not name.endswith("to_k.bias")] == []
    assert (worst_polyphase(vae) > 0.5) == (patch > 1), "the last layer draws a grid on constants"


def test_without_patches_nothing_is_new():
    read = registry.level("model", "image_kl").Config.read
    assert read({"channels": [8], "patch": 1}).identity() == read({"channels": [8]}).identity()
    assert "patch" not in read({"channels": [8]}).identity()
    assert read({"channels": [8], "patch": 2}).identity()["patch"] == 2
    torch.manual_seed(0)
    plain = small()
    torch.manual_seed(0)
    same = small(patch=1)
    same.load_state_dict(plain.state_dict(), strict=True)
    x = normal(1, 3, 16, 16)
    assert torch.equal(same.decode(same.encode(x).mean), plain.decode(plain.encode(x).mean))


@torch.no_grad()
def test_filtered_activations_change_detail_alone():
    read = registry.level("model", "image_kl").Config.read
    assert read({"channels": [8], "activation": "silu"}).identity() == read({"channels": [8]}).identity()
    plain, filtered = (small(padding="reflect", activation=act) for act in ("silu", "filtered_silu"))
    filtered.load_state_dict(plain.state_dict(), strict=True)
    flat, detailed = torch.full((1, 3, 48, 48), 0.3), normal(1, 3, 48, 48)
    z = plain.encode(flat).mean
    torch.testing.assert_close(filtered.encode(flat).mean, z, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(filtered.decode(z), plain.decode(z), rtol=1e-4, atol=1e-5)
    ours, theirs = filtered.encode(detailed).mean, plain.encode(detailed).mean
    assert (ours - theirs).std() > 0.05 * theirs.std()


@pytest.mark.parametrize("mid_attention", [True, False])
@torch.no_grad()
def test_decoder_with_scn_is_that_of_movq(mid_attention):
    torch.manual_seed(0)
    channels = (32, 64, 64)
    theirs = VQModel(
        block_out_channels=channels,
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        layers_per_block=2,
        latent_channels=4,
        norm_type="spatial",
        mid_block_add_attention=mid_attention,
    ).eval()
    ours = build(norm="scn", channels=channels, latent_channels=4, blocks=2, mid_attention=mid_attention)
    # the only names that differ: diffusers calls the norm of its attention after its kind
    decoder = {k.replace("spatial_norm", "group_norm"): v for k, v in theirs.decoder.state_dict().items()}
    ours.decoder.load_state_dict(decoder, strict=True)
    ours.post_quant_conv.load_state_dict(theirs.post_quant_conv.state_dict())
    z = normal(2, 4, 6, 8).double() * 2
    truth = theirs.double().decode(z, force_not_quantize=True).sample
    torch.testing.assert_close(ours.double().decode(z), truth, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("sample", [(64, 64), (64, 32)])
@pytest.mark.parametrize(
    ("padding", "norm"), list(itertools.product(registry.levels("padding"), registry.levels("norm")))
)
def test_every_padding_and_norm_trains(padding, norm, sample):
    torch.manual_seed(0)
    vae = small(padding=padding, norm=norm)
    x = normal(2, 3, *sample)
    posterior = vae.encode(x)
    y = vae.decode(posterior.sample(normal(*posterior.mean.shape, seed=1)))
    assert y.shape == x.shape
    ((y - x).square().mean() + posterior.mean.square().mean()).backward()
    silent = [name for name, parameter in vae.named_parameters() if not parameter.grad.abs().sum() > 0]
    assert [name for name in silent if not name.endswith("to_k.bias")] == []  # softmax does not see a shift of all keys


@pytest.mark.parametrize("blocks", [1, 2])
def test_every_convolution_pads_through_the_level(blocks):
    seen = []

    def recording(x, pads):
        seen.append(pads)
        return nn.functional.pad(x, pads)

    vae = small(padding=recording, blocks=blocks)
    wide = [conv for conv in vae.modules() if isinstance(conv, nn.Conv2d) and conv.kernel_size != (1, 1)]
    assert all(conv.padding == (0, 0) for conv in vae.modules() if isinstance(conv, nn.Conv2d))
    with torch.no_grad():
        encoded = vae.encode(normal(1, 3, 16, 16)).mean
    # conv_in, conv_out, two mid blocks and `blocks` a level of two each, two resamplers
    assert len(seen) == 1 + 1 + 2 * 2 + 3 * blocks * 2 + 2
    assert seen.count((0, 1, 0, 1)) == 2
    with torch.no_grad():
        vae.decode(encoded)
    assert len(seen) == len(wide) == 2 * (1 + 1 + 2 * 2 + 2) + (3 * blocks + 3 * (blocks + 1)) * 2
    assert set(seen) == {(1, 1, 1, 1), (0, 1, 0, 1)}


@pytest.mark.parametrize("norm", ["group", "scn"])
@torch.no_grad()
def test_with_circular_padding_the_model_commutes_with_shifts_by_its_stride(norm):
    torch.manual_seed(0)
    x = normal(1, 3, 16, 24).double()
    shift, by = (4, 8), (1, 2)
    for padding, commutes in (("circular", True), ("zeros", False)):
        vae = small(padding=padding, norm=norm, mid_attention=False).double()
        rolled = vae.encode(x.roll(shift, (2, 3))).mean
        assert torch.allclose(rolled, vae.encode(x).mean.roll(by, (2, 3)), atol=1e-10) == commutes
        z = normal(1, 4, 4, 6).double()
        assert torch.allclose(vae.decode(z.roll(by, (2, 3))), vae.decode(z).roll(shift, (2, 3)), atol=1e-10) == commutes


@pytest.mark.parametrize(
    ("padding", "flat"), [("reflect", True), ("replicate", True), ("circular", True), ("zeros", False)]
)
@torch.no_grad()
def test_a_constant_picture_stays_constant_unless_padded_with_zeros(padding, flat):
    torch.manual_seed(0)
    vae = small(padding=padding, norm="scn", channels=[8, 12]).double()
    x = torch.tensor([0.3, -0.5, 0.9], dtype=torch.float64).view(1, 3, 1, 1).expand(1, 3, 16, 16)
    z = vae.encode(x).mean
    y = vae.decode(normal(1, 4, 1, 1).double().expand(1, 4, 8, 8))
    assert all((h.std(dim=(2, 3)).max() < 1e-9) == flat for h in (z, y))


@torch.no_grad()
def test_logvar_is_clamped_and_the_encoder_s_other_half_is_not():
    torch.manual_seed(0)
    vae = small()
    vae.quant_conv.bias.fill_(-100.0)
    posterior = vae.encode(normal(1, 3, 16, 16))
    assert (posterior.logvar == LOGVAR_RANGE[0]).all()
    assert (posterior.mean < -50).all()
    vae.quant_conv.bias.fill_(100.0)
    assert (vae.encode(normal(1, 3, 16, 16)).logvar == LOGVAR_RANGE[1]).all()


@torch.no_grad()
def test_scn_looks_at_the_latent_itself_and_the_convolutions_at_its_projection():
    torch.manual_seed(0)
    vae = small(norm="scn")
    vae.post_quant_conv.weight.zero_()
    z = normal(1, 4, 4, 4)
    assert not torch.allclose(vae.decode(z), vae.decode(z + 1)), "norms see z before post_quant_conv"
    blind = small(norm="group")
    blind.post_quant_conv.weight.zero_()
    assert torch.equal(blind.decode(z), blind.decode(z + 1))


def test_sizes_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match=r"16 x 18 .* stride 4"):
        small().encode(torch.zeros(1, 3, 16, 18))


@pytest.mark.parametrize(
    "settings",
    [
        {}, {"channels": []}, {"channels": [8] * 7}, {"channels": [8, 0]}, {"channels": [8], "blocks": 0},
        {"channels": [8], "patch": 3},
    ],
)  # fmt: skip
def test_settings_are_checked(settings):
    with pytest.raises(ValueError, match=r"channels|blocks|patch"):
        registry.level("model", "image_kl").Config.read(settings)


def test_treatments_of_one_seed_start_from_equal_convolutions():
    states = []
    for changes in ({"norm": "group"}, {"norm": "scn", "padding": "reflect"}, {"blocks": 2, "mid_attention": False}):
        vae = small(**changes)
        registry.build("init", "scratch", {}, lambda name: derive(0, "init", name))(vae)
        states.append(vae.state_dict())
    for other in states[1:]:
        shared = [name for name, value in states[0].items() if name in other and value.ndim == 4]
        assert len(shared) > 20
        assert all(torch.equal(states[0][name], other[name]) for name in shared)
