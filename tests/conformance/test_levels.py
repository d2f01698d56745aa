"""Every level on disk passes the exam of its slot. A new file is examined without being named here."""

import copy
import tarfile
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest
import torch

from ablate.components.probe import _flow, diffusability
from ablate.slots import Autoencoder, registry
from ablate.testing import EXAMS, Exam, InitExam, ModelExam
from ablate.testing.exam import point
from tests.support.command import python
from tests.support.released import saved
from tests.unit.test_init_checkpoint import save, small
from tests.unit.test_video_folder import write

LEVELS = [(slot, name) for slot in registry.SLOTS for name in registry.levels(slot)]


OPTIONAL = ("discriminator", "regularizer")


SMALL = {"crop": 16, "resize_to": 24, "heldout_size": 24, "heldout_count": 2}


CLIPS = {**SMALL, "frames": 5, "heldout_frames": 8}


TINY_BUDGET = _flow.Budget(
    width=16, depth=1, heads=2, batch=16, lr=3e-3, warmup=2, ema=0.9, evaluate=(1, 4), euler=2
)  # fmt: skip
"""Of `probe/diffusability`, which takes a minute otherwise."""


SETTINGS: dict[str, Any] = {
    "data/clips": [CLIPS, {**CLIPS, "step": 2}],
    "data/leaves": {"crop": 16, "resize": "none", "heldout_size": 32, "heldout_count": 4, "count": 8},
    "data/moving_leaves": {**CLIPS, "size": 24, "length": 8},
    "model/image_kl": [{}, {"patch": 2, "activation": "filtered_silu", "mid_attention": False}],
    "model/patch_vit": [{}, {"unpatch": "conv", "width": 24}],
    "model/python": {"target": "tests.support.own_vae:Pair"},
    "model/video_kl": [{}, {"image": True}, {"up_reduce": "resblock", "halve_time": 1}],
    "norm/scn": [{}, {"interp": "bilinear", "init": "identity"}],
    "upsample/pixel_shuffle_icnr": [{}, {"blur": True}, {"project": True}],
    "upsample/transposed_conv": [{}, {"kernel": 3}],
    "downsample/blur_pool": [{"taps": taps} for taps in (3, 4, 5)],
    "loss/kl": [{}, {"reduction": "sum_as_pixels", "start": 5}],
    "loss/perceptual": [
        {"backbone": "random_features"},
        {"backbone": "efficientnet"},
        {"backbone": "stlpips", "trunk": "alex"},
    ],
    "discriminator/patchgan": [
        {"width": 8, "layers": 2},
        {"width": 8, "layers": 2, "loss": "non_saturating", "lecam": 0.1},
        {"width": 8, "layers": 2, "clips": True},
    ],
    "regularizer/eq": [{}, {"strength": 1.0, "resample": "bicubic"}],
    "regularizer/se": [{}, {"resample": "bicubic_aa"}],
    "regularizer/chf": [{}, {"cut": "square"}],
}
"""Settings for levels whose defaults are too large for a test, or which deserve several sets."""


class CheckpointExam(InitExam):
    """`init: checkpoint` fits the released model alone."""

    def network(self) -> Autoencoder:
        return small(4)


class ReleasedExam(ModelExam):
    """`model: released` has the weights of its folder, whatever draws weights, and the time stride of its class."""

    @point
    def test_initialised(self, vae: Any) -> None:
        """an initialiser leaves its weights as they were released"""
        released = copy.deepcopy(vae.state_dict())
        registry.build("init", "scratch", {}, lambda name: len(name))(vae)
        assert all(torch.equal(tensor, released[name]) for name, tensor in vae.state_dict().items())


def exam_of(slot: str, name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Exam:
    settings = SETTINGS.get(f"{slot}/{name}", {})
    base = EXAMS[slot]
    if (slot, name) == ("data", "folder"):
        for number, picture in enumerate(registry.build("data", "leaves", {"size": 32, **SMALL}, "train")):
            write_picture(folder / f"{number:03d}.png", picture.load())
            if number == 15:
                break
        settings = {**SMALL, "path": str(folder), "heldout_fraction": 0.3}
    elif (slot, name) in {("data", "webdataset"), ("data", "hf")}:
        files = []
        for number, picture in enumerate(registry.build("data", "leaves", {"size": 32, **SMALL, "count": 8}, "train")):
            files.append(folder / f"{number:03d}.png")
            write_picture(files[-1], picture.load())
        with tarfile.open(folder / "shard.tar", "w") as tar:
            for file in files:
                tar.add(file, file.name)
        pyarrow.parquet.write_table(pyarrow.table({"png": [x.read_bytes() for x in files]}), folder / "train.parquet")
        settings = {**SMALL, "path": str(folder), "heldout_fraction": 0.3}
    elif (slot, name) == ("data", "video_folder"):
        for number in range(6):
            write(folder / f"{number}.mp4", 10)
        settings = {**CLIPS, "path": str(folder), "heldout_fraction": 0.34}
    elif (slot, name) == ("init", "checkpoint"):
        save(folder, latent_channels=4)
        settings, base = {"path": str(folder)}, CheckpointExam
    elif (slot, name) == ("model", "released"):
        saved("AutoencoderKLWan", folder)
        settings, base = {"path": str(folder)}, ReleasedExam
    elif (slot, name) == ("probe", "diffusability"):
        monkeypatch.setitem(diffusability.BUDGETS, "cpu", TINY_BUDGET)
        settings = {"samples": 256}
    return type("TestLevel", (base,), {"level": name, "settings": settings})()


def write_picture(path: Path, pixels: Any) -> None:
    from PIL import Image

    Image.fromarray(pixels).save(path)


@pytest.mark.parametrize(("slot", "name"), LEVELS)
def test_level_passes_its_exam(slot: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    points = list(exam_of(slot, name, tmp_path, monkeypatch).run())
    assert [f"{one.name}: {one.message}" for one in points if one.status != "ok"] == []
    assert len(points) >= 9


def test_every_slot_has_a_level_an_exam_and_a_folder() -> None:
    folders = {path.name for path in registry.ROOT.iterdir() if path.is_dir() and not path.name.startswith(("_", "."))}
    assert folders == {*registry.SLOTS, "shared"}
    assert {slot for slot, _ in LEVELS} == set(registry.SLOTS) == set(EXAMS)


@pytest.mark.parametrize("slot", OPTIONAL)
def test_slots_that_may_be_empty_have_none(slot: str) -> None:
    assert "none" in registry.levels(slot)


def test_reading_every_level_loads_nothing_heavy() -> None:
    code = (
        "import sys; from ablate.slots import registry\n"
        "for slot in registry.SLOTS:\n"
        "    for name in registry.levels(slot): registry.level(slot, name).Config.model_json_schema()\n"
        "print(*sorted({'torch', 'lpips', 'skimage', 'sklearn', 'ray', 'mlflow'} & set(sys.modules)))"
    )
    done = python(code)
    assert done.stdout.split() == []
