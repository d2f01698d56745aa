"""What every arm of IV-VAE's ablation must fulfil before its numbers count; parameter counts; one set of parts."""

import itertools
from pathlib import Path

import pytest
import torch
from torch import nn

from ablate.components.shared.layers import RMSNorm
from ablate.engine.build import build_model
from ablate.engine.flops import flops
from ablate.plan.trials import expand
from ablate.slots import registry
from ablate.study.study import load_study
from tests.support.video import ARMS, IMAGE, build, chunks, clip, recipe

FRAMES = 13


GROUPS = [[0], [1, 2, 3, 4], [5, 6, 7, 8], [9, 10, 11, 12]]


ALL = pytest.mark.parametrize("arm", ARMS)


TWINS = pytest.mark.parametrize("arm", [arm for arm in ARMS if ARMS[arm].get("branch") == "ktc"])


@ALL
@torch.no_grad()
def test_influence_never_goes_back_beyond_a_group(arm):
    """Checks 1 and 8: a changed frame leaves all groups before its own the same bits, and moves its own."""
    vae, x = build(**ARMS[arm]), clip(FRAMES)
    z = vae.encode(x).mean
    y = vae.decode(z)
    for group, frames in enumerate(GROUPS):
        for frame in frames:
            changed = x.clone()
            changed[:, :, frame] += 0.5
            moved = (vae.encode(changed).mean - z).abs().amax((0, 1, 3, 4))
            assert moved[:group].eq(0).all() and moved[group] > 0, (group, frame)
        latent = z.clone()
        latent[:, :, group] += 0.5
        moved = (vae.decode(latent) - y).abs().amax((0, 1, 3, 4))
        assert moved[: frames[0]].eq(0).all() and moved[frames].gt(0).all(), group
        assert group or moved.gt(0).any(), "the first latent reaches on"


@ALL
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-4)])
@torch.no_grad()
def test_chunks_equal_the_whole_clip(arm, dtype, tolerance):
    vae, x = build(**ARMS[arm], dtype=dtype), clip(FRAMES, batch=2, dtype=dtype)
    whole = vae.encode(x)
    z = whole.mean
    y = vae.decode(z)
    assert z.shape == (2, 8, 4, 2, 2) and y.shape == x.shape
    for sizes in ([1, 4, 4, 4], [1, 12], [1, 8, 4], [5, 8], [13]):
        found = list(vae.encode_chunks(chunks(x, sizes)))
        for name in ("mean", "logvar"):
            joined = torch.cat([getattr(part, name) for part in found], 2)
            torch.testing.assert_close(joined, getattr(whole, name), rtol=0, atol=tolerance)
    for sizes in ([1, 1, 1, 1], [1, 3], [2, 2], [4]):
        frames = torch.cat(list(vae.decode_chunks(chunks(z, sizes))), 2)
        torch.testing.assert_close(frames, y, rtol=0, atol=tolerance)


@ALL
@torch.no_grad()
def test_a_picture_is_the_first_frame_of_a_clip(arm):
    vae, x = build(**ARMS[arm]), clip(FRAMES)
    posterior, picture = vae.encode(x), vae.encode(x[:, :, 0])
    assert picture.mean.shape == (1, 8, 2, 2)
    for name in ("mean", "logvar"):
        torch.testing.assert_close(getattr(picture, name), getattr(posterior, name)[:, :, 0], rtol=0, atol=1e-12)
    y = vae.decode(picture.mean)
    assert y.shape == (1, 3, 8, 8)
    torch.testing.assert_close(y, vae.decode(posterior.mean)[:, :, 0], rtol=0, atol=1e-12)
    torch.testing.assert_close(vae.encode(x[:, :, :1]).mean[:, :, 0], picture.mean, rtol=0, atol=0)


@ALL
def test_other_numbers_of_frames_are_refused(arm):
    vae = build(**ARMS[arm])
    with pytest.raises(ValueError, match=r"clips have 1 \+ 4 k frames, found 12; the nearest are 9 or 13"):
        vae.encode(clip(12))
    with pytest.raises(ValueError, match="found 2; the nearest are 1 or 5"):
        vae.encode(clip(2))
    with pytest.raises(ValueError, match=r"found 0; the nearest are 1$"):
        vae.encode(clip(0))
    with pytest.raises(ValueError, match="10 x 10"):
        vae.encode(clip(5, side=10))
    with torch.no_grad(), pytest.raises(ValueError, match="found 4"):
        list(vae.encode_chunks(chunks(clip(4), [4])))
    with torch.no_grad(), pytest.raises(ValueError, match=r"found 4"):  # the second chunk is not of whole groups
        list(vae.encode_chunks(chunks(clip(8), [5, 3])))


@TWINS
def test_what_a_head_draws_for_the_other_half_gets_no_gradient(arm):
    vae = build(**ARMS[arm])
    heads = {}

    def watch(_, __, out):
        out.retain_grad()
        heads["out"] = out

    vae.decoder.register_forward_hook(watch)
    vae.decode(vae.encode(clip(9)).mean).sum().backward()
    moved = heads["out"].grad.abs().amax((0, 3, 4)) > 0  # 6 channels, 9 frames
    keys = [frame in {0, 1, 5} for frame in range(9)]
    assert moved[:3].tolist() == [keys] * 3 and moved[3:].tolist() == [[not key for key in keys]] * 3


@pytest.mark.parametrize(
    ("z", "width", "millions", "slots"),
    [
        (4, 64, 107.17, ARMS["E"]),
        (8, 64, 107.38, ARMS["E"]),
        (16, 64, 107.80, ARMS["E"]),
        (16, 96, 241.85, ARMS["E"]),
        (4, 64, 104, ARMS["D"]),
    ],
)
def test_full_size_models_have_the_published_numbers_of_parameters(z, width, millions, slots):
    """The released weights' own counts; the paper rounds them to 107 M, and to 104 M without TMPE."""
    slots = {name: level["level"] if isinstance(level, dict) else level for name, level in slots.items()}
    channels = [2 * width * multiple for multiple in (1, 2, 4, 4)]
    size = {"channels": channels, "latent_channels": z, "blocks": 2}
    with torch.device("meta"):
        vae = build_model(recipe(size, **slots))
    count = sum(parameter.numel() for parameter in vae.parameters())
    assert count / 1e6 == pytest.approx(millions, rel=5e-4 if slots.get("context") else 5e-3)
    assert (vae.stride, vae.groups) == (8, 4)


@torch.no_grad()
@pytest.mark.parametrize("scale", ["cpu", "gpu"])
def test_the_matched_study_compares_models_of_as_many_parameters(scale):
    """And takes its other arms from the ablation, where these are trained already."""
    studies = Path(__file__).parents[2] / "search_spaces"
    matched, ablation = (
        {trial.treatment.label: trial for trial in expand(load_study(studies / f"{name}.yaml", scale, ["seeds=1"]))}
        for name in ("iv_vae_matched", "iv_vae_ablation")
    )
    single, twin, wide = (
        sum(p.numel() for p in build_model(trial.treatment.recipe.plain()).parameters()) for trial in matched.values()
    )
    assert single == pytest.approx(twin, rel=0.02) and wide > 1.2 * single
    _, twin, wide = (trial.signature for trial in matched.values())
    assert (twin, wide) == (ablation["branch=ktc"].signature, ablation["baseline"].signature)


def test_flops_are_two_for_each_weight_and_pixel_and_attention_s():
    vae, seen = build(IMAGE, dtype=torch.float32), []
    for conv in (module for module in vae.modules() if isinstance(module, nn.Conv2d)):
        conv.register_forward_hook(lambda conv, _, y: seen.append(2 * conv.weight[0].numel() * y.numel()))
    vae.decode(vae.encode(clip(1, dtype=torch.float32)).mean)
    tokens, width, attentions, products = 2 * 2, 16, 2, 2
    expected = sum(seen) + attentions * products * 2 * tokens**2 * width
    assert flops(vae, (3, 8, 8)) == flops(vae, (3, 1, 8, 8)) == expected


@ALL
def test_every_parameter_learns(arm):
    vae = build(**ARMS[arm])
    x = clip(9)
    posterior = vae.encode(x)
    ((vae.decode(posterior.mean) - x).square().mean() + posterior.logvar.square().mean()).backward()
    silent = [name for name, parameter in vae.named_parameters() if not parameter.grad.abs().sum() > 0]
    assert silent == []


def test_arms_differ_in_what_they_name_alone():
    """Layers outside of what is changed have the same names and shapes, so that one seed starts them the same."""
    shapes = {arm: {name: p.shape for name, p in build(**slots).named_parameters()} for arm, slots in ARMS.items()}
    assert shapes["A"] == shapes["B"] and shapes["C"] == shapes["D"]
    shared = [n for n in shapes["A"] if "norm" in n or "shortcut" in n or "middle.resnets" in n or "quant_conv" in n]
    assert len(shared) > 40 and all(shapes["A"][name] == shapes["C"][name] for name in shared)
    added = {n for n in shapes["E"] if shapes["D"].get(n) != shapes["E"][n]}
    assert all("attention" in name or "encoder.conv_out" in name for name in added)


@pytest.mark.parametrize("up_reduce", ["upsample", "resblock"])
def test_channels_are_reduced_where_it_is_said(up_reduce):
    vae = build({"up_reduce": up_reduce, "channels": [8, 16, 32]}, **ARMS["D"])
    widths = [up.space.out_channels for up in vae.decoder.ups]
    assert widths == ([16, 8] if up_reduce == "upsample" else [32, 16])
    assert [level.resnets[0].conv1.temporal.in_channels for level in vae.decoder.levels[1:]] == widths
    assert vae.decode(vae.encode(clip(5)).mean).shape == (1, 3, 5, 8, 8)


@TWINS
@torch.no_grad()
def test_norms_attention_and_resampling_keep_the_halves_apart(arm):
    vae = build(**ARMS[arm])
    h = clip(9, batch=2).repeat_interleave(6, 1)[:, :16]
    changed = h.clone()
    changed[:, 8:] += torch.randn(changed[:, 8:].shape, dtype=h.dtype)
    for module in (vae.encoder.downs[1], vae.decoder.ups[0]):
        before, after = module(h, None).chunk(2, 1)[0], module(changed, None).chunk(2, 1)[0]
        assert torch.equal(before, after)
    for module in (vae.encoder.middle.attention, vae.encoder.norm_out):
        assert torch.equal(module(h)[:, :8], module(changed)[:, :8])
        assert not torch.equal(module(h)[:, 8:], module(changed)[:, 8:])
    conv = vae.encoder.levels[1].resnets[0].conv2
    assert not torch.equal(conv.spatial(h), conv.spatial(changed)), "convolutions read both halves"


@torch.no_grad()
def test_rms_is_its_formula_and_joint_looks_at_both_halves():
    h = torch.randn(2, 6, 3, 4, 4, dtype=torch.float64)
    gain = torch.linspace(0.5, 2, 6, dtype=torch.float64)
    for name, parts in (("rms", 2), ("rms_joint", 1)):
        norm = registry.build("norm", name, {}, 6, None, 2).double()
        norm.weight.copy_(gain)
        expected = torch.cat([half / half.square().mean(1, keepdim=True).sqrt() for half in h.chunk(parts, 1)], 1)
        torch.testing.assert_close(norm(h), expected * gain[:, None, None, None])
        torch.testing.assert_close(norm(h[:, :, 0]), norm(h)[:, :, 0])  # pictures too
    assert RMSNorm(4, 1)(torch.zeros(1, 4, 2, 2)).isfinite().all()


@pytest.mark.parametrize("norm", [{"level": "group", "groups": 4}, "rms_joint"])
@torch.no_grad()
def test_other_norms_and_the_cache(norm):
    """Group normalisation sees the whole clip: chunks are refused, and would come out otherwise by far."""
    vae, x = build(**ARMS["B"], norm=norm), clip(9)
    whole = vae.encode(x).mean
    if norm == "rms_joint":
        joined = torch.cat([part.mean for part in vae.encode_chunks(chunks(x, [1, 4, 4]))], 2)
        torch.testing.assert_close(joined, whole, rtol=0, atol=1e-10)
        return
    for stream in (vae.encode_chunks([x]), vae.decode_chunks([whole])):
        with pytest.raises(ValueError, match="norm 'group', whose statistics are over all frames"):
            next(iter(stream))


@torch.no_grad()
def test_without_temporal_levels_it_is_an_image_vae_of_every_frame():
    models = [build(IMAGE, **slots) for slots in (ARMS["A"], ARMS["B"], ARMS["D"])]
    x = clip(3)
    for vae in models:
        assert vae.groups == 1 and not any(isinstance(m, nn.Conv3d) for m in vae.modules())
        z = vae.encode(x).mean
        for t, frame in enumerate(x.unbind(2)):
            torch.testing.assert_close(vae.encode(frame).mean, z[:, :, t], rtol=0, atol=1e-12)
    counts = [sum(parameter.numel() for parameter in vae.parameters()) for vae in models]
    assert counts[0] == counts[1] and models[0].state_dict().keys() == models[2].state_dict().keys()
    half = build({**IMAGE, "channels": [4, 8, 8], "latent_channels": 4})
    assert counts[2] == sum(parameter.numel() for parameter in half.parameters()), "the image VAE of one half"


def test_what_does_not_fit_is_named():
    for change, message in (
        ({"latent_channels": 7}, "latent_channels: 7 is not a multiple of 2"),
        ({"channels": [8, 18, 16]}, "channels: 18 is not a multiple of 4"),
    ):
        with pytest.raises(ValueError, match=message):
            build(change, **ARMS["D"])
    with pytest.raises(ValueError, match="halve_time is 3, but the size halves 2 times"):
        build({"halve_time": 3})
    with pytest.raises(ValueError, match="3 groups do not divide into 2 halves"):
        build(**ARMS["D"], norm={"level": "group", "groups": 3})


def test_atrous_convolutions_see_as_far_as_their_rates():
    head = registry.build("context", "tmpe", {"rates": [1, 3]}, registry.build("padding", "zeros", {})).head(2, 4)
    x = torch.randn(1, 2, 1, 15, 15, requires_grad=True)
    head(x)[0, 0, 0, 7, 7].backward()
    seen = x.grad[0, 0, 0].abs() > 0
    lattice = {(7 + r * dy, 7 + r * dx) for r in (1, 3) for dy, dx in itertools.product((-1, 0, 1), repeat=2)}
    assert {tuple(place) for place in seen.nonzero().tolist()} == lattice
