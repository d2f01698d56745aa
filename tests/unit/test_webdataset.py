"""The level `webdataset`: pictures in tar files, against the same pictures in a folder."""

import shutil
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import PIL.Image
import pytest

from ablate.data.prepare import prepare
from ablate.slots import registry
from ablate.slots.data import SPLITS

SMALL = {"crop": 16, "resize_to": 32, "heldout_size": 32, "heldout_count": 4, "heldout_fraction": 0.3}


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Ten pictures in two shards, with captions, and the same in folders with the names of the shards."""
    plain, shards = tmp_path / "plain", tmp_path / "shards"
    shards.mkdir()
    for shard in ("a.tar", "b.tar"):
        (plain / shard).mkdir(parents=True)
        for i in range(5):
            pixels = np.random.default_rng([ord(shard[0]), i]).integers(0, 256, (40 + i, 50, 3), dtype=np.uint8)
            PIL.Image.fromarray(pixels).save(plain / shard / f"{i:03d}.png")
            (plain / shard / f"{i:03d}.txt").write_text("a caption")
        with tarfile.open(shards / shard, "w") as tar:
            for file in sorted((plain / shard).iterdir()):
                tar.add(file, file.name)
    return plain, shards


def names(level: str, path: Path | str, split: str, **changes: Any) -> list[str]:
    settings = {"path": str(path), **SMALL, **changes}
    return [picture.name for picture in registry.build("data", level, settings, split)]


def test_shards_give_what_a_folder_of_their_pictures_gives(folders: tuple[Path, Path], tmp_path: Path) -> None:
    plain, shards = folders
    for split in SPLITS:
        assert names("webdataset", shards, split) == names("folder", plain, split)
    one, other = (
        prepare(level, {"path": str(path), **SMALL}, tmp_path / "cache")
        for level, path in (("folder", plain), ("webdataset", shards))
    )
    assert one.fingerprint == other.fingerprint
    assert np.array_equal(one.heldout, other.heldout)


def test_a_folder_of_held_out_shards(folders: tuple[Path, Path]) -> None:
    _, shards = folders
    (shards / "val").mkdir()
    (shards / "b.tar").rename(shards / "val" / "b.tar")
    found = {split: names("webdataset", shards, split, heldout_path=str(shards / "val")) for split in SPLITS}
    assert found["train"] == [f"a.tar/{i:03d}.png" for i in range(5)]
    assert found["heldout"] == [f"b.tar/{i:03d}.png" for i in range(5)]


def test_the_content_of_shards_counts(folders: tuple[Path, Path], tmp_path: Path) -> None:
    _, shards = folders
    before = prepare("webdataset", {"path": str(shards), **SMALL}, tmp_path / "cache").content
    assert before is not None and set(before.files) == {"a.tar", "b.tar"}
    with tarfile.open(shards / "b.tar", "a") as tar:
        tar.add(shards / "a.tar", "more.bin")
    after = prepare("webdataset", {"path": str(shards), **SMALL}, tmp_path / "cache").content
    assert after is not None and after.digest != before.digest


def check(path: Path) -> None:
    registry.level("data", "webdataset").Config.read({"path": str(path), **SMALL}).preflight()


def test_what_cannot_be_used_is_named(folders: tuple[Path, Path], tmp_path: Path) -> None:
    plain, shards = folders
    check(shards)
    (plain / "small.png").write_bytes(b"no picture")
    with tarfile.open(shards / "c.tar", "w") as tar:
        tar.add(plain / "small.png", "deep/wrong.png")
    with pytest.raises(ValueError, match=r"1 of \d+ pictures are not readable .*: c.tar/deep/wrong.png"):
        check(shards)
    (shards / "c.tar").write_bytes((shards / "a.tar").read_bytes()[:3000])
    with pytest.raises(ValueError, match=r"data/webdataset: .*c\.tar (is not readable|ends before its last member)"):
        check(shards)
    with tarfile.open(shards / "c.tar", "w:gz") as tar:
        tar.add(plain / "a.tar" / "000.png", "000.png")
    with pytest.raises(ValueError, match=r"c\.tar is not readable as an uncompressed tar file .* unpack compressed"):
        check(shards)
    with tarfile.open(shards / "c.tar", "w") as tar:
        tar.add(plain / "a.tar" / "000.png", "000.png")
        tar.add(plain / "a.tar" / "001.png", "./000.png")
    with pytest.raises(ValueError, match=r"c\.tar has two members named 000\.png"):
        check(shards)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"data/webdataset: .*empty holds no shards \(\.tar\)"):
        check(tmp_path / "empty")


@pytest.fixture
def upload(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[[Path], None]]:
    """Puts the files of a folder at `memory://bucket/shards`, instead of what was there, as another machine would."""
    there = fsspec.filesystem("memory")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))

    def put(folder: Path) -> None:
        monkeypatch.setattr("ablate.data.remote._seen", {})
        for place in there.find("/bucket/shards"):
            if not (folder / place.removeprefix("/bucket/shards/")).exists():
                there.rm(place)
        for file in folder.rglob("*.tar"):
            place = f"/bucket/shards/{file.relative_to(folder).as_posix()}"
            if not there.exists(place) or there.cat(place) != file.read_bytes():
                there.pipe(place, file.read_bytes())

    yield put
    there.rm("/bucket", recursive=True)


REMOTE = "memory://bucket/shards"


def test_shards_in_object_storage_give_what_they_give_on_a_disk(
    folders: tuple[Path, Path], upload: Callable[[Path], None], tmp_path: Path
) -> None:
    _, shards = folders
    upload(shards)
    here, there = (prepare("webdataset", {"path": path, **SMALL}, tmp_path / "cache") for path in (str(shards), REMOTE))
    assert here.fingerprint == there.fingerprint and np.array_equal(here.heldout, there.heldout)
    assert here.content.files == there.content.files


def test_shards_are_copied_once_and_again_after_a_change(
    folders: tuple[Path, Path], upload: Callable[[Path], None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, shards = folders
    upload(shards)
    before = names("webdataset", REMOTE, "train")
    assert "copying 2 files" in capsys.readouterr().err
    upload(shards)
    assert names("webdataset", REMOTE, "train") == before and not capsys.readouterr().err

    (shards / "more").mkdir()
    shutil.move(shards / "a.tar", shards / "more" / "c.tar")
    (shards / "b.tar").write_bytes((shards / "more" / "c.tar").read_bytes())
    upload(shards)
    found = [*names("webdataset", REMOTE, "train"), *names("webdataset", REMOTE, "heldout")]
    assert {name.rpartition("/")[0] for name in found} == {"b.tar", "more/c.tar"}
    assert "copying 2 files" in capsys.readouterr().err
    [copy] = (tmp_path / "user").rglob("b.tar")
    assert copy.read_bytes() == (shards / "b.tar").read_bytes()


def test_held_out_shards_inside_a_remote_folder_are_not_trained_on(
    folders: tuple[Path, Path], upload: Callable[[Path], None]
) -> None:
    _, shards = folders
    (shards / "val").mkdir()
    (shards / "b.tar").rename(shards / "val" / "b.tar")
    upload(shards)
    for base in (REMOTE, f"{REMOTE}/"):
        found = {split: names("webdataset", base, split, heldout_path=f"{REMOTE}/val") for split in SPLITS}
        assert found["train"] == [f"a.tar/{i:03d}.png" for i in range(5)]
        assert found["heldout"] == [f"b.tar/{i:03d}.png" for i in range(5)]


def test_an_interrupted_copy_goes_on_with_what_is_missing(
    folders: tuple[Path, Path],
    upload: Callable[[Path], None],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    _, shards = folders
    upload(shards)

    def cut(self: Any, place: str, target: str) -> None:
        Path(target).write_bytes(self.cat(place)[: 1000 if place.endswith("b.tar") else None])

    with monkeypatch.context() as patch:
        patch.setattr(fsspec.filesystem("memory").__class__, "get_file", cut)
        with pytest.raises(
            ValueError, match=r"memory://bucket/shards cannot be copied .*b\.tar has 1000 bytes here and"
        ):
            names("webdataset", REMOTE, "train")
    assert [copy.name for copy in (tmp_path / "user").rglob("*.tar")] == ["a.tar"]
    assert "copying 2 files" in capsys.readouterr().err
    assert names("webdataset", REMOTE, "train") and "copying 1 files" in capsys.readouterr().err


@pytest.mark.parametrize("url", ["memory://bucket/none", "nowhere://bucket/shards"])
def test_a_url_without_shards_is_named(url: str, upload: Callable[[Path], None], folders: tuple[Path, Path]) -> None:
    upload(folders[1])
    with pytest.raises(ValueError, match=rf"data/webdataset: {url} (cannot be copied|needs)"):
        names("webdataset", url, "train")
