"""The transformer over patches: shapes and parts against closed forms and torch's own; the grids of its un-patches."""

import itertools
import math
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from ablate.components.model.patch_vit import Attention, Block, Transformer, angles, rotated
from ablate.components.probe import grid
from ablate.components.shared.layers import Conv2d
from ablate.components.shared.periodic import worst_polyphase
from ablate.identity import derive
from ablate.slots import registry
from ablate.slots.probe import Subject
from ablate.slots.training import LOGVAR_RANGE, Layers

torch.set_num_threads(1)


SMALL = {"patch": 4, "width": 24, "depth": 2, "heads": 2, "latent_channels": 4}


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def build(padding="reflect", upsample="nearest_conv", **settings):
    """The small model, with all weights from `init: scratch`."""
    pad = registry.build("padding", padding, {}) if isinstance(padding, str) else padding
    parts = Layers(
        padding=pad,
        norm=partial(registry.build, "norm", "group", {"groups": 5}),  # 24 channels do not divide into 5 groups
        upsample=partial(registry.build, "upsample", upsample, {}),
        downsample=partial(registry.build, "downsample", "strided_conv", {}),
    )
    vae = registry.build("model", "patch_vit", {**SMALL, **settings}, parts, parts)
    with torch.no_grad():
        for parameter in vae.parameters():
            parameter.fill_(math.nan)  # so that all are seen to be drawn
    registry.build("init", "scratch", {}, lambda name: derive(0, "init", name))(vae)
    return vae.eval().double()


@pytest.mark.parametrize("unpatch", ["linear", "conv"])
@pytest.mark.parametrize("patch", [2, 4, 8, 16])
@torch.no_grad()
def test_round_trips_of_all_sizes(patch, unpatch):
    vae = build(patch=patch, unpatch=unpatch)
    assert vae.stride == registry.level("model", "patch_vit").Config(patch=patch).stride == patch
    for rows, columns in ((2, 2), (3, 5), (6, 2)):
        x = normal(2, 3, rows * patch, columns * patch)
        posterior = vae.encode(x)
        assert posterior.mean.shape == posterior.logvar.shape == (2, 4, rows, columns)
        assert vae.decode(posterior.mean).shape == x.shape


@pytest.mark.parametrize("unpatch", ["linear", "conv"])
def test_every_weight_trains(unpatch):
    vae = build(unpatch=unpatch)
    x = normal(2, 3, 16, 24)
    posterior = vae.encode(x)
    y = vae.decode(posterior.sample(normal(*posterior.mean.shape, seed=1)))
    ((y - x).square().mean() + posterior.mean.square().mean()).backward()
    silent = [name for name, parameter in vae.named_parameters() if not parameter.grad.abs().sum() > 0]
    assert silent == []
    assert vae.last_weight.grad.abs().sum() > 0


@pytest.mark.parametrize(("patch", "width", "depth", "z"), [(4, 24, 2, 4), (8, 48, 1, 16)])
def test_parameters_are_those_of_the_formula(patch, width, depth, z):
    def layer(before, after, taps=1):
        return before * after * taps + after

    pixels, channels = 3 * patch**2, width // 4
    block = 2 * 2 * width + layer(width, 3 * width) + layer(width, width)
    block += layer(width, 4 * width) + layer(4 * width, width)
    body = depth * block + 2 * width
    shared = 2 * body + layer(pixels, width) + layer(width, 2 * z) + layer(z, width)
    doublings = round(math.log2(patch))
    ends = {
        "linear": layer(width, pixels),
        "conv": layer(width, channels) + doublings * layer(channels, channels, 9) + layer(channels, 3, 9),
    }
    for unpatch, end in ends.items():
        vae = build(patch=patch, width=width, depth=depth, latent_channels=z, unpatch=unpatch)
        assert sum(parameter.numel() for parameter in vae.parameters()) == shared + end


@torch.no_grad()
def test_parts_are_named():
    vae = build()
    frozen = {id(p) for part in vae.encoding_parts for p in part.parameters()}
    vae.decode(vae.encode(normal(1, 3, 8, 8)).mean)
    assert frozen == {id(p) for name, p in vae.named_parameters() if name.startswith("encoder.")}
    seen = []
    for block in vae.decoder_blocks:
        block.register_forward_hook(lambda module, _, h: seen.append((module, h.shape)))
    vae.decode(normal(2, 4, 3, 5))
    assert seen == [(block, (2, 24, 3, 5)) for block in vae.decoder.transformer.blocks]
    assert len(seen) == SMALL["depth"]
    assert vae.last_weight is vae.decoder.unpatch.conv.weight
    assert build(unpatch="conv").last_weight.shape == (3, 6, 3, 3)


@torch.no_grad()
def test_patches_are_embedded_as_by_a_convolution_whose_stride_is_its_kernel():
    vae = build()
    x = normal(2, 3, 12, 20)
    kernel = vae.encoder.embed.weight[..., 0, 0].unflatten(1, (3, 4, 4))
    truth = F.conv2d(x, kernel, vae.encoder.embed.bias, stride=4)
    torch.testing.assert_close(vae.encoder.embed(vae.encoder.patches(x)), truth)


@torch.no_grad()
def test_a_linear_unpatch_is_a_transposed_convolution_whose_stride_is_its_kernel():
    unpatch = build().decoder.unpatch
    h = normal(2, 24, 3, 5)
    kernel, bias = unpatch.conv.weight[..., 0, 0].T.unflatten(1, (3, 4, 4)), unpatch.conv.bias.view(3, 4, 4)
    truth = F.conv_transpose2d(h, kernel, stride=4) + bias.tile(1, 3, 5)
    torch.testing.assert_close(unpatch(h), truth)


@torch.no_grad()
def test_without_rotation_a_block_is_torch_s_transformer_layer():
    torch.manual_seed(0)
    ours = Block(24, 3).double()
    theirs = nn.TransformerEncoderLayer(
        24, 3, 96, dropout=0.0, activation="gelu", batch_first=True, norm_first=True, dtype=torch.float64
    )
    pairs = {
        "self_attn.in_proj_": "attention.to_qkv.", "self_attn.out_proj.": "attention.to_out.",
        "linear1.": "mlp.0.", "linear2.": "mlp.2.", "norm1.": "norm1.", "norm2.": "norm2.",
    }  # fmt: skip
    state = ours.state_dict()
    theirs.load_state_dict({a + kind: state[b + kind] for a, b in pairs.items() for kind in ("weight", "bias")})
    h = normal(2, 24, 3, 5)
    still = torch.zeros(15, 4, dtype=torch.float64)
    truth = theirs(h.flatten(2).transpose(1, 2)).transpose(1, 2).reshape(h.shape)
    torch.testing.assert_close(ours(h, (still.cos(), still.sin())), truth)


def test_angles_are_the_distance_times_speeds_from_1_to_a_hundredth():
    found = angles(3, 5, 8, torch.device("cpu")).view(3, 5, 8)
    for row, column, k in itertools.product(range(3), range(5), range(4)):
        speed = 100 ** (-k / 4)
        assert found[row, column, k] == pytest.approx(row * speed, abs=1e-6)
        assert found[row, column, 4 + k] == pytest.approx(column * speed, abs=1e-6)


def test_attention_sees_the_distance_between_patches_and_not_where_they_are():
    q, k = normal(12), normal(12, seed=1)
    turns = angles(6, 7, 6, torch.device("cpu")).double()
    rotation = turns.cos(), turns.sin()
    logits = rotated(q.expand(42, 12), rotation) @ rotated(k.expand(42, 12), rotation).T
    by_distance = {}
    for (i, j), (m, n) in itertools.product(itertools.product(range(6), range(7)), repeat=2):
        by_distance.setdefault((m - i, n - j), []).append(logits[i * 7 + j, m * 7 + n].item())
    assert max(max(values) - min(values) for values in by_distance.values()) < 1e-5
    means = torch.tensor([sum(values) / len(values) for values in by_distance.values()])
    assert len(means) == 11 * 13
    assert means.std() > 1, "different distances are told apart"


@torch.no_grad()
def test_without_positions_a_mosaic_would_be_its_tiles_in_any_order_and_with_them_it_is_not():
    torch.manual_seed(0)
    attention = Attention(24, 2).double()
    tokens, order = normal(1, 1, 7, 24), torch.randperm(7)
    still = torch.zeros(7, 6, dtype=torch.float64)
    moving = angles(1, 7, 6, torch.device("cpu")).double()
    for turns, blind in ((still, True), (moving, False)):
        rotation = turns.cos(), turns.sin()
        same = torch.allclose(attention(tokens[:, :, order], rotation), attention(tokens, rotation)[:, :, order])
        assert same == blind


@torch.no_grad()
def test_all_positions_look_at_all_positions():
    torch.manual_seed(0)
    config = registry.level("model", "patch_vit").Config(**{**SMALL, "depth": 1})
    transformer, h = Transformer(config).double(), normal(1, 24, 3, 4)
    far = h.clone()
    far[:, 0, -1, -1] += 1
    assert ((transformer(far) - transformer(h)).abs().amax(1) > 1e-6).all()


def test_only_an_unpatch_by_convolutions_pads():
    seen = []

    def recording(x, pads):
        seen.append(pads)
        return F.pad(x, pads)

    with torch.no_grad():
        vae = build(padding=recording, unpatch="conv")
        z = vae.encode(normal(1, 3, 8, 8)).mean
        assert seen == []
        vae.decode(z)
        assert seen == [(1, 1, 1, 1)] * 3  # two doublings and the last convolution
        assert len([m for m in vae.modules() if isinstance(m, Conv2d)]) == 3
        assert torch.equal(build(padding="zeros").decode(z), build(padding="reflect").decode(z))


@pytest.mark.parametrize("unpatch", ["linear", "conv"])
@torch.no_grad()
def test_a_constant_picture_gives_equal_latents_at_any_size(unpatch):
    """Relative positions do not tell equal patches apart, where a code added to them would."""
    vae = build(unpatch=unpatch)
    colour = torch.tensor([0.3, -0.5, 0.9], dtype=torch.float64).view(1, 3, 1, 1)
    small, large = (vae.encode(colour.expand(1, 3, side, side)).mean for side in (8, 40))
    torch.testing.assert_close(large, small[..., :1, :1].expand_as(large))
    torch.testing.assert_close(vae.decode(large)[..., :4, :4].mean(), vae.decode(large)[..., 20:24, 20:24].mean())


@pytest.mark.parametrize(
    ("unpatch", "upsample", "draws"),
    [
        ("linear", "nearest_conv", True),
        ("conv", "nearest_conv", False),
        ("conv", "bilinear_conv", False),
        ("conv", "pixel_shuffle", True),
    ],
)
def test_the_probe_sees_the_grid_of_an_unpatch(unpatch, upsample, draws):
    """At random weights, in float32."""
    vae = build(unpatch=unpatch, upsample=upsample).float()
    images = torch.rand(2, 3, 48, 48, generator=torch.Generator().manual_seed(0))
    found = grid.examine(Subject(vae, images)).metrics
    assert (found["grid/const_fold"] > 1) == draws
    assert draws or found["grid/const_fold"] < 1e-4
    assert (found["grid/polyphase"] > 0.5) == draws
    assert found["grid/polyphase"] == worst_polyphase(vae).item()
    assert draws or found["grid/polyphase"] == 0


@torch.no_grad()
def test_a_linear_unpatch_of_equal_rows_draws_nothing():
    """What the probe sees is the un-patch: with one set of weights for all pixels of a patch there is no grid."""
    vae = build()
    conv = vae.decoder.unpatch.conv
    conv.weight.copy_(conv.weight[::16].repeat_interleave(16, 0))
    conv.bias.copy_(conv.bias[::16].repeat_interleave(16, 0))
    found = grid.examine(Subject(vae.float(), torch.rand(2, 3, 48, 48))).metrics
    assert found["grid/polyphase"] == 0
    assert found["grid/const_fold"] < 1e-4


@torch.no_grad()
def test_logvar_is_clamped_and_the_mean_is_not():
    vae = build()
    vae.encoder.head.bias.fill_(-100.0)
    posterior = vae.encode(normal(1, 3, 8, 8))
    assert (posterior.logvar == LOGVAR_RANGE[0]).all()
    assert (posterior.mean < -50).all()


def test_sizes_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match=r"16 x 18 .* stride 4"):
        build().encode(torch.zeros(1, 3, 16, 18))


@pytest.mark.parametrize("settings", [{"patch": 3}, {"patch": 1}, {"width": 20, "heads": 2}, {"depth": 0}])
def test_settings_are_checked(settings):
    with pytest.raises(ValueError, match=r"patch|width 20 is not a multiple of 4 times the 2 heads|depth"):
        registry.level("model", "patch_vit").Config.read(settings)


def test_both_unpatches_start_from_equal_transformers():
    linear, conv = (build(unpatch=unpatch).state_dict() for unpatch in ("linear", "conv"))
    shared = [name for name in linear if "unpatch" not in name]
    assert shared == [name for name in conv if "unpatch" not in name]
    assert all(torch.equal(linear[name], conv[name]) for name in shared)
