"""Motion by block matching against known motion, and what the probes of clips report where motion is not known."""

import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from ablate.components.probe._matching import BLOCK, REACH, match
from ablate.slots import registry
from ablate.slots.probe import ProbeResult, Subject
from tests.support.planted import Defect, FakeVideo, blurred, each_frame, panned

FRAMES = 9


COUNT = 8


Clips = tuple[Tensor, Tensor, Tensor]
"""Clips, flow, visible."""


def drawn(texture: str) -> Clips:
    settings = {"size": 32, "heldout_size": 32, "crop": 32, "resize": "none", "heldout_frames": FRAMES, "count": 1}
    settings |= {"heldout_count": COUNT, "texture": texture}
    pictures = list(registry.build("data", "moving_leaves", settings, "heldout"))
    motion = [picture.motion() for picture in pictures]
    clips = torch.from_numpy(np.stack([picture.load() for picture in pictures])).permute(0, 4, 1, 2, 3).float() / 255
    flow, visible = (torch.from_numpy(np.stack([getattr(one, name) for one in motion])) for name in ("flow", "visible"))
    return clips * 0.8 + 0.1, flow, visible


@pytest.fixture(scope="module")
def leaves() -> Clips:
    return drawn("leaves")


@pytest.fixture(scope="module")
def smooth() -> Clips:
    return drawn("smooth")


def examine(name: str, defect: Defect, clips: Clips | Tensor) -> ProbeResult:
    """With the motion of the clips, or of clips alone without."""
    x, flow, visible = clips if isinstance(clips, tuple) else (clips, None, None)
    vae = FakeVideo(defect).eval()
    subject = Subject(vae, x[:, :, x.shape[2] // 2], clips=x, flow=flow, visible=visible, frames=vae.whole(x.shape[2]))
    found: ProbeResult = registry.build("probe", name, {})(subject)
    return found


def alternating(step: float) -> Defect:
    """Brightness that jumps by `step` gl from frame to frame."""
    return lambda y: y + torch.tensor([step / 2 * (-1) ** f for f in range(y.shape[2])])[:, None, None] / 255


@pytest.mark.parametrize("step", [0, 1, 3, REACH])
def test_a_pan_by_whole_pixels_is_found_exactly(step: int) -> None:
    found = match(panned(3, side=40, step=step))
    seen = slice(0, 40 - step - BLOCK // 2)  # where the whole block was in view before
    within = (..., seen, seen)
    assert (found.flow[within] - step).abs().quantile(0.95) < 0.05
    assert found.found[within].float().mean() > 0.98
    assert found.flow.abs().max() <= REACH + 0.5


def test_a_pan_beyond_the_reach_is_not_found() -> None:
    assert match(panned(3, side=40, step=REACH + 3)).found.float().mean() < 0.2


def test_fractions_of_a_pixel_are_found(leaves: Clips) -> None:
    clips, flow, visible = leaves
    found = match(clips)
    both = found.found & visible
    wrong = (found.flow - flow).norm(dim=1)
    assert wrong[both].median() < 0.15
    assert found.found[visible].float().mean() > 0.5
    assert found.found[~visible].float().mean() < 0.65 * found.found[visible].float().mean(), "edges, but little hidden"


def test_still_and_flat_clips_do_not_move() -> None:
    flat = torch.full((1, 3, 3, 24, 24), 0.4)
    still = panned(1, side=24)[:2].expand(-1, -1, 3, -1, -1)
    for clips in (flat, still):
        found = match(clips)
        assert found.flow.abs().max() < 0.02 and found.found.all()


def test_speeds_order_drawn_clips_as_the_known_ones_do(leaves: Clips, smooth: Clips) -> None:
    for clips in (leaves, smooth):
        known = examine("motion", lambda y: y * 0.9, clips).per_image["motion/speed"]
        matched = examine("motion", lambda y: y * 0.9, clips[0]).per_image["motion/speed"]
        assert stats.spearmanr(known, matched).statistic > 0.85


def cases() -> Iterator[tuple[str, Defect]]:
    yield "blur", each_frame(lambda y: blurred(y, 0.7))
    yield "strong blur", each_frame(lambda y: blurred(y, 1.5))
    yield "contrast", lambda y: y * 0.9
    yield "brightness", alternating(4)


@pytest.mark.parametrize(("name", "defect"), cases())
def test_flicker_along_matched_motion_is_that_along_known_motion(name: str, defect: Defect, leaves: Clips) -> None:
    metrics = examine("flicker", defect, leaves).metrics
    assert metrics["flicker/matched"] == pytest.approx(metrics["flicker/warp"], abs=0.4)
    without = examine("flicker", defect, leaves[0]).metrics
    assert without["flicker/matched"] == metrics["flicker/matched"], "known motion plays no part"


def test_where_matching_has_little_to_go_by_the_excess_is_bounded(smooth: Clips) -> None:
    for _, defect in cases():
        metrics = examine("flicker", defect, smooth).metrics
        assert -0.1 < metrics["flicker/matched"] - metrics["flicker/warp"] < 0.6


def test_planted_flicker_is_found_on_clips_of_unknown_motion_and_a_perfect_model_is_silent(leaves: Clips) -> None:
    for step in (2.0, 8.0):
        metrics = examine("flicker", alternating(step), leaves[0]).metrics
        assert metrics["flicker/matched"] == pytest.approx(step, abs=0.01)
    assert examine("flicker", lambda y: y, leaves[0]).metrics["flicker/matched"] == pytest.approx(0, abs=1e-4)


def test_what_needs_known_motion_is_absent_without_and_the_rest_is_reported(leaves: Clips) -> None:
    for probe in ("clip", "balance", "flicker", "motion"):
        with_motion, without = (set(examine(probe, alternating(2), clips).metrics) for clips in (leaves, leaves[0]))
        needing = {metric.name for metric in registry.level("probe", probe).metrics if metric.known_motion}
        assert with_motion - without == needing
        assert needing == ({"flicker/warp", "flicker/warp_plain"} if probe == "flicker" else set())


def test_clips_in_which_nothing_is_found_again_have_no_matched_flicker() -> None:
    noise = torch.rand(3, 3, FRAMES, 24, 24, generator=torch.Generator().manual_seed(0))
    metrics = examine("flicker", lambda y: y, noise).metrics
    assert "flicker/matched" not in metrics and metrics["flicker/matched_share"] == 0
    assert math.isfinite(examine("motion", lambda y: y * 0.9, noise).metrics["motion/speed"])
