"""Moving leaves: flow and occlusion against the pixels, static segments, determinism; and clips drawn from a corpus."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from scipy import ndimage, stats

from ablate.components.data.moving_leaves import Config, scene
from ablate.data.prepare import prepare
from ablate.slots import registry
from ablate.slots.data import Motion

SMALL = {"size": 32, "heldout_size": 32, "crop": 16, "resize": "none", "heldout_count": 4, "heldout_frames": 12}


def settings(**changes: Any) -> dict[str, Any]:
    return {**SMALL, "count": 6, "length": 12, "speed": 2.5, **changes}


def clips(split: str, **changes: Any) -> Iterator[tuple[np.ndarray, Motion | None]]:
    for picture in registry.build("data", "moving_leaves", settings(**changes), split):
        yield picture.load(), picture.motion and picture.motion()


def warped(frame: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """A frame `h w 3` seen along a flow `2 h w`, by scipy's splines."""
    rows, columns = np.mgrid[: frame.shape[0], : frame.shape[1]]
    places = [rows + flow[1], columns + flow[0]]
    return np.stack([ndimage.map_coordinates(frame[..., c].astype(float), places, order=3) for c in range(3)], -1)


@pytest.mark.parametrize(("texture", "expected"), [("smooth", 1.0), ("leaves", 2.5)])
def test_a_frame_warped_by_the_flow_is_the_next_one_where_visible(texture: str, expected: float) -> None:
    """To the rounding of two frames, whose rms is 0.4 gl, and what splines make of edges and fine texture."""
    seen, still, hidden = [], [], []
    for clip, motion in clips("heldout", texture=texture, still=0):
        assert motion is not None
        for frame in range(1, len(clip)):
            flow, visible = motion.flow[:, frame - 1], motion.visible[frame - 1]
            error = warped(clip[frame - 1], flow) - clip[frame]
            seen.append(error[visible])
            hidden.append(error[~visible])
            still.append((clip[frame - 1].astype(float) - clip[frame])[visible])
    rms = [float(np.sqrt(np.mean(np.concatenate(errors) ** 2))) for errors in (seen, still, hidden)]
    assert rms[0] < expected
    assert rms[1] > 4 * rms[0], "there is motion"
    assert rms[2] > 4 * rms[0], "what is left out cannot be had from the frame before"
    assert 0.3 < np.mean([len(s) / (len(s) + len(h)) for s, h in zip(seen, hidden, strict=True)]) < 0.95


def test_static_segments_are_identical_and_as_frequent_as_asked() -> None:
    clip_stops = []
    for clip, motion in clips("heldout", still=0.5, heldout_count=40):
        assert motion is not None
        stops = ~motion.flow.any((0, 2, 3))
        assert (clip[1:] == clip[:-1]).all((1, 2, 3))[stops].all()
        assert stops.sum() <= len(clip) // 2
        clip_stops.append(stops.any())
    assert abs(np.mean(clip_stops) - 0.5) < 5 * 0.5 / 40**0.5
    assert not any(np.array_equal(clip[1], clip[0]) for clip, _ in clips("train", still=0))
    assert all((clip == clip[0]).all() for clip, _ in clips("train", speed=0.0))


def test_speeds_of_clips_are_uniform_and_no_surface_is_faster() -> None:
    config = Config.read(settings(speed=3.0, still=0, texture="smooth"))
    fastest = []
    for number in range(200):
        surfaces = scene((7, number), config, 2)
        *discs, plane = [np.hypot(*(surface.path[1] - surface.path[0])) for surface in surfaces]
        assert max([*discs, 2 * plane]) <= 3.0
        fastest.append(max(discs))
    own = np.random.default_rng(0)
    expected = 3 * own.random(20000) * own.uniform(0.5, 1, (20000, 2)).max(1)
    assert stats.ks_2samp(fastest, expected).pvalue > 0.01


def test_each_clip_is_a_function_of_its_number() -> None:
    few = [clip for clip, _ in clips("train", count=2)]
    many = [clip for clip, _ in clips("train", count=6, heldout_count=1, frames=5)]
    assert all(np.array_equal(a, b) for a, b in zip(few, many, strict=False))
    others = [clip for clip, _ in clips("train", seed=1)] + [clip for clip, _ in clips("heldout")]
    assert len({clip.tobytes() for clip in many + others}) == 16


def test_impossible_settings_are_refused() -> None:
    for change, message in (
        ({"frames": 8}, r"frames must be 1 \+ 4k, found 8; the nearest are 5 and 9"),
        ({"heldout_frames": 8}, r"heldout_frames \(8\) is less than frames \(9\)"),
        ({"heldout_size": 16}, r"size \(32 px\) must be that of held-out clips, heldout_size \(16 px\)"),
        ({"length": 8}, r"length \(8 frames\) is less than frames \(9\)"),
    ):
        with pytest.raises(ValidationError, match=message):
            Config.read(settings(**change))


def test_clips_are_windows_of_their_source_and_pictures_their_frames(tmp_path: Any) -> None:
    sources = [clip for clip, _ in clips("train")]
    windows = {
        clip[t : t + 5, y : y + 16, x : x + 16].tobytes(): (number, t, y, x)
        for number, clip in enumerate(sources)
        for t in range(12 - 4)
        for y in range(17)
        for x in range(17)
    }
    corpus = prepare("moving_leaves", settings(frames=5, flip=False), tmp_path)
    batch = corpus.batch(400, np.random.default_rng(0))
    assert batch.shape == (400, 3, 5, 16, 16) and batch.dtype == np.uint8
    places = [windows[np.ascontiguousarray(clip.transpose(1, 2, 3, 0)).tobytes()] for clip in batch]
    for axis, count in enumerate((6, 8, 17, 17)):
        assert {place[axis] for place in places} == set(range(count))
    frames = prepare("moving_leaves", settings(frames=1, flip=False), tmp_path)
    assert len(list(tmp_path.iterdir())) == 1, "decoded once"
    pictures = frames.batch(400, np.random.default_rng(0))
    assert pictures.shape == (400, 3, 16, 16)
    last = [source[t] for source in sources for t in range(8, 12)]
    known = {clip[: 16 * 16 * 3] for clip in windows}
    known |= {frame[y : y + 16, x : x + 16].tobytes() for frame in last for y in range(17) for x in range(17)}
    assert all(np.ascontiguousarray(picture.transpose(1, 2, 0)).tobytes() in known for picture in pictures)
    assert frames.fingerprint == corpus.fingerprint


def test_held_out_clips_come_with_their_motion(tmp_path: Any) -> None:
    corpus = prepare("moving_leaves", settings(), tmp_path)
    assert corpus.heldout.shape == (4, 3, 12, 32, 32)
    assert corpus.motion is not None
    for number, (clip, motion) in enumerate(clips("heldout")):
        assert motion is not None
        assert np.array_equal(corpus.heldout[number].transpose(1, 2, 3, 0), clip)
        assert np.array_equal(corpus.motion.flow[number], motion.flow)
        assert np.array_equal(corpus.motion.visible[number], motion.visible)
    pictures = prepare("moving_leaves", settings(frames=1), tmp_path)
    assert np.array_equal(pictures.heldout, corpus.heldout[:, :, 6])
    assert pictures.motion is None


def test_a_mirrored_clip_is_mirrored_in_all_its_frames(tmp_path: Any) -> None:
    both = [prepare("moving_leaves", settings(flip=flip), tmp_path) for flip in (True, False)]
    flipped, plain = (corpus.batch(32, np.random.default_rng(0)) for corpus in both)
    same = (flipped == plain).all((1, 2, 3, 4))
    assert 0 < same.sum() < 32
    assert np.array_equal(flipped[~same], plain[~same][..., ::-1])
