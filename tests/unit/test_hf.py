"""The level `hf`: pictures in Parquet and Arrow files as `datasets` lays them out, against the same in a folder."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from ablate.data.prepare import prepare
from ablate.slots import registry
from ablate.slots.data import SPLITS

SMALL = {"crop": 16, "resize_to": 32, "heldout_size": 32, "heldout_count": 4, "heldout_fraction": 0.3}


def encoded(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (40 + seed, 50, 3), dtype=np.uint8)
    file = io.BytesIO()
    PIL.Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


PICTURES = [encoded(seed) for seed in range(10)]


def table(pictures: Sequence[bytes | None]) -> pa.Table:
    """Rows as `datasets` stores them: a struct of bytes and path for the feature `Image`, beside a label."""
    image = pa.array(
        [{"bytes": one, "path": f"{i}.png"} for i, one in enumerate(pictures)],
        pa.struct([("bytes", pa.binary()), ("path", pa.string())]),
    )
    return pa.table({"image": image, "label": list(range(len(pictures)))})


def parquet(path: Path, pictures: Sequence[bytes | None], **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table(pictures), path, row_group_size=3, **options)
    return path


def arrow(path: Path, pictures: Sequence[bytes], *, stream: bool = True) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = table(pictures)
    new = pa.ipc.new_stream if stream else pa.ipc.new_file
    with pa.OSFile(str(path), "wb") as sink, new(sink, rows.schema) as writer:
        writer.write_table(rows, max_chunksize=3)
    return path


def pictures(path: Path, part: str, **changes: Any) -> dict[str, np.ndarray[Any, Any]]:
    built = registry.build("data", "hf", {"path": str(path), **SMALL, **changes}, part)
    return {picture.name: picture.load() for picture in built}


def check(path: Path, **changes: Any) -> None:
    registry.level("data", "hf").Config.read({"path": str(path), **SMALL, **changes}).preflight()


@pytest.mark.parametrize(
    "write",
    [
        parquet,
        lambda path, rows: arrow(path.with_suffix(".arrow"), rows),
        lambda path, rows: arrow(path.with_suffix(".arrow"), rows, stream=False),
    ],
    ids=["parquet", "arrow stream", "arrow file"],
)
def test_rows_give_the_pictures_that_were_stored(write: Any, tmp_path: Path) -> None:
    write(tmp_path / "data" / "train-00000-of-00002.parquet", PICTURES[:6])
    write(tmp_path / "data" / "train-00001-of-00002.parquet", PICTURES[6:])
    found = {name: pixels for split in SPLITS for name, pixels in pictures(tmp_path, split).items()}
    assert len(found) == 10 and len(pictures(tmp_path, "heldout")) == 3
    for name, stored in zip(sorted(found), PICTURES, strict=True):
        assert np.array_equal(found[name], np.asarray(PIL.Image.open(io.BytesIO(stored))))
    check(tmp_path)
    corpus = prepare("hf", {"path": str(tmp_path), **SMALL}, tmp_path / "cache")
    assert corpus.heldout.shape == (4, 3, 32, 32) and corpus.content is not None and len(corpus.content.files) == 2


def test_bytes_without_a_struct_are_pictures_too(tmp_path: Path) -> None:
    pq.write_table(pa.table({"png": PICTURES, "mask": PICTURES[::-1]}), tmp_path / "a.parquet")
    with pytest.raises(ValueError, match="its columns png, mask can hold pictures; choose one with `column`"):
        check(tmp_path)
    assert len(pictures(tmp_path, "train", column="mask")) == 7
    with pytest.raises(ValueError, match="no column of pictures named jpg; those that can hold pictures: png, mask"):
        check(tmp_path, column="jpg")


def test_splits_by_file_and_by_folder(tmp_path: Path) -> None:
    parquet(tmp_path / "hub" / "data" / "train-00000-of-00001.parquet", PICTURES[:5])
    parquet(tmp_path / "hub" / "data" / "validation-00000-of-00001.parquet", PICTURES[5:8])
    arrow(tmp_path / "saved" / "train" / "data-00000-of-00001.arrow", PICTURES[:5])
    arrow(tmp_path / "saved" / "train" / "cache-0123.arrow", PICTURES[8:])
    arrow(tmp_path / "saved" / "validation" / "data-00000-of-00001.arrow", PICTURES[5:8])
    for folder in ("hub", "saved"):
        splits = {"split": "train", "heldout_split": "validation"}
        sizes = [len(pictures(tmp_path / folder, split, **splits)) for split in SPLITS]
        assert dict(zip(SPLITS, sizes, strict=True)) == {"train": 5, "heldout": 3}
        assert len(pictures(tmp_path / folder, "train", split="validation")) == 2
        with pytest.raises(ValueError, match="no files of a split 'test', but "):
            check(tmp_path / folder, split="test")
    whole = {"split": "train", "heldout_path": str(tmp_path / "saved" / "validation")}
    assert [len(pictures(tmp_path / "hub", split, **whole)) for split in SPLITS] == sizes


def test_what_cannot_be_used_is_named(tmp_path: Path) -> None:
    file = parquet(tmp_path / "train-0.parquet", [*PICTURES[:8], None, b"no picture"])
    with pytest.raises(ValueError, match=r"not in the file, .* write the bytes into it: train-0.parquet/000008"):
        check(tmp_path, heldout_fraction=0.1)
    with pytest.raises(ValueError, match=r"not readable \(UnidentifiedImageError\): train-0.parquet/000009"):
        check(tmp_path, heldout_fraction=0.1)
    file.write_bytes(file.read_bytes()[:-8])
    with pytest.raises(ValueError, match=r"data/hf: .*train-0.parquet is not readable as parquet \("):
        check(tmp_path)
    file.write_text("version https://git-lfs.github.com/spec/v1")
    with pytest.raises(ValueError, match=r"it is a pointer of Git LFS, .* fetch it with `git lfs pull`"):
        check(tmp_path)
    pq.write_table(pa.table({"label": [1, 2]}), file)
    with pytest.raises(ValueError, match="has not one column of pictures: no column can"):
        check(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"data/hf: .*empty holds no files \(\.arrow, \.parquet\)"):
        check(tmp_path / "empty")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"heldout_split": "test"}, "'heldout_split' needs 'split'"),
        ({"split": "train", "heldout_split": "train"}, "the split 'train' cannot be held out and trained on"),
        ({"split": "train", "heldout_split": "test", "heldout_path": "x"}, "both say what is held out"),
    ],
)
def test_settings_that_contradict_each_other(settings: dict[str, str], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        registry.level("data", "hf").Config.read({"path": "x", **SMALL, **settings})
