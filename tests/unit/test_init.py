"""Fresh weights depend on the seed and the layer's name, not on what else there is."""

import pytest
import torch
from torch import nn

from ablate.identity import derive
from ablate.slots import registry

torch.set_num_threads(1)


def scratch(seed=0):
    return registry.build("init", "scratch", {}, lambda name: derive(seed, "init", name))


def small(*extra):
    net = nn.Sequential()
    for name in ("before", *extra, "after"):
        net.add_module(name, nn.Conv2d(4, 4, 3))
    return net


def test_layers_of_one_name_start_equal_in_every_architecture():
    plain, longer = small(), small("between")
    scratch()(plain)
    scratch()(longer)
    for name, weight in plain.state_dict().items():
        assert torch.equal(weight, longer.state_dict()[name])
    assert not torch.equal(plain.before.weight, plain.after.weight)


def test_what_was_there_before_does_not_matter_and_the_seed_does():
    first, second, other = small(), small(), small()
    with torch.no_grad():
        for parameter in second.parameters():
            parameter.fill_(9.0)
    scratch()(first)
    scratch()(second)
    scratch(seed=1)(other)
    assert torch.equal(first.before.weight, second.before.weight)
    assert not torch.equal(first.before.weight, other.before.weight)


def test_draws_what_torch_would_draw():
    """The same distribution as torch's own default: equal to seeding by hand and building the layer."""
    net = small()
    scratch()(net)
    torch.manual_seed(derive(0, "init", "after"))
    assert torch.equal(net.after.weight, nn.Conv2d(4, 4, 3).weight)


def test_global_random_state_is_left_alone():
    net = small()
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    scratch()(net)
    assert torch.equal(torch.rand(3), expected)


def test_refuses_what_it_could_not_draw():
    class Scale(nn.Module):
        def __init__(self):
            super().__init__()
            self.gain = nn.Parameter(torch.ones(1))

    with pytest.raises(ValueError, match=r"inner \(Scale\) has parameters but no reset_parameters"):
        scratch()(nn.ModuleDict({"inner": Scale()}))
    with pytest.raises(ValueError, match="inner is on meta"):
        scratch()(nn.ModuleDict({"inner": nn.Linear(2, 2, device="meta")}))
