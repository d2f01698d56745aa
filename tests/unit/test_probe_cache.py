"""What chunks lose: nothing where frames are remembered, and what overlap leaves out, by hand."""

import pytest
import torch

from ablate.slots import registry
from ablate.slots.probe import Subject
from tests.support.video import ARMS, build, clip


def examined(vae, frames=9):
    x = (clip(frames, batch=2, dtype=torch.float32) / 2 + 0.5).clamp(0, 1)
    probe = registry.build("probe", "cache", {})
    return x, probe(Subject(vae, x[:, :, 4], clips=x, frames=frames)).metrics


@pytest.mark.parametrize("arm", ARMS)
@torch.no_grad()
def test_remembered_frames_lose_nothing_and_overlap_does(arm):
    vae = build(dtype=torch.float32, **ARMS[arm])
    x, found = examined(vae)
    assert found["cache/error"] < 0.05 < found["cache/overlap"]
    whole = vae.decode(vae.encode(x * 2 - 1).mean)
    second = x[:, :, 4:] * 2 - 1  # the last frame of the first group stands in for the clip's first
    off = torch.cat(
        [torch.zeros_like(whole[:, :, 1:5]), (vae.decode(vae.encode(second).mean) - whole[:, :, 4:])[:, :, 1:]], 2
    )
    assert found["cache/overlap"] == pytest.approx(255 / 2 * off.square().mean().sqrt().item(), rel=1e-3)


def test_group_normalisation_refuses_to_remember_and_image_models_say_nothing():
    _, found = examined(build(dtype=torch.float32, norm={"level": "group", "groups": 4}))
    assert "cache/error" not in found and found["cache/overlap"] > 0
    assert examined(build(dtype=torch.float32), frames=5)[1] == {}, "a single group has nothing to remember"
