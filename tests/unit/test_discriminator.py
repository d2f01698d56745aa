"""PatchGAN: sizes, initial weights and the hinge loss's closed forms."""

import pytest
import torch
from torch import nn

from ablate import registry

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


def test_hinge_closed_forms():
    critic = registry.build("discriminator", "patchgan", {"width": 2})
    real, fake = torch.tensor([2.0, 0.5]), torch.tensor([-3.0, 1.0])
    for constant in (-0.9, 0.0, 0.7):
        same = torch.full((4, 1, 6, 6), constant)
        assert critic.loss(same, same).item() == pytest.approx(1.0)
    assert critic.loss(torch.ones(3), -torch.ones(3)).item() == 0.0
    assert critic.loss(real, fake).item() == pytest.approx(0.5 * (0.25 + 1.0))


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
