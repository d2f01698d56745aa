"""Temporal convolutions against their definition, frame by frame, and what each frame sees."""

import pytest
import torch
from torch.nn import functional as F

from ablate.slots import registry
from ablate.slots.video import Past

FRAMES, GROUP = 9, 4


def build(level, padding="zeros", group=GROUP):
    torch.manual_seed(0)
    pad = registry.build("padding", padding, {})
    return registry.build("temporal_conv", level, {}, 3, 5, group, pad).double(), pad


def features(frames=FRAMES):
    return torch.randn(2, 3, frames, 4, 6, generator=torch.Generator().manual_seed(1)).double()


def by_definition(level, conv, pad, x, group=GROUP):
    """y_t as a sum of one 2D convolution for each tap, with the frames that the papers say."""

    def tap(k, frame):
        padded = pad(frame, (1, 1, 1, 1))
        return F.conv2d(padded, conv.weight[:, :, k])

    frames = x.unbind(2)
    nothing = torch.zeros_like(frames[0])
    out = []
    for t, frame in enumerate(frames):
        if level == "causal":
            seen = [frames[max(t - 2, 0)], frames[max(t - 1, 0)], frame]
        else:
            is_last = t % group == 0  # frame 0 is a group by itself, then frames 1 to g, ...
            seen = [frames[max(t - 1, 0)], frame, nothing if is_last else frames[t + 1]]
        out.append(sum(tap(k, f) for k, f in enumerate(seen)) + conv.bias[:, None, None])
    return torch.stack(out, 2)


@pytest.mark.parametrize("padding", ["zeros", "reflect"])
@pytest.mark.parametrize("level", ["causal", "grouped"])
@pytest.mark.parametrize(("frames", "group"), [(9, 4), (5, 2), (13, 4), (1, 4)])
@torch.no_grad()
def test_is_its_definition(level, padding, frames, group):
    conv, pad = build(level, padding, group)
    x = features(frames)
    torch.testing.assert_close(conv(x), by_definition(level, conv, pad, x, group), rtol=0, atol=1e-12)


@pytest.mark.parametrize("level", ["causal", "grouped"])
@pytest.mark.parametrize("sizes", [(1, 4, 4), (5, 4), (1, 8), (9,)])
@torch.no_grad()
def test_chunks_equal_the_whole(level, sizes):
    conv, _ = build(level)
    x, past, out = features(), Past(), []
    for chunk in x.split(sizes, 2):
        out.append(conv(chunk, past))
        past.begun = True
    torch.testing.assert_close(torch.cat(out, 2), conv(x), rtol=0, atol=1e-12)


def test_what_each_frame_sees():
    """Causal: itself and two before. Grouped: the one before, and the next one of its group."""
    x = features().requires_grad_()
    seen = {}
    for level in ("causal", "grouped"):
        conv, _ = build(level)
        y = conv(x)
        rows = [torch.autograd.grad(y[:, :, t].sum(), x, retain_graph=True)[0] for t in range(FRAMES)]
        seen[level] = [[s for s in range(FRAMES) if row[:, :, s].abs().sum() > 0] for row in rows]
    assert seen["causal"] == [[0], [0, 1], [0, 1, 2], [1, 2, 3], [2, 3, 4], [3, 4, 5], [4, 5, 6], [5, 6, 7], [6, 7, 8]]
    assert seen["grouped"] == [[0], [0, 1, 2], [1, 2, 3], [2, 3, 4], [3, 4], [4, 5, 6], [5, 6, 7], [6, 7, 8], [7, 8]]
