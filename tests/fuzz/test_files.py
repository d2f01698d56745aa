"""Checkpoints and pictures with changed headers: they are read, or refused with their path, in little memory."""

import functools
import io
import json
import struct
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import strategies as st
from PIL import Image

from ablate.data.prepare import check_pictures
from ablate.engine import checkpoint
from ablate.errors import AblateError
from ablate.plan.trials import expand
from ablate.probing import conditions
from ablate.probing.load import load_vae
from ablate.slots import registry
from ablate.store.checksum import Damaged, TooNew
from ablate.store.record import read_header
from ablate.study.study import load_study
from tests.support.fuzzing import changed, fuzzed
from tests.support.studies import write_study

TEMPORARY = tempfile.TemporaryDirectory(prefix="fuzz-")

ROOM = Path(TEMPORARY.name)


@functools.cache
def good_headers() -> list[Any]:
    """The header of a safetensors file of ours as plain data, our own part of it, too, and one of somebody else's."""
    recipe = expand(load_study(write_study(ROOM)))[0].order()["recipe"]
    ours = {"settings": recipe, "step": 6, "signature": "abc", "parts": 1, "log": {"last": ""}, "code": {}}
    tensors = {"model.x": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}
    return [{"__metadata__": {"ablate": ours}, **tensors}, {"__metadata__": {"format": "pt"}, **tensors}]


def to_bytes(header: Any, length: int | None, tail: bytes) -> bytes:
    """A safetensors file: the length of the header, the header, and what follows; ours is JSON within JSON."""
    try:
        inner = header["__metadata__"]["ablate"]
        if not isinstance(inner, str):
            header = {**header, "__metadata__": {**header["__metadata__"], "ablate": json.dumps(inner)}}
    except (TypeError, KeyError, IndexError):
        pass
    text = json.dumps(header).encode(errors="replace")
    return struct.pack("<Q", len(text) if length is None else length) + text + tail


LENGTHS = st.sampled_from([None] * 12 + [0, 1, 7, 2**31, 2**60, 2**64 - 1, 100])


@fuzzed(
    0.06, st.deferred(lambda: changed(good_headers())), LENGTHS, st.sampled_from([b"", b"\0" * 8, b"\0" * 7, b"x" * 99])
)
def test_a_checkpoint_with_a_changed_header_is_read_or_refused(header: Any, length: int | None, tail: bytes) -> None:
    file = ROOM / "checkpoint.safetensors"
    file.write_bytes(to_bytes(header, length, tail))
    for read, allowed in ((read_header, ValueError), (checkpoint.read, (Damaged, TooNew))):
        try:
            read(file)
        except allowed as error:
            assert str(error)
    try:
        load_vae(file, torch.device("cpu"))
    except (ValueError, ImportError, AblateError) as error:
        assert str(error).strip() and "validation error" not in str(error), error


@fuzzed(0.01, st.binary(max_size=64), st.sampled_from([".safetensors", ".ckpt", ".pt"]))
def test_any_bytes_are_no_checkpoint(content: bytes, suffix: str) -> None:
    file = ROOM / f"other{suffix}"
    file.write_bytes(content)
    with pytest.raises((ValueError, ImportError)):
        load_vae(file, torch.device("cpu"))


@functools.cache
def good_pictures() -> dict[str, bytes]:
    """A small picture in each format that a folder of pictures may hold."""
    found = {}
    for form, suffix in (("PNG", "png"), ("JPEG", "jpg"), ("WEBP", "webp"), ("BMP", "bmp"), ("TIFF", "tif")):
        content = io.BytesIO()
        Image.linear_gradient("L").resize((48, 40)).convert("RGB").save(content, form)
        found[suffix] = content.getvalue()
    return found


@fuzzed(
    0.07, st.sampled_from(["png", "jpg", "webp", "bmp", "tif"]),
    st.lists(st.tuples(st.integers(0, 200), st.binary(min_size=1, max_size=4)), min_size=1, max_size=4),
    st.integers(0, 3000),
)  # fmt: skip
def test_a_picture_with_a_changed_header_is_read_or_refused(
    suffix: str, changes: list[tuple[int, bytes]], length: int
) -> None:
    Image.MAX_IMAGE_PIXELS = 10_000_000  # Pillow's own limit lets one picture take 2 GB: see SECURITY.md
    content = bytearray(good_pictures()[suffix])
    for place, new in changes:
        content[place : place + len(new)] = new
    with tempfile.TemporaryDirectory(dir=ROOM) as folder:
        for split in ("train", "heldout"):
            Path(folder, split).mkdir()
            Path(folder, split, f"x.{suffix}").write_bytes(content[:length] if length < 1000 else content)
        settings = {
            "path": f"{folder}/train", "heldout_path": f"{folder}/heldout", "crop": 16, "heldout_size": 16,
            "heldout_count": 1,
        }  # fmt: skip
        config = registry.level("data", "folder").Config.read(settings)
        for use in (lambda: check_pictures("folder", config), lambda: _decoded(settings)):
            try:
                use()
            except ValueError as error:
                assert "x." in str(error) or folder in str(error), error


def _decoded(settings: dict[str, Any]) -> None:
    from ablate.data.prepare import prepare

    with tempfile.TemporaryDirectory(dir=ROOM) as cache:
        prepare("folder", settings, Path(cache))


NAMES = ["psnr", "grid/const_fold8", "nothing", "a b", "", "é", "."]


@fuzzed(0.04, st.sampled_from(NAMES), st.sampled_from([">", "<", ">=", "<=", "==", "", ">>", "="]),
        st.sampled_from(["0.25", "1e400", "nan", "inf", "-inf", "", "x", "9" * 5000, "1_0", "0x1", "٣", " 3 ", "3 4"])
        | st.text(max_size=8))  # fmt: skip
def test_a_condition_is_read_or_refused(metric: str, comparison: str, bound: str) -> None:
    try:
        condition = conditions.parse(f"{metric}{comparison}{bound}", ["psnr", "grid/const_fold8"])
    except ValueError as error:
        assert str(error)
    else:
        assert condition.holds({condition.metric: float("nan")})
