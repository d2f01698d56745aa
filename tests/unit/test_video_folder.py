"""Folders of real videos, written by PyAV: what is read, and what becomes of files of no use."""

from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from ablate.components.data._video import read_clip
from ablate.data.prepare import prepare
from ablate.slots import registry

SMALL = {"crop": 16, "resize_to": 24, "heldout_size": 16, "heldout_count": 2, "frames": 5, "heldout_frames": 8}


def grey(frame: int) -> int:
    """The brightness of a frame: equal frames are told apart by it after lossy coding."""
    return 20 + 9 * frame


def write(path: Path, frames: int, height: int = 32, width: int = 48, codec: str = "mpeg4", start: int = 0) -> None:
    """A video whose frames are uniform, each brighter than the one before, the left half darker by 10."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=10)
        stream.width, stream.height = width, height
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        for number in range(frames):
            pixels = np.full((height, width, 3), grey(start + number), np.uint8)
            pixels[:, : width // 2] -= 10
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    """Six videos in three containers, some in subfolders, of different sizes and lengths."""
    for number, suffix in enumerate(("mp4", "mkv", "avi", "mp4", "mkv", "avi")):
        write(
            tmp_path / "videos" / ("deep" if number % 2 else "") / f"{number}.{suffix}", 10 + number, 32 + 16 * number
        )
    return tmp_path / "videos"


def settings(path: Path, **changes: Any) -> dict[str, Any]:
    return {**SMALL, "path": str(path), "heldout_fraction": 0.34, **changes}


def check(path: Path, **changes: Any) -> None:
    registry.level("data", "video_folder").Config.read(settings(path, **changes)).preflight()


def test_a_clip_is_the_start_of_a_video_frame_by_frame(tmp_path: Path) -> None:
    write(tmp_path / "a.mp4", 12)
    clip = read_clip(tmp_path / "a.mp4", range(7), 0, "none")
    assert clip.shape == (7, 32, 48, 3) and clip.dtype == np.uint8
    for number, frame in enumerate(clip.astype(float)):
        assert frame[4:-4, 28:-4].mean() == pytest.approx(grey(number), abs=4)
        assert frame[4:-4, 4:20].mean() == pytest.approx(grey(number) - 10, abs=4)
    assert read_clip(tmp_path / "a.mp4", range(99), 16, "area").shape == (12, 16, 24, 3)
    assert np.array_equal(read_clip(tmp_path / "a.mp4", range(1, 7, 2), 0, "none"), clip[1::2])


def test_a_folder_becomes_a_corpus_of_clips(videos: Path, tmp_path: Path) -> None:
    check(videos)
    corpus = prepare("video_folder", settings(videos), tmp_path / "cache")
    assert corpus.heldout.shape == (2, 3, 8, 16, 16)
    assert corpus.motion is None and corpus.skipped == []
    batch = corpus.batch(50, np.random.default_rng(0)).astype(float)
    assert batch.shape == (50, 3, 5, 16, 16)
    brightness = batch.max((1, 3, 4))  # of each frame
    assert np.abs(brightness[:, 1:] - brightness[:, :-1] - 9).max() <= 4, "consecutive frames, in order"
    starts = ((brightness[:, 0] - 20) / 9).round()
    assert {0.0, 5.0} <= set(starts) and starts.max() <= 14 - 5 + 1
    frames = prepare("video_folder", settings(videos, frames=1), tmp_path / "cache")
    assert frames.batch(4, np.random.default_rng(0)).shape == (4, 3, 16, 16)
    assert len(list((tmp_path / "cache").iterdir())) == 1


@pytest.mark.parametrize(("name", "frames", "least"), [("short.mp4", 4, 5), ("deep/brief.mkv", 7, 8)])
def test_short_clips_are_named(videos: Path, tmp_path: Path, name: str, frames: int, least: int) -> None:
    """One that is trained on must hold a training clip, one that is held out a held-out clip."""
    write(videos / name, frames)
    inside = settings(videos, heldout_path=str(videos / "deep"))
    with pytest.raises(ValueError, match=rf"1 of \d .* shorter than the .*clip of {least} frames: {Path(name).name}"):
        prepare("video_folder", inside, tmp_path / "cache")
    if name == "short.mp4":  # whose header says so
        with pytest.raises(ValueError, match=r"train: 1 of 4 .* shorter than the clip of 5 frames: short.mp4"):
            check(videos, heldout_path=str(videos / "deep"))


def test_videos_whose_frames_differ_in_size_are_named(videos: Path, tmp_path: Path) -> None:
    one, two = tmp_path / "one.mkv", tmp_path / "two.mkv"
    write(one, 6, 32, 48, "mjpeg")
    write(two, 6, 64, 48, "mjpeg")
    with av.open(str(one)) as first, av.open(str(two)) as second, av.open(str(videos / "varying.mkv"), "w") as out:
        stream = out.add_stream_from_template(first.streams.video[0])
        for offset, source in ((0, first), (600, second)):
            for packet in source.demux(source.streams.video[0]):
                if packet.dts is not None:
                    packet.pts, packet.dts, packet.stream = packet.pts + offset, packet.dts + offset, stream
                    out.mux(packet)
    with pytest.raises(ValueError, match=r"train: 1 of 4 .* of frames that differ in size: varying.mkv"):
        prepare("video_folder", settings(videos, heldout_path=str(videos / "deep"), length=12), tmp_path / "cache")


def test_damaged_files_are_skipped_and_counted_up_to_the_stated_share(videos: Path, tmp_path: Path) -> None:
    (videos / "broken.mp4").write_bytes((videos / "0.mp4").read_bytes()[:300])
    (videos / "text.avi").write_text("not a video")
    apart = {"heldout_path": str(videos / "deep")}
    check(videos, **apart, damaged_share=0.4)
    corpus = prepare("video_folder", settings(videos, **apart, damaged_share=0.4), tmp_path / "cache")
    assert corpus.skipped == ["broken.mp4", "text.avi"]
    assert corpus.batch(20, np.random.default_rng(0)).shape == (20, 3, 5, 16, 16)
    message = r"data/video_folder, train: 2 of 5 .* not readable \(InvalidDataError\): broken.mp4, text.avi"
    with pytest.raises(ValueError, match=message):
        check(videos, **apart)
    with pytest.raises(ValueError, match=message):
        prepare("video_folder", settings(videos, **apart), tmp_path / "cache")


def test_a_folder_without_videos_says_what_it_looked_for(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"data/video_folder: there is no folder .*nowhere"):
        check(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"holds no videos \(.avi, .gif, .m4v, .mkv, .mov, .mp4, .webm\)"):
        check(tmp_path)
    write(tmp_path / "only.mp4", 8)
    with pytest.raises(ValueError, match="holds one video; training and held-out need one each"):
        check(tmp_path)
