"""The padding levels against numpy, and what they do to a convolution."""

import numpy as np
import pytest
import torch
from torch import nn

from ablate.components.shared.layers import Conv2d
from ablate.slots import registry

torch.set_num_threads(1)


NUMPY_MODE = {"zeros": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}


PADS = [(1, 1, 1, 1), (0, 1, 0, 1), (2, 0, 1, 3), (0, 0, 0, 0)]


def test_every_level_has_a_numpy_truth():
    assert registry.levels("padding") == sorted(NUMPY_MODE)


@pytest.mark.parametrize("level", NUMPY_MODE)
@pytest.mark.parametrize("pads", PADS)
def test_pads_as_numpy_does(level, pads):
    x = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    left, right, top, bottom = pads
    expected = np.pad(x.numpy(), ((0, 0), (0, 0), (top, bottom), (left, right)), mode=NUMPY_MODE[level])
    assert np.array_equal(registry.build("padding", level, {})(x, pads).numpy(), expected)


@pytest.mark.parametrize("level", NUMPY_MODE)
@pytest.mark.parametrize("pads", PADS)
def test_gradient(level, pads):
    x = torch.randn(1, 2, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    pad = registry.build("padding", level, {})
    assert torch.autograd.gradcheck(lambda x: pad(x, pads).square(), x)


@pytest.mark.parametrize("level", NUMPY_MODE)
@pytest.mark.parametrize("pads", PADS[:2])
def test_keeps_the_memory_format(level, pads):
    x = torch.randn(2, 4, 6, 6).to(memory_format=torch.channels_last)
    assert registry.build("padding", level, {})(x, pads).is_contiguous(memory_format=torch.channels_last)


def test_reflect_says_what_does_not_fit():
    pad = registry.build("padding", "reflect", {})
    with pytest.raises(ValueError, match=r"\(0, 1, 0, 1\).*does not fit 1 x 4"):
        pad(torch.zeros(1, 1, 1, 4), (0, 1, 0, 1))
    with pytest.raises(ValueError, match=r"\(3, 0, 0, 0\).*does not fit 4 x 3"):
        pad(torch.zeros(1, 1, 4, 3), (3, 0, 0, 0))
    assert pad(torch.zeros(1, 1, 2, 2), (1, 1, 1, 1)).shape == (1, 1, 4, 4)


@pytest.mark.parametrize("level", ["replicate", "circular"])
def test_pads_a_single_pixel(level):
    x = torch.full((1, 1, 1, 1), 3.0)
    assert torch.equal(registry.build("padding", level, {})(x, (1, 1, 1, 1)), torch.full((1, 1, 3, 3), 3.0))


@pytest.mark.parametrize(("kernel", "stride", "pads"), [(3, 1, None), (5, 1, None), (3, 2, (0, 1, 0, 1))])
def test_convolution_with_zeros_is_torch_s_own(kernel, stride, pads):
    torch.manual_seed(0)
    ours = Conv2d(2, 4, kernel, registry.build("padding", "zeros", {}), stride=stride, pads=pads)
    x = torch.randn(1, 2, 8, 8)
    inner = nn.ZeroPad2d(kernel // 2 if pads is None else pads)
    theirs = nn.Conv2d(2, 4, kernel, stride=stride)
    theirs.load_state_dict(ours.state_dict())
    assert torch.equal(ours(x), theirs(inner(x)))


@pytest.mark.parametrize(
    ("level", "flat"), [("reflect", True), ("replicate", True), ("circular", True), ("zeros", False)]
)
@pytest.mark.parametrize(("slot", "sampler"), [("upsample", "nearest_conv"), ("downsample", "strided_conv")])
def test_resamplers_leave_a_constant_constant_unless_padded_with_zeros(slot, sampler, level, flat):
    torch.manual_seed(0)
    module = registry.build(slot, sampler, {}, 4, registry.build("padding", level, {})).double()
    y = module(torch.ones(1, 4, 8, 8, dtype=torch.float64))
    assert y.shape[2:] == ((16, 16) if slot == "upsample" else (4, 4))
    assert (torch.std(y, dim=(2, 3)).max() < 1e-12) == flat
