"""Probes of clips on fake video autoencoders with one known defect each; probes of images on those."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import linalg
from torch import Tensor

from ablate.components.probe import _warp, balance, frechet
from ablate.components.shared.measure import GREY_LEVELS, psnr, ssim
from ablate.data.prepare import prepare
from ablate.engine.probes import run_probes
from ablate.slots import registry
from ablate.slots.probe import ProbeResult, Subject
from tests.support.planted import (
    Defect,
    Fake,
    FakeVideo,
    blur,
    blurred,
    dots,
    each_frame,
    lines,
    panned,
    photographs,
    tint,
)
from tests.support.video import ARMS, build

torch.set_num_threads(1)


VIDEO_PROBES = ("clip", "balance", "flicker", "motion", "frechet")


def examine(name: str, defect: Defect, clips: Tensor, step: float | Tensor = 1.0, **settings: object) -> ProbeResult:
    """`step`: px down and across that the clips are panned by from frame to frame, one for all or of each."""
    vae, (n, _, t, h, w) = FakeVideo(defect).eval(), clips.shape
    flow = torch.ones(n, 2, t - 1, h, w) * torch.as_tensor(step).view(-1, 1, 1, 1, 1)
    rows, columns = torch.arange(h)[:, None] + flow[:, 1], torch.arange(w) + flow[:, 0]
    subject = Subject(
        vae, clips[:, :, t // 2], clips=clips, flow=flow, visible=(rows < h) & (columns < w), frames=vae.whole(t)
    )
    found: ProbeResult = registry.build("probe", name, settings)(subject)
    return found


def noisy(strength: Callable[[int], float]) -> Defect:
    """White noise of so many gl in each frame, by its number in the window."""
    generator = torch.Generator().manual_seed(0)

    def defect(y: Tensor) -> Tensor:
        sd = torch.tensor([strength(frame) for frame in range(y.shape[2])])[:, None, None]
        return y + torch.randn(y.shape, generator=generator) * sd / GREY_LEVELS

    return defect


def inner(clips: Tensor) -> Tensor:
    """Without blacks and whites, where noise would be cut off."""
    return clips * 0.8 + 0.1


def test_the_first_frame_is_told_from_the_others() -> None:
    found = examine("clip", noisy(lambda frame: 2.0 if frame == 0 else 8.0), inner(panned(9))).metrics
    first, rest = (-20 * math.log10(sd / GREY_LEVELS) for sd in (2, 8))
    assert found["clip/psnr_first"] == pytest.approx(first, abs=0.1)
    assert found["clip/psnr_rest"] == pytest.approx(rest, abs=0.1)
    assert found["clip/first_gain"] == pytest.approx(20 * math.log10(4), abs=0.15)
    pooled = -10 * math.log10((2**2 + 8 * 8**2) / 9 / GREY_LEVELS**2)
    assert found["clip/psnr_pooled"] == pytest.approx(pooled, abs=0.1)


def test_reconstruction_of_clips_is_that_of_their_frames() -> None:
    clips = inner(panned(12))
    found = examine("reconstruction", lambda y: y * 0.9, clips)
    frames = clips[:, :, :9].transpose(1, 2).flatten(0, 1)
    for name, measure in (("psnr", psnr), ("ssim", ssim)):
        assert found.metrics[name] == pytest.approx(measure(frames, frames * 0.9).mean().item(), rel=1e-5)
        assert len(found.per_image[name]) == len(clips)


def test_the_strip_shows_source_reconstruction_and_error() -> None:
    clips = inner(panned(9))
    strip = examine("clip", lambda y: y + 4 / GREY_LEVELS, clips).pictures["strip"]
    assert strip.shape == (2 * 3 * 64, 9 * 64, 3)
    source = (clips[1, :, 5].permute(1, 2, 0) * GREY_LEVELS).round().numpy()
    rows = strip[3 * 64 :: 2, ::2]  # of the second clip, each pixel a square of 2 px
    place = (slice(5 * 32, 6 * 32),)
    assert np.array_equal(rows[:32][:, place[0]], source)
    assert np.abs(rows[32:64][:, place[0]] - (source + 4)).max() <= 1
    assert np.abs(rows[64:][:, place[0]].astype(int) - 32).max() <= 1


@pytest.mark.parametrize("position", [1, 2, 3, 4])
def test_a_blur_at_one_position_is_found_with_its_place_and_size(position: int) -> None:
    clips = inner(panned(20))
    base = noisy(lambda frame: 2.0)

    def defect(y: Tensor) -> Tensor:
        y = y.clone()
        for frame in range(position, y.shape[2], 4):
            y[:, :, frame] = blurred(y[:, :, frame], 1.0)
        return base(y)

    metrics = examine("balance", defect, clips).metrics
    frames = clips[:, :, 8:17]  # those that count
    blur = torch.stack([(blurred(f, 1.0) - f).square().mean((1, 2, 3)) for f in frames.unbind(2)], 1).mean(1)
    noise = (2 / GREY_LEVELS) ** 2
    sharp, soft = noise / (noise + blur / 4), (noise + blur) / (noise + blur / 4)  # over the mean of a clip's positions
    expected = 10 * math.log10(soft.mean() / sharp.mean())
    assert metrics["balance/gap"] == pytest.approx(expected, rel=0.02) and expected > 3
    by_number = [metrics[f"balance/psnr_{p}"] for p in (1, 2, 3, 4)]
    assert min(range(4), key=lambda p: by_number[p]) == position - 1
    assert metrics["balance/p"] == pytest.approx(0.001, abs=1e-9)
    assert metrics["balance/eta2"] > 0.9
    assert metrics["balance/skew"] == pytest.approx({2: expected, 4: -expected}.get(position, 0), rel=0.05, abs=0.2)
    assert metrics["balance/beat"] > 5


def test_the_same_blur_at_random_positions_is_no_imbalance() -> None:
    """The control: as many frames blurred as above, but which of a group is drawn anew for each group and clip."""
    base, draw = noisy(lambda frame: 2.0), torch.Generator().manual_seed(1)

    def defect(y: Tensor) -> Tensor:
        y = y.clone()
        for clip in y:
            for start in range(1, y.shape[2], 4):
                frame = start + int(torch.randint(4, (), generator=draw))
                clip[:, frame] = blurred(clip[None, :, frame], 1.0)[0]
        return base(y)

    metrics = examine("balance", defect, torch.cat([inner(panned(20, step=step)) for step in (1, 2, 3)])).metrics
    assert metrics["balance/p"] > 0.05
    assert metrics["balance/eta2"] < 0.15
    assert metrics["balance/gap"] < 0.8
    assert metrics["balance/beat"] < 3


def test_chance_is_calibrated() -> None:
    """Where positions are exchangeable, p is uniform: a share q of tests has p <= q."""
    generator = torch.Generator().manual_seed(0)
    values = [
        balance.position_share(torch.randn(12, 4, generator=generator, dtype=torch.float64))[1] for _ in range(300)
    ]
    for q in (0.05, 0.25, 0.5):
        assert abs(np.mean(np.array(values) <= q) - q) < 4 * (q * (1 - q) / 300) ** 0.5


def test_content_that_changes_with_the_period_of_a_group_is_no_imbalance() -> None:
    """Every fourth frame of the sources is hard to keep, as in a pulldown: each position meets it as often."""
    clips = inner(panned(20))
    fine = torch.Generator().manual_seed(2)
    clips[:, :, ::4] += torch.randn(clips[:, :, ::4].shape, generator=fine) * 0.03

    metrics = examine("balance", each_frame(lambda y: blurred(y, 0.7)), clips).metrics
    assert metrics["balance/gap"] == pytest.approx(0, abs=1e-3)
    assert metrics["balance/eta2"] == pytest.approx(0, abs=1e-3) or metrics["balance/p"] > 0.05
    assert metrics["balance/skew"] == pytest.approx(0, abs=1e-3)


def test_brightness_that_beats_has_the_closed_form() -> None:
    offsets = {1: 3.0, 2: 0.0, 3: -3.0, 0: 0.0}

    def defect(y: Tensor) -> Tensor:
        return y + torch.tensor([offsets[frame % 4] for frame in range(y.shape[2])])[:, None, None] / GREY_LEVELS

    metrics = examine("balance", defect, inner(panned(20))).metrics
    assert metrics["balance/luma"] == pytest.approx(math.sqrt(18 / 4), abs=1e-3)
    rounding = 1 / 12
    inside, border = (9 + 9 + 9) / 3, 9
    assert metrics["balance/seam"] == pytest.approx((border + rounding) / (inside + rounding), abs=1e-3)


def test_a_jump_between_groups_is_a_seam() -> None:
    def defect(y: Tensor) -> Tensor:
        group = (torch.arange(y.shape[2]) + 3) // 4
        return noise(y) + (group % 2)[:, None, None] * 4 / GREY_LEVELS

    noise = noisy(lambda frame: 1.0)
    metrics = examine("balance", defect, inner(panned(20))).metrics
    assert metrics["balance/seam"] == pytest.approx((16 + 2) / 2, rel=0.05)


def test_a_brightness_that_alternates_flickers_by_its_jump_still_or_moving() -> None:
    def defect(y: Tensor) -> Tensor:
        return (
            y
            + torch.tensor([20.0 if f == 0 else 3.0 * (-1) ** f for f in range(y.shape[2])])[:, None, None]
            / GREY_LEVELS
        )

    metrics = examine("flicker", defect, inner(panned(9))).metrics
    assert metrics["flicker/static"] == pytest.approx(6, abs=1e-3)
    assert metrics["flicker/static_first"] == pytest.approx(23, abs=1e-3)
    assert metrics["flicker/warp"] == pytest.approx(6, abs=1e-3)
    assert metrics["flicker/warp_plain"] == pytest.approx(6, abs=1e-2)


def test_what_is_lost_in_every_frame_alike_does_not_flicker() -> None:
    metrics = examine("flicker", lambda y: y * 0.8, inner(panned(9))).metrics
    assert metrics["flicker/static"] == pytest.approx(0, abs=1e-4)
    assert metrics["flicker/warp"] == pytest.approx(0, abs=1e-2)
    pinned = torch.randn(3, 1, 64, 64, generator=torch.Generator().manual_seed(3)) * 2 / GREY_LEVELS
    found = examine("flicker", lambda y: y + pinned, inner(panned(9, side=64))).metrics
    assert found["flicker/static"] == pytest.approx(0, abs=1e-4), (
        "a pattern that stays in place is seen in motion alone"
    )
    assert found["flicker/warp"] == pytest.approx(math.sqrt(2) * 2, rel=0.03)


def test_occlusions_do_not_count() -> None:
    error = torch.zeros(1, 3, 4, 8, 8)
    error[:, :, -1, -1] = 1  # in the row that has just come into view
    flow, visible = torch.ones(1, 2, 3, 8, 8), torch.ones(1, 3, 8, 8, dtype=torch.bool)
    assert _warp.change_along(error, flow, visible).item() == pytest.approx(8 / (2 * 64))
    visible[:, :, -1] = False
    assert _warp.change_along(error, flow, visible).item() == 0


def test_warping_is_that_of_a_shift() -> None:
    frame = torch.rand(2, 3, 9, 12, generator=torch.Generator().manual_seed(0))
    flow = torch.stack([torch.full((2, 9, 12), 2.0), torch.full((2, 9, 12), -1.0)], 1)
    assert torch.allclose(_warp.warp(frame, flow)[..., 1:, :-2], frame[..., :-1, 2:], atol=1e-5)
    half = _warp.warp(frame, flow / 4)  # half a pixel across, a quarter up
    across = frame.unfold(-1, 2, 1).mean(-1)
    expected = 0.75 * across[..., 1:, :] + 0.25 * across[..., :-1, :]
    assert torch.allclose(half[..., 1:, :-1], expected, atol=1e-5)


def test_what_speed_costs_is_measured_exactly() -> None:
    speeds = torch.tensor([0.0, 3.0, 1.0, 2.0, 4.0, 5.0, 7.0, 6.0])
    decibels = 40 - 2 * speeds
    offset = 10 ** (-decibels / 20)
    calls = iter(offset)  # clips of 9 frames go through one by one

    def defect(y: Tensor) -> Tensor:
        return y + next(calls)

    metrics = examine("motion", defect, inner(panned(9))[:8] * 0.2, step=speeds / math.sqrt(2)).metrics
    assert metrics["motion/slope"] == pytest.approx(-2, abs=1e-4)
    assert metrics["motion/psnr_slow"] == pytest.approx(39, abs=1e-3)
    assert metrics["motion/psnr_fast"] == pytest.approx(27, abs=1e-3)
    assert metrics["motion/speed"] == pytest.approx(3.5, abs=1e-4)


def test_the_distance_of_gaussians_has_the_closed_form_and_agrees_with_scipy() -> None:
    generator = torch.Generator().manual_seed(0)
    white = torch.linalg.qr(torch.randn(500, 6, generator=generator, dtype=torch.float64) - 0.1)[0]
    white = (white - white.mean(0)) @ torch.linalg.inv(torch.linalg.cholesky(white.T.cov())).T
    moved = white * 3 + torch.arange(6)
    assert frechet.frechet_distance(white, moved) == pytest.approx(55 + 6 * (3 - 1) ** 2, rel=1e-9)
    mixing = torch.rand(2, 6, 6, generator=generator, dtype=torch.float64)
    a, b = torch.randn(2, 400, 6, generator=generator, dtype=torch.float64) @ mixing
    first, second = a.T.cov().numpy(), b.T.cov().numpy()
    shift, root = float((a.mean(0) - b.mean(0)).square().sum()), linalg.sqrtm(first @ second).real
    expected = shift + np.trace(first + second - 2 * root)
    assert frechet.frechet_distance(a, b) == pytest.approx(expected, rel=1e-6)


def test_stronger_defects_are_farther_and_no_defect_is_near() -> None:
    clips = inner(panned(9))
    distances = [examine("frechet", each_frame(blur(s)), clips).metrics["frechet/random3d"] for s in (0.01, 0.5, 1.0)]
    assert distances[0] < 1e-3 * distances[1] and distances[1] < distances[2]
    still = examine("frechet", lambda y: y[:, :, :1].expand(-1, -1, y.shape[2], -1, -1), clips).metrics
    assert still["frechet/random3d"] > distances[1], "every frame is sharp, and nothing moves"


class TinyI3D(torch.nn.Module):
    """The signature of the TorchScript file, over means of octants."""

    def forward(self, x: Tensor, rescale: bool, resize: bool, return_features: bool) -> Tensor:
        assert not rescale and not resize and return_features and x.shape[3] == 224
        return torch.nn.functional.adaptive_avg_pool3d(x, [2, 2, 2]).flatten(1)


def test_fvd_is_of_the_given_network(tmp_path: Path) -> None:
    file = tmp_path / "i3d.pt"
    torch.jit.script(TinyI3D()).save(str(file))
    clips = inner(panned(13))
    found = examine("frechet", lambda y: y + 0.05, clips, i3d=str(file)).metrics
    assert found["fvd"] == pytest.approx(24 * 0.1**2, rel=1e-3)
    assert "fvd" not in examine("frechet", lambda y: y, clips[:, :, :9], i3d=str(file)).metrics
    assert "fvd" not in examine("frechet", lambda y: y, clips).metrics
    config = registry.level("probe", "frechet").Config
    config.read({"i3d": str(file)}).preflight()
    with pytest.raises(ValueError, match=r"probe/frechet: there is no file .*none\.pt"):
        config.read({"i3d": str(tmp_path / "none.pt")}).preflight()


@pytest.mark.parametrize("name", VIDEO_PROBES)
def test_every_metric_is_declared_and_reported(name: str) -> None:
    level = registry.level("probe", name)
    found = examine(name, noisy(lambda frame: 1.0 + frame % 4), inner(panned(20)), step=torch.arange(16.0))
    assert set(found.metrics) == {metric.name for metric in level.metrics} - {"fvd"}
    assert all(type(value) is float and math.isfinite(value) for value in found.metrics.values())


@pytest.mark.parametrize("name", VIDEO_PROBES)
def test_clips_that_are_too_short_and_pictures_give_no_number(name: str) -> None:
    shortest = registry.level("probe", name).Config().shortest()
    assert examine(name, lambda y: y, panned(shortest)).metrics
    assert not examine(name, lambda y: y, panned(shortest - 1)).metrics
    build = registry.build("probe", name, {})
    assert build(Subject(Fake(lambda y: y), photographs(32))).metrics == {}


@pytest.mark.parametrize("name", VIDEO_PROBES)
def test_a_model_gone_to_nan_is_reported_as_such(name: str) -> None:
    found = examine(name, lambda y: y + math.nan, panned(20)).metrics
    of_sources = {"motion/speed", "flicker/matched_share"}
    of_model = {metric: value for metric, value in found.items() if metric not in of_sources}
    assert of_model and not any(math.isfinite(value) for value in of_model.values())


DEFECTS = {"color": tint(1), "grid": dots(4), "border": lines(2), "flatfield": dots(1), "blur": blur(1)}


@pytest.mark.parametrize(("name", "defect"), DEFECTS.items())
def test_probes_of_images_see_the_middle_frame_of_still_clips(name: str, defect: Defect) -> None:
    """The same as of an image model with that defect, where only the middle frame of a clip has it."""

    def only_in_the_middle(y: Tensor) -> Tensor:
        y = y.clone()
        y[:, :, y.shape[2] // 2] = defect(y[:, :, y.shape[2] // 2])
        return y

    clips = inner(panned(9, side=64))
    video = examine(name, only_in_the_middle, clips).metrics
    image = registry.build("probe", name, {})(Subject(Fake(defect), clips[:, :, 4])).metrics
    assert video == pytest.approx(image, rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("name", registry.levels("probe"))
def test_every_probe_works_on_a_real_video_model(name: str, tmp_path: Path) -> None:
    """Untrained, with all of IV-VAE's parts."""
    side = max(16, registry.level("probe", name).Config().smallest(4))
    data = {"size": side, "heldout_size": side, "crop": side, "resize_to": side, "heldout_count": 3, "count": 2}
    corpus = prepare("moving_leaves", {**data, "texture": "smooth", "heldout_frames": 16}, tmp_path)
    vae, training = build(dtype=torch.float32, **ARMS["E"]), corpus.batch(8, np.random.default_rng(0))
    found = run_probes(vae, corpus.heldout, [{"level": name}], torch.device("cpu"), training, corpus.motion)
    if name != "diffusability":  # which needs pictures to draw from
        metric = registry.level("probe", name).metrics[0].name
        assert math.isfinite(found.metrics[metric])


def test_clips_are_given_to_probes_whole_and_refused_by_models_of_images() -> None:
    pixels = (panned(20) * 255).byte().numpy()
    probes = [{"level": "clip"}, {"level": "balance"}, {"level": "color"}]
    found = run_probes(FakeVideo(each_frame(tint(1))), pixels, probes, torch.device("cpu"))
    assert found.metrics["color/bias_norm"] == pytest.approx(math.sqrt(43), abs=1e-3)
    assert {"clip/psnr_rest", "balance/gap"} <= set(found.metrics)
    with pytest.raises(ValueError, match="clips of 20 frames need a video model, but this is an image model"):
        run_probes(Fake(tint(1)), pixels, probes, torch.device("cpu"))
