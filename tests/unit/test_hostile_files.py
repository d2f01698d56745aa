"""Studies, checkpoints, cards and pictures that are meant to harm: exit code 2, the place, no traceback."""

import json
import struct
import zlib
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from ablate.engine.bounds import TooLarge, bounded
from ablate.plan.trials import expand
from ablate.probing.load import load_vae
from ablate.store.card import read_card
from ablate.store.checksum import Damaged
from ablate.store.files import write_json
from ablate.store.record import Record, read_header
from ablate.study.study import load_study
from tests.support.command import inside
from tests.support.studies import Write

BOMB = "x0: &x0 [1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + "".join(
    f"x{i}: &x{i} [{', '.join([f'*x{i - 1}'] * 9)}]\n" for i in range(1, 12)
)

MODEL = "model: {level: image_kl, channels: [8, 8], latent_channels: 4, blocks: 1}"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("study: tiny\n", f"study: tiny\n{BOMB}"), "a study of more than 200000 values"),
        (("padding: reflect", f"padding: {'[' * 5000}{']' * 5000}"), "nested too deeply"),
        (("padding: reflect", f"padding: {'[' * 60}{']' * 60}"), "nested too deeply"),
        (("padding: reflect", "padding: &a [*a]"), "may not contain itself"),
        (("seeds: 2", f"seeds: {'9' * 5000}"), "a number of 5000 digits is too large"),
        (("seeds: 2", "seeds: 1000000000"), "at most 10000"),
        (("seeds: 2", "seeds: 1e400"), "seeds"),
        (("kl: 1e-4}", "kl: 1e400}"), "kl"),
        (("kl: 1e-4}", "kl: .inf}"), "kl"),
        (("[1, 1e-4]", "[.inf, 1e-4]"), "kl"),
        (("lr: 3e-3", "lr: .nan"), "lr"),
        (("steps: 6", "steps: !!int foo"), "expected a number, found 'foo'"),
        (("steps: 6", "steps: !!python/object/apply:os.getcwd []"), "tag"),
        (("padding: reflect", 'padding: "\\ud800"'), "half a character"),
        (("  loss.kl: [1, 1e-4]", "  data: [leaves]\n  data.crop: [24, 16]"), "data"),
        (("probes: [reconstruction]", "probes: [{batch: 3}]"), "level"),
        (("probes: [reconstruction]", "probes: [[]]"), "probe"),
        ((MODEL, MODEL.replace("blocks: 1", "blocks: 1000000")), "more than 5000 layers"),
        ((MODEL, MODEL.replace("[8, 8]", "[8, 20000000]")), "model"),
        (("study: tiny", "study: ../tiny"), "study"),
        (("norm: {level: group, groups: 4}", f"norm: {'x' * 5000}"), "unknown level"),
        (("norm: {level: group, groups: 4}", f"norm: {'x' * 5000}:y"), "there is no module"),
        (("level: leaves, ", f"level: folder, path: {'x' * 5000}, "), "x"),
        (("level: leaves, ", "level: folder, path: ~nobody-here/x, "), "home"),
        (("level: leaves, ", 'level: folder, path: "a\\0b", '), "a"),
        (
            (
                "  - train: {steps: 6",
                "  - x: {command: [sh, a.sh], checkpoint: c, sources: [/etc/*]}\n  - train: {steps: 6",
            ),
            "sources",
        ),
        (("  - train: {steps: 6", f"  - x: {{command: [{'y' * 5000}], checkpoint: c}}\n  - train: {{steps: 6"), "x"),
    ],
)
def test_a_study_that_is_meant_to_harm_is_refused_at_its_place(
    change: tuple[str, str], said: str, write_study: Write
) -> None:
    path = write_study(change)
    done = inside("check", path)
    assert done.returncode == 2 and said in done.stderr, done.stderr[-2000:]
    assert "tiny.yaml:" in done.stderr and "Traceback" not in done.stderr


def test_rows_that_differ_as_1_and_1_0_are_one_row(write_study: Write) -> None:
    rows = "design: list\ntreatments: [{loss.kl: 1}, {loss.kl: 1.0}]\n"
    done = inside("check", write_study(("factors:\n  loss.kl: [1, 1e-4]\n", rows)))
    assert done.returncode in {0, 2} and "Traceback" not in done.stderr and "KeyError" not in done.stderr
    assert done.returncode == 0 or "twice" in done.stderr or "same" in done.stderr, done.stderr


@pytest.mark.parametrize(
    "content",
    [
        struct.pack("<Q", 2**60) + b"{}", struct.pack("<Q", 2**64 - 1) + b"{", struct.pack("<Q", 2**31) + b"x" * 50,
        struct.pack("<Q", 4) + b"null", struct.pack("<Q", 2) + b"[]", struct.pack("<Q", 8) + b"\xff" * 8, b"",
        b"\0" * 8,
        *(struct.pack("<Q", len(text)) + text for text in (
            b'{"__metadata__": null}', b'{"__metadata__": {"ablate": 3}}', b'{"__metadata__": {"ablate": "[1]"}}',
            b'{"__metadata__": {"ablate": "null"}}', b'{"__metadata__": {"ablate": "{}"}}', b"[" * 90_000,
            b'{"x": {"dtype": "F32", "shape": [4611686018427387904], "data_offsets": [0, 8]}}',
            b'{"x": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 8]}}', b'{"x": 3}',
        )),
    ],
)  # fmt: skip
def test_a_header_that_claims_what_is_not_there_is_refused(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "checkpoint.safetensors"
    file.write_bytes(content)
    done = inside("probe", file)
    assert done.returncode == 2 and str(file) in done.stderr and "Traceback" not in done.stderr, done.stderr
    if content[8:] != b'{"__metadata__": {"ablate": "{}"}}':
        with pytest.raises(ValueError, match="not a checkpoint of ablate"):
            read_header(file)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"model": {"level": "image_kl", "channels": [4000, 4000], "latent_channels": 4, "blocks": 9}}, "parameters"),
        ({"model": {"level": "image_kl", "channels": None}}, "channels: expected"),
        ({"model": {"level": 3}}, "settings make no model"), ({"model": None}, "settings make no model"),
        ({"norm": []}, "settings make no model"), ({"padding": "reflect"}, "settings make no model"),
    ],
)  # fmt: skip
def test_the_settings_of_a_checkpoint_may_hold_anything(
    settings: dict,
    said: str,
    write_study: Write,
    tmp_path: Path,  # type: ignore[type-arg]
) -> None:
    """A model of gigabytes is not built for a file of a kilobyte."""
    recipe = expand(load_study(write_study()))[0].order()["recipe"]
    file = tmp_path / "checkpoint.safetensors"
    header = {"settings": {**recipe, **settings}, "step": 1}
    save_file({"model.x": torch.zeros(1)}, file, {"ablate": json.dumps(header)})
    with pytest.raises(ValueError, match=said):
        load_vae(file, torch.device("cpu"))


def test_bounds_count_layers_and_parameters_and_end() -> None:
    with bounded(parameters=20, layers=2):
        torch.nn.Sequential(torch.nn.Linear(3, 3))
    with pytest.raises(TooLarge, match="more than 2 layers"), bounded(layers=2):
        torch.nn.Sequential(*(torch.nn.ReLU() for _ in range(3)))
    with pytest.raises(TooLarge, match="more than 11 parameters"), bounded(parameters=11):
        torch.nn.Linear(3, 3)
    assert len(torch.nn.Sequential(*(torch.nn.ReLU() for _ in range(9)))) == 9


@pytest.mark.parametrize(
    "change",
    [
        {"overrides": None}, {"overrides": [3]}, {"trials": "abc"}, {"trials": ["../../x"]}, {"trials": [None]},
        {"question": 3}, {"scale": []}, {"mirrored": {"content": 1, "links": []}}, {"mirrored": 3}, {"text": 1},
        {"components": [1]}, {"code": {}},
    ],
)  # fmt: skip
def test_a_card_with_an_entry_of_another_type_counts_as_damaged(
    change: dict,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],  # type: ignore[type-arg]
) -> None:
    path = tmp_path / "studies" / "tiny" / "base" / "study.json"
    good = {"name": "tiny", "question": "?", "scale": "base", "overrides": [], "trials": ["0a1b"], "mirrored": None}
    write_json(path, good)
    assert read_card(path)["trials"] == ["0a1b"]
    write_json(path, {**good, **change})
    assert read_card(path) == {}
    done = inside("studies", "--store", tmp_path)
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "change",
    [
        {"metrics": {"psnr": "../x"}}, {"metrics": {"psnr": None}}, {"metrics": {"psnr": True}}, {"raw": {"psnr": []}},
        {"metrics": {"psnr": 10**400}}, {"probes": {"x": 3}}, {"info": {"psnr": 3}}, {"status": "x"}, {"role": "x"},
        {"code": {"components": 3}}, {"code": {"components": {"norm/group": 3}}}, {"liveness": {"share/kl": {}}},
    ],
)  # fmt: skip
def test_a_record_with_an_inner_value_of_another_type_counts_as_damaged(change: dict) -> None:  # type: ignore[type-arg]
    good = {"signature": "abc", "seed": 0, "status": "done", "reason": "", "steps": 6, "metrics": {"psnr": 20}}
    assert Record.read(good, "abc").metrics == {"psnr": 20}
    with pytest.raises(Damaged, match="not one of a record"):
        Record.read({**good, **change}, "abc")


def test_a_decompression_bomb_among_pictures_is_named(write_study: Write, tmp_path: Path) -> None:
    """40 000 x 40 000 px in a file of a few kilobytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 40_000, 40_000, 8, 2, 0, 0, 0)
    bomb = (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 10**6))
        + chunk(b"IEND", b"")
    )
    for split in ("train", "heldout"):
        (tmp_path / split).mkdir()
        (tmp_path / split / "bomb.png").write_bytes(bomb)
    folder = f"level: folder, path: {tmp_path}/train, heldout_path: {tmp_path}/heldout, "
    done = inside("check", write_study(("level: leaves, ", folder)))
    assert done.returncode == 2 and "bomb.png" in done.stderr and "more pixels than Pillow opens" in done.stderr
