"""A video model that starts from an image VAE draws what that draws, exactly, of the frames that are said."""

import pytest
import torch

from ablate.slots import registry
from tests.support.video import ARMS, IMAGE, build, clip

FRAMES = 9


GROUPS = ([1, 2, 3, 4], [5, 6, 7, 8])


KEYS = {"F1": 0, "F2": 1, "F3": 2, "F4": 3}


def image_vae(arm, latents=None, **slots):
    """Of half the width and latent channels for two halves."""
    vae = build({**IMAGE, "latent_channels": latents or 8}, seed=1, branch=ARMS[arm].get("branch", "single"), **slots)
    for name, parameter in vae.named_parameters():  # norms of 1 would hide that they were forgotten
        if "norm" in name:
            parameter.data.uniform_(0.5, 1.5)
    return vae


def inflated(arm, image, model=None, slots=None, **settings):
    vae = build(model, seed=2, **(ARMS[arm] | (slots or {})))
    registry.build("init", "inflate", settings, lambda name: 7).inherit(vae, image)
    return vae


def reconstructions(image, x):
    return torch.stack([image.decode(image.encode(frame).mean) for frame in x.unbind(2)], 2)


@pytest.mark.parametrize("key_frame", KEYS)
@pytest.mark.parametrize("arm", ARMS)
@torch.no_grad()
def test_step_0_draws_the_image_vae_s_reconstructions(arm, key_frame):
    """Check 4, for every arm and every frame that the 3D half may keep."""
    x, image = clip(FRAMES), image_vae(arm)
    vae = inflated(arm, image, key_frame=key_frame)
    truth, drawn = reconstructions(image, x), vae.decode(vae.encode(x).mean)
    torch.testing.assert_close(drawn[:, :, 0], truth[:, :, 0], rtol=0, atol=1e-10)
    for frames in GROUPS:
        kept = frames[KEYS[key_frame]]
        for place, frame in enumerate(frames):
            source = frames[0] if vae.branch.halves == 2 and place == 0 else kept
            torch.testing.assert_close(drawn[:, :, frame], truth[:, :, source], rtol=0, atol=1e-10)


@pytest.mark.parametrize("arm", ["C", "D", "E"])
@torch.no_grad()
def test_each_half_holds_the_latents_of_its_frame(arm):
    x, image = clip(FRAMES), image_vae(arm)
    found = inflated(arm, image, key_frame="F4").encode(x)
    truth = [image.encode(frame) for frame in x.unbind(2)]
    for name in ("mean", "logvar"):
        for latent, (first, kept) in enumerate([(0, 0), (1, 4), (5, 8)]):
            expected = torch.cat([getattr(truth[first], name), getattr(truth[kept], name)], 1)
            torch.testing.assert_close(getattr(found, name)[:, :, latent], expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("arm", ["A", "B"])
def test_latents_that_the_image_vae_has_not_are_unseen_at_first_and_learn(arm):
    x, image = clip(FRAMES), image_vae(arm, latents=4)
    vae = inflated(arm, image, key_frame="F2")
    posterior = vae.encode(x)
    drawn, truth = vae.decode(posterior.mean), reconstructions(image, x)
    for frames in GROUPS:
        torch.testing.assert_close(drawn[:, :, frames], truth[:, :, [frames[1]] * 4], rtol=0, atol=1e-10)
    known = image.encode(x[:, :, 2])
    torch.testing.assert_close(posterior.mean[:, :4, 1], known.mean, rtol=0, atol=1e-10)
    torch.testing.assert_close(posterior.logvar[:, :4, 1], known.logvar, rtol=0, atol=1e-10)
    assert posterior.mean[:, 4:].abs().max() > 0, "the encoder's other latents are fresh"
    (drawn - x).square().mean().backward()
    assert vae.decoder.conv_in.weight.grad[:, 4:].abs().min() > 0, "and the decoder begins to look at them"


@torch.no_grad()
def test_kernels_of_causal_convolutions_by_hand():
    image = image_vae("A")
    kernel = image.encoder.levels[0].resnets[0].conv1.weight
    for how, expected in (
        ("own", [0, 0, 1]), ("tail", [0, 0, 1]), ("centre", [0, 1, 0]), ("average", [1 / 3] * 3)
    ):  # fmt: skip
        found = inflated("A", image, kernel=how).encoder.levels[0].resnets[0].conv1.weight
        for tap, share in enumerate(expected):
            torch.testing.assert_close(found[:, :, tap], share * kernel)
    assert inflated("B", image).encoder.conv_in.weight[:, :, 1].equal(image.encoder.conv_in.weight)
    average = inflated("B", image, key_frame="average").encoder.downs[0].time.weight
    assert average[:, :, :, 0, 0].eq(torch.eye(8)[:, :, None] * 0.5).all()


@torch.no_grad()
def test_a_joint_norm_breaks_what_two_halves_inherit():
    x, image = clip(FRAMES), image_vae("D")
    vae = inflated("D", image, slots={"norm": "rms_joint"})
    differs = (vae.decode(vae.encode(x).mean) - reconstructions(image, x)).abs().amax((0, 1, 3, 4))
    assert differs[0] < 1e-10, "in the first frame both halves are equal, and a joint norm is no other"
    assert differs[1] > 1e-3 and differs[5] > 1e-3


def test_without_a_stage_before_it_draws_as_scratch():
    models = [build(seed=1), build(seed=2)]
    for vae, level in zip(models, ("scratch", "inflate"), strict=True):
        registry.build("init", level, {}, lambda name: sum(name.encode()))(vae)
    expected, found = (vae.state_dict() for vae in models)
    assert all(torch.equal(found[name], value) for name, value in expected.items())
