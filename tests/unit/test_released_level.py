"""The level `model: released` in a study: what it takes from its folder, and what is refused before anything starts."""

import json
import shutil
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch

from ablate.driver.preflight import validate
from ablate.engine.build import build_model
from ablate.engine.freeze import freeze
from ablate.errors import StudyError
from ablate.plan.trials import Trial, expand
from ablate.released.files import VIDEO_CLASSES
from ablate.released.load import load_released
from ablate.released.shape import SHAPES, shape_of
from ablate.study.document import read_document
from ablate.study.study import load_study
from tests.support.ldm import ldm_tensors, model
from tests.support.released import SMALL, ltx_tensors, saved, write_ltx
from tests.support.studies import write_study

PLAIN = (
    ("  norm: {level: group, groups: 4}\n", ""),
    ("  padding: reflect\n", ""),
)
MODEL = "level: image_kl, channels: [8, 8], latent_channels: 4, blocks: 1"
CLIPS = "level: moving_leaves, crop: 32, size: 32, resize: none, heldout_size: 32, heldout_count: 2, heldout_frames: 9"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one released VAE for each of a few classes."""
    root = tmp_path_factory.mktemp("released")
    for name in ("AutoencoderKL", "AutoencoderTiny", "AutoencoderDC", "AutoencoderKLWan", "AutoencoderKLCogVideoX"):
        saved(name, root / name)
    return root


def study(folder: Path, path: Path, *more: tuple[str, str], extra: str = "") -> Path:
    """A study that trains the VAE at `path` further; `extra` are further settings of the model."""
    return write_study(folder, *PLAIN, (MODEL, f"level: released, path: {path}{extra}"), *more)


def refusals(file: Path) -> list[str]:
    """What `ablate check` finds wrong."""
    try:
        validate(read_document(file), None, (), gpu=False)
    except StudyError as error:
        return [problem.message for problem in error.problems]
    return []


def recipe(path: Path, padding: dict[str, Any] | None = None, **settings: Any) -> dict[str, Any]:
    slots = {"norm": "group", "upsample": "nearest_conv", "downsample": "strided_conv"}
    levels = {slot: {"level": level} for slot, level in slots.items()}
    model = {"level": "released", "path": str(path), **settings}
    return {"model": model, "padding": padding or {"level": "zeros"}, **levels}


@pytest.mark.parametrize("name", SMALL)
def test_stride_and_frames_of_a_latent_frame_are_those_of_the_model(name: str, tmp_path: Path) -> None:
    made = saved(name, tmp_path)
    shape = shape_of(tmp_path)
    assert shape.stride
    side, frames = 4 * shape.stride, 1 + 2 * shape.groups
    x = torch.zeros(1, 3, *([frames] if shape.video else []), side, side)
    with torch.no_grad():
        found = made.encode(x)
    z = found.latent_dist.mode() if hasattr(found, "latent_dist") else found[0]
    assert z.shape[-2:] == (4, 4) and shape.deterministic is not hasattr(found, "latent_dist")
    assert not shape.video or z.shape[2] == 3


@pytest.mark.parametrize("name", sorted({*SMALL} - {"AutoencoderKLHunyuanImage", "AutoencoderKLCosmos"}))
def test_settings_that_a_configuration_leaves_out_are_those_of_the_class(name: str) -> None:
    # The models are as large as released ones, so they are built and run without memory. HunyuanImage has no defaults,
    # and Cosmos cannot be built so.
    stride, groups = SHAPES[name]({})
    with torch.device("meta"), torch.no_grad():
        made = getattr(diffusers, name)().eval()
        frames = [1 + 2 * groups] if name in VIDEO_CLASSES else []
        found = made.encode(torch.empty(1, 3, *frames, 2 * stride, 2 * stride))
    mean = found.latent_dist.mode() if hasattr(found, "latent_dist") else found[0]
    assert mean.shape[-1] == 2 and (not frames or mean.shape[2] == 3)


def test_shapes_of_single_files_are_those_of_the_model(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file(ldm_tensors(model()), tmp_path / "ldm.safetensors")
    write_ltx(tmp_path / "ltx.safetensors", ltx_tensors())
    for file in ("ldm.safetensors", "ltx.safetensors"):
        vae = load_released(tmp_path / file, clips=True)
        assert shape_of(tmp_path / file).stride == vae.stride
    x = torch.zeros(1, 3, 1 + 2 * vae.groups, vae.stride, vae.stride)
    assert vae.encode(x).mean.shape[2] == 3


def test_folders_and_files_that_hold_no_usable_vae_are_refused(folder: Path, tmp_path: Path) -> None:
    vae = tmp_path / "vae"
    [missing] = refusals(study(tmp_path, vae))
    assert "there is no file or folder" in missing and "hf download" in missing and "treatment 'baseline'" in missing
    shutil.copytree(folder / "AutoencoderKL", vae)
    assert refusals(study(tmp_path, vae)) == []
    weights = vae / "diffusion_pytorch_model.safetensors"
    weights.rename(tmp_path / "aside")
    assert "no safetensors weights (diffusion_pytorch_model.safetensors)" in refusals(study(tmp_path, vae))[0]
    (vae / "diffusion_pytorch_model.bin").write_bytes(b"pickle")
    [pickled] = refusals(study(tmp_path, vae))
    assert "diffusion_pytorch_model.bin may hold code and is not opened" in pickled
    (tmp_path / "aside").rename(weights)
    content = weights.read_bytes()
    weights.write_bytes(content[:-100])
    assert "bytes are there" in refusals(study(tmp_path, vae))[0]
    weights.write_bytes(content)
    config = json.loads((vae / "config.json").read_text())
    for changes, reason in (
        (
            {"_class_name": "ConsistencyDecoderVAE"},
            "'ConsistencyDecoderVAE' is not an autoencoder",
        ),
        ({"layers_per_block": 2}, "the weights lack"),
        ({"latent_channels": 8}, "but config.json asks for"),
    ):
        (vae / "config.json").write_text(json.dumps({**config, **changes}))
        [found] = refusals(study(tmp_path, vae))
        assert reason in found


@pytest.mark.parametrize(
    ("name", "more", "extra", "reason"),
    [
        ("AutoencoderKL", ("probes:", "probes:"), ", tilling: true", "unknown setting 'tilling' of model 'released'"),
        ("AutoencoderKL", ("  loss:", "  norm: rms\n  loss:"), "", "only padding can be set, found norm 'rms'"),
        ("AutoencoderKL", ("  loss:", "  norm: {groups: 4, level: group}\n  loss:"), "", "found settings of norm"),
        ("AutoencoderKL", ("  loss:", "  upsample: pixel_shuffle\n  loss:"), "", "found upsample 'pixel_shuffle'"),
        ("AutoencoderKLWan", ("  loss:", "  padding: reflect\n  loss:"), "", "AutoencoderKLWan pads in its own code"),
        ("AutoencoderKLWan", ("probes:", "probes:"), ", checkpointing: true", "has no gradient checkpointing"),
        ("AutoencoderTiny", ("kl: 1e-4}", "kl: 0.5}"), "", "posterior has no width: 'kl' has nothing to act on"),
        ("AutoencoderDC", ("crop: 16", "crop: 17"), "", "crop must be a multiple of the stride 2 of model 'released'"),
        ("AutoencoderKL", ("lr: 3e-3", "lr: 3e-3, freeze_parts: [encoder.convin]"), "", "'encoder.conv_in'?"),
        ("AutoencoderKL", ("lr: 3e-3", "lr: 3e-3, freeze_parts: [encoder, quant_conv]"), "", "write 'freeze: encoder'"),
    ],
)  # fmt: skip
def test_settings_that_it_cannot_have_are_refused(
    name: str, more: tuple[str, str], extra: str, reason: str, folder: Path, tmp_path: Path
) -> None:
    varied = ("loss.kl: [1, 1e-4]", "loss.l2: [1, 2]")
    without_kl = (("l2: 1.0, kl: 1e-4", "l2: 1.0"),) if name == "AutoencoderDC" else ()
    found = refusals(study(tmp_path, folder / name, varied, *without_kl, more, extra=extra))
    assert found and all(reason in message for message in found), found


@pytest.mark.parametrize(
    ("name", "frames", "reason"),
    [
        ("AutoencoderKLCogVideoX", 5, "takes 1 + 8 k frames, found 5; the nearest are 1 and 9"),
        ("AutoencoderKL", 5, "takes pictures, found clips of 5 frames"),
        ("AutoencoderKLCogVideoX", 9, ""),
        ("AutoencoderKLWan", 5, ""),
    ],
)
def test_clips_must_fit_the_frames_of_a_latent_frame(
    name: str, frames: int, reason: str, folder: Path, tmp_path: Path
) -> None:
    data = ("level: leaves, crop: 16, resize: none, heldout_size: 32, heldout_count: 4", f"{CLIPS}, frames: {frames}")
    found = refusals(study(tmp_path, folder / name, data))
    assert (not found) if not reason else (found and all(reason in message for message in found)), found


def test_nothing_heavy_is_needed_to_plan_and_the_content_of_the_folder_is_known(folder: Path, tmp_path: Path) -> None:
    trial: Trial = expand(load_study(study(tmp_path, folder / "AutoencoderKL")))[0]
    settings = trial.treatment.recipe.parts["model"].settings
    names = [name.rpartition("/")[2] for name in settings.content_paths()]
    assert names == ["config.json", "diffusion_pytorch_model.safetensors"]
    assert "temporal_conv" not in trial.treatment.recipe.plain()


def test_padding_acts_on_the_half_that_it_is_for(folder: Path) -> None:
    path = folder / "AutoencoderKL"
    plain = build_model(recipe(path)).eval()
    decoder = build_model(recipe(path, {"level": "circular", "where": "decoder"})).eval()
    both = build_model(recipe(path, {"level": "circular"})).eval()
    assert plain.state_dict().keys() == both.state_dict().keys()
    x = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        z = plain.encode(x).mean
        assert torch.equal(decoder.encode(x).mean, z)
        assert not torch.allclose(both.encode(x).mean, z)
        assert torch.equal(decoder.decode(z), both.decode(z)) and not torch.allclose(plain.decode(z), both.decode(z))
        rolled = both.decode(z.roll((1, 2), (2, 3)))
        torch.testing.assert_close(rolled, both.decode(z).roll((2, 4), (2, 3)), rtol=1e-4, atol=1e-4)


def test_parts_that_are_frozen_are_named_as_in_the_released_weights(folder: Path) -> None:
    vae = build_model(recipe(folder / "AutoencoderKL"))
    freeze(vae, "none", ["encoder.down_blocks", "decoder.up_blocks.1"])
    frozen = {name for name, parameter in vae.named_parameters() if not parameter.requires_grad}
    heads = ("model.encoder.down_blocks.", "model.decoder.up_blocks.1.")
    assert frozen == {name for name, _ in vae.named_parameters() if name.startswith(heads)} and frozen
