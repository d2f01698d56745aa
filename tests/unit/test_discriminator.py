"""PatchGAN: sizes, initial weights, the closed forms of its losses, LeCam's averages by hand."""

import copy
import math

import pytest
import torch
from torch import nn

from ablate.slots import registry

torch.set_num_threads(1)


@pytest.mark.parametrize(
    ("layers", "size", "logits"), [(3, 64, 6), (3, 256, 30), (3, 24, 1), (2, 64, 14), (1, 32, 14), (4, 64, 2)]
)
def test_sizes(layers, size, logits):
    critic = registry.build("discriminator", "patchgan", {"width": 2, "layers": layers})
    assert critic(torch.zeros(2, 3, size, size)).shape == (2, 1, logits, logits)


def test_receptive_field_of_the_default_is_70_pixels():
    """Isola et al. call it the 70 x 70 PatchGAN: one logit's gradient reaches 70 x 70 pixels."""
    torch.manual_seed(0)
    critic = registry.build("discriminator", "patchgan", {"width": 4}).eval().double()
    x = torch.randn(1, 3, 256, 256, dtype=torch.float64, requires_grad=True)
    critic(x)[0, 0, 15, 15].backward()
    rows, columns = x.grad.abs().sum((0, 1)).nonzero(as_tuple=True)
    assert (rows.max() - rows.min() + 1, columns.max() - columns.min() + 1) == (70, 70)


def test_widths_double_up_to_eightfold():
    critic = registry.build("discriminator", "patchgan", {"layers": 5})
    convs = [module for module in critic.modules() if isinstance(module, nn.Conv2d)]
    assert [conv.out_channels for conv in convs] == [64, 128, 256, 512, 512, 512, 1]
    assert [conv.stride[0] for conv in convs] == [2, 2, 2, 2, 2, 1, 1]
    assert [conv.bias is not None for conv in convs] == [True, False, False, False, False, False, True]


def test_says_when_pictures_are_too_small():
    critic = registry.build("discriminator", "patchgan", {"width": 2})
    with pytest.raises(ValueError, match="24 pixels or more, got 64 x 23"):
        critic(torch.zeros(1, 3, 64, 23))


def test_initial_weights_from_the_constructor_and_from_the_init_level():
    torch.manual_seed(0)
    built = registry.build("discriminator", "patchgan", {})
    drawn = registry.build("discriminator", "patchgan", {})
    registry.build("init", "scratch", {}, lambda name: len(name) + 7)(drawn)
    for critic in (built, drawn):
        for module in critic.modules():
            if isinstance(module, nn.Conv2d | nn.BatchNorm2d):
                weights = module.weight.detach().flatten()
                target = 1.0 if isinstance(module, nn.BatchNorm2d) else 0.0
                n = weights.numel()
                assert abs(weights.mean() - target) < 5 * 0.02 / n**0.5
                assert abs(weights.std() - 0.02) < 5 * 0.02 / (2 * n) ** 0.5
    assert not torch.equal(built.layers[0].weight, drawn.layers[0].weight)


def critic_with(**settings):
    return registry.build("discriminator", "patchgan", {"width": 2, **settings})


def logits(seed, n=4):
    return torch.randn(n, 1, 6, 6, generator=torch.Generator().manual_seed(seed)) * 2


def test_hinge_closed_forms():
    critic = critic_with()
    real, fake = torch.tensor([2.0, 0.5]), torch.tensor([-3.0, 1.0])
    for constant in (-0.9, 0.0, 0.7):
        same = torch.full((4, 1, 6, 6), constant)
        assert critic.loss(same, same).item() == pytest.approx(1.0)
    assert critic.loss(torch.ones(3), -torch.ones(3)).item() == 0.0
    assert critic.loss(real, fake).item() == pytest.approx(0.5 * (0.25 + 1.0))


@pytest.mark.parametrize("name", ["vanilla", "non_saturating"])
def test_cross_entropy_is_torch_s_and_log_2_for_a_critic_that_says_nothing(name):
    critic, entropy = critic_with(loss=name), nn.BCEWithLogitsLoss()
    real, fake = logits(0).double(), logits(1).double()
    truth = 0.5 * (entropy(real, torch.ones_like(real)) + entropy(fake, torch.zeros_like(fake)))
    assert critic.loss(real, fake).item() == pytest.approx(truth.item(), rel=1e-6)
    assert critic.loss(torch.zeros(3), torch.zeros(3)).item() == pytest.approx(math.log(2))


def test_what_the_autoencoder_minimises():
    fake, entropy = logits(0).double(), nn.BCEWithLogitsLoss()
    for name in ("hinge", "vanilla"):
        assert critic_with(loss=name).generator_loss(fake).item() == pytest.approx(-fake.mean().item(), rel=1e-6)
    truth = entropy(fake, torch.ones_like(fake)).item()
    assert critic_with(loss="non_saturating").generator_loss(fake).item() == pytest.approx(truth, rel=1e-6)


@pytest.mark.parametrize("name", ["hinge", "vanilla", "non_saturating"])
def test_each_side_pulls_the_fakes_its_own_way(name):
    """At logits of 0 the critic lowers the fakes and raises the real ones, and the autoencoder raises the fakes."""
    critic = critic_with(loss=name)
    real, fake = torch.zeros(3, requires_grad=True), torch.zeros(3, requires_grad=True)
    real_pull, fake_pull = torch.autograd.grad(critic.loss(real, fake), [real, fake])
    (generator_pull,) = torch.autograd.grad(critic.generator_loss(fake), fake)
    assert (real_pull < 0).all() and (fake_pull > 0).all() and (generator_pull < 0).all()


def lecam_by_hand(batches, weight, loss):
    """The loss of every step in float64, with averages that Adam's correction frees of their start at 0."""
    values, real_sum, fake_sum = [], 0.0, 0.0
    for step, (real, fake) in enumerate(batches, 1):
        real, fake = real.double(), fake.double()
        real_sum, fake_sum = 0.99 * real_sum + 0.01 * real.mean(), 0.99 * fake_sum + 0.01 * fake.mean()
        real_anchor, fake_anchor = real_sum / (1 - 0.99**step), fake_sum / (1 - 0.99**step)
        penalty = (real - fake_anchor).clamp(min=0) ** 2
        penalty = penalty.mean() + ((real_anchor - fake).clamp(min=0) ** 2).mean()
        values.append((loss(real, fake) + weight * penalty).item())
    return values


@pytest.mark.parametrize("name", ["hinge", "non_saturating"])
def test_lecam_by_hand(name):
    batches = [(logits(2 * step) + 1, logits(2 * step + 1) - 0.1 * step) for step in range(6)]
    critic, bare = critic_with(loss=name, lecam=0.05), critic_with(loss=name)
    found = [critic.loss(real, fake).item() for real, fake in batches]
    assert found == pytest.approx(lecam_by_hand(batches, 0.05, bare.loss), rel=1e-5)
    assert found[0] > bare.loss(*batches[0]).item() + 0.05


def test_lecam_continues_from_the_state_dict_as_if_never_interrupted():
    batches = [(logits(2 * step) + 1, logits(2 * step + 1)) for step in range(6)]
    whole = critic_with(lecam=0.05)
    first = copy.deepcopy(whole)
    expected = [whole.loss(*batch).item() for batch in batches]
    for batch in batches[:3]:
        first.loss(*batch)
    second = critic_with(lecam=0.05)
    second.load_state_dict(first.state_dict())
    assert [second.loss(*batch).item() for batch in batches[3:]] == expected[3:]
    assert [critic_with(lecam=0.05).loss(*batch).item() for batch in batches[3:]] != expected[3:]


def test_lecam_looks_but_does_not_learn_in_evaluation():
    critic = critic_with(lecam=0.05)
    critic.loss(logits(0) + 1, logits(1))
    before = critic.state_dict()["lecam.averages"].clone()
    critic.eval()
    assert critic.loss(logits(2), logits(3)).item() == critic.loss(logits(2), logits(3)).item()
    assert torch.equal(critic.state_dict()["lecam.averages"], before)
    assert critic_with(lecam=0.05).eval().loss(logits(0), logits(1)).isfinite(), "before the first step too"


def test_lecam_pulls_a_sure_critic_back_and_leaves_a_wrong_one_alone():
    critic = critic_with(lecam=1.0)
    for sure, pulls in ((3.0, True), (-3.0, False)):
        real = torch.full((4,), sure, requires_grad=True)
        fake = torch.full((4,), -sure, requires_grad=True)
        critic.lecam.averages.zero_()
        on_real, on_fake = torch.autograd.grad(critic.lecam(real, fake), [real, fake])
        assert ((on_real > 0).all() and (on_fake < 0).all()) == pulls
        assert (on_real.any() or on_fake.any()) == pulls


def test_without_lecam_nothing_is_added():
    """No tensor in the checkpoint, so that those from before the setting still load, and the same loss to the bit."""
    critic, off = critic_with(), critic_with(lecam=0, start=0, loss="hinge")
    assert set(off.state_dict()) == set(critic.state_dict()) == set(critic.layers.state_dict(prefix="layers."))
    real, fake = logits(0), logits(1)
    plain = 0.5 * ((1 - real).clamp(min=0).mean() + (1 + fake).clamp(min=0).mean())
    assert torch.equal(off.loss(real, fake), plain)
    assert torch.equal(off.generator_loss(fake), -fake.mean())


def test_losses_never_wait_for_the_device():
    """A meta tensor has no numbers: whatever reads one on the host raises."""
    for name in ("hinge", "vanilla", "non_saturating"):
        critic, meta = critic_with(loss=name, lecam=0.05).to("meta"), torch.empty(4, 1, 6, 6, device="meta")
        assert critic.loss(meta, meta).shape == critic.generator_loss(meta).shape == ()


def test_added_settings_change_no_signature():
    config = registry.level("discriminator", "patchgan").Config
    assert config.read({}).identity() == {"width": 64, "layers": 3}
    changed = {"loss": "vanilla", "lecam": 0.05, "start": 100}
    assert config.read(changed).identity() == {"width": 64, "layers": 3, **changed}


@pytest.mark.parametrize("wrong", [{"lecam": -0.1}, {"start": -1}, {"loss": "wasserstein"}, {"start": 0.5}])
def test_wrong_settings_are_named(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        registry.level("discriminator", "patchgan").Config.read(wrong)


def test_learns_to_tell_black_from_white():
    torch.manual_seed(0)
    critic = registry.build("discriminator", "patchgan", {"width": 4, "layers": 1})
    optimizer = torch.optim.Adam(critic.parameters(), 1e-2, betas=(0.5, 0.9))
    real, fake = torch.rand(4, 3, 16, 16), -torch.rand(4, 3, 16, 16)
    first = None
    for _ in range(30):
        optimizer.zero_grad()
        loss = critic.loss(critic(real), critic(fake))
        first = first or loss.item()
        loss.backward()
        optimizer.step()
    assert first > 0.9
    assert loss.item() < 0.1


def test_none_is_nothing():
    assert registry.build("discriminator", "none", {}) is None
    assert registry.build("regularizer", "none", {}) is None


def of_clips(**settings):
    torch.manual_seed(0)
    return registry.build("discriminator", "patchgan", {"width": 4, "clips": True, **settings})


def test_clips_are_judged_in_space_and_time():
    for layers, frames, shape in ((1, 9, (9, 6, 6)), (2, 9, (5, 2, 2)), (3, 17, (5, 2, 2)), (2, 5, (3, 2, 2))):
        side = {1: 16, 2: 16, 3: 32}[layers]
        assert of_clips(layers=layers)(torch.zeros(2, 3, frames, side, side)).shape == (2, 1, *shape)
    assert of_clips().layers[0].weight.std().item() == pytest.approx(0.02, rel=0.1)
    config = registry.level("discriminator", "patchgan").Config
    assert (config.read({"clips": True}).shortest, config.read({}).shortest) == (2, 1)
    assert "clips" not in config.read({}).identity()


def test_a_logit_sees_the_frames_around_its_own():
    critic = of_clips(layers=2).eval()
    x = torch.randn(1, 3, 17, 16, 16, requires_grad=True)
    critic(x)[0, 0, 4].sum().backward()  # of 9 logits in time, the one of frame 8
    seen = [t for t in range(17) if x.grad[:, :, t].abs().sum() > 0]
    assert seen == list(range(8 - 6, 8 + 7)), "1 each way, 1 at the reduction, then 2 and 2 at half of the rate"


def test_clips_that_move_are_told_from_clips_that_stand_still():
    """Frame by frame they look the same, so that only a critic of several frames can tell."""
    frames = torch.randn(8, 3, 5, 12, 12, generator=torch.Generator().manual_seed(0))
    moving, still = frames, frames[:, :, :1].expand_as(frames)
    critic = of_clips(layers=1, width=8)
    optimizer = torch.optim.Adam(critic.parameters(), 2e-3)
    for _ in range(40):
        loss = critic.loss(critic(moving), critic(still))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.3 and critic(moving).mean() > critic(still).mean() + 1
