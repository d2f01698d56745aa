"""Starting from released autoencoders: diffusers' own output, every layout, and what is refused beforehand."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL
from safetensors.torch import load_file, save_file
from torch import nn

from ablate.driver.preflight import validate
from ablate.errors import StudyError
from ablate.slots import registry
from ablate.slots.training import Autoencoder, Layers
from ablate.study.document import read_document
from tests.support.studies import Write

LAYOUTS: dict[str, dict[str, Any]] = {
    "sd": {"latent_channels": 4},
    "sd3": {"latent_channels": 16, "use_quant_conv": False, "use_post_quant_conv": False},
    "flux": {"latent_channels": 16, "use_quant_conv": False, "use_post_quant_conv": False, "shift_factor": 0.1159},
}


def save(folder: Path, **settings: Any) -> AutoencoderKL:
    """A small autoencoder of a layout with random weights, written by diffusers."""
    torch.manual_seed(0)
    levels = {"down_block_types": ["DownEncoderBlock2D"] * 3, "up_block_types": ["UpDecoderBlock2D"] * 3}
    released = AutoencoderKL(
        block_out_channels=[8, 8, 16], layers_per_block=2, norm_num_groups=4, **levels, **settings
    )  # fmt: skip
    released.save_pretrained(folder)
    return released.eval()


def small(latent_channels: int, channels: tuple[int, ...] = (8, 8, 16)) -> Autoencoder:
    parts = Layers(
        padding=registry.build("padding", "zeros", {}),
        norm=partial(registry.build, "norm", "group", {"groups": 4}),
        upsample=partial(registry.build, "upsample", "nearest_conv", {}),
        downsample=partial(registry.build, "downsample", "strided_conv", {}),
    )
    settings = {"channels": list(channels), "latent_channels": latent_channels, "blocks": 2}
    vae: Autoencoder = registry.build("model", "image_kl", settings, parts, parts)
    return vae.eval()


def initialise(path: Path, net: nn.Module) -> None:
    registry.build("init", "checkpoint", {"path": str(path)}, lambda name: len(name))(net)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("inside", ["", "vae"])
def test_the_model_is_then_the_released_one(tmp_path: Path, layout: str, inside: str) -> None:
    released = save(tmp_path / inside, **LAYOUTS[layout])
    vae = small(LAYOUTS[layout]["latent_channels"])
    initialise(tmp_path, vae)
    x = torch.rand(2, 3, 32, 48, generator=torch.Generator().manual_seed(1)) * 2 - 1
    with torch.no_grad():
        found, expected = vae.encode(x), released.encode(x).latent_dist
        assert torch.allclose(found.mean, expected.mean, atol=1e-5)
        assert torch.allclose(found.logvar, expected.logvar, atol=1e-5)
        assert torch.allclose(vae.decode(found.mean), released.decode(expected.mean).sample, atol=1e-5)
    assert all(parameter.requires_grad and parameter.dtype == torch.float32 for parameter in vae.parameters())


def test_old_names_of_attention_and_half_precision_load_too(tmp_path: Path) -> None:
    save(tmp_path, **LAYOUTS["sd"])
    file = tmp_path / "diffusion_pytorch_model.safetensors"
    new = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    weights = {name: tensor.half() for name, tensor in load_file(file).items()}
    for now, before in new.items():
        weights = {name.replace(f"attentions.0.{now}.", f"attentions.0.{before}."): t for name, t in weights.items()}
    save_file(weights, file)
    vae = small(4)
    initialise(tmp_path, vae)
    expected = weights["encoder.mid_block.attentions.0.query.weight"].float()
    assert torch.equal(vae.get_parameter("encoder.mid_block.attentions.0.to_q.weight"), expected)


def test_a_discriminator_starts_afresh(tmp_path: Path) -> None:
    save(tmp_path, **LAYOUTS["sd"])
    nets = [nn.Sequential(nn.Conv2d(3, 4, 3)) for _ in range(2)]
    initialise(tmp_path, nets[0])
    registry.build("init", "scratch", {}, lambda name: len(name))(nets[1])
    assert torch.equal(nets[0][0].weight, nets[1][0].weight)


def test_weights_of_another_model_are_refused(tmp_path: Path) -> None:
    save(tmp_path, **LAYOUTS["sd"])
    with pytest.raises(ValueError, match="does not fit the model: size mismatch for encoder"):
        initialise(tmp_path, small(8))


def study(write_study: Write, path: Path, model: str) -> None:
    """Check a study that starts from `path`."""
    path = write_study(
        ("model: {level: image_kl, channels: [8, 8], latent_channels: 4, blocks: 1}", f"model: {model}"),
        ("padding: reflect", f"padding: reflect\n  init: {{level: checkpoint, path: {path}}}"),
    )
    validate(read_document(path), None, (), gpu=False)


MODEL = "{level: image_kl, channels: [8, 8, 16], latent_channels: 4}"


def test_what_cannot_be_is_said_before_anything_starts(write_study: Write, tmp_path: Path) -> None:
    folder = tmp_path / "released"
    with pytest.raises(StudyError, match=r"released does not exist; nothing is downloaded"):
        study(write_study, folder, MODEL)
    folder.mkdir()
    with pytest.raises(StudyError, match=r"released holds no config\.json, nor does its vae/"):
        study(write_study, folder, MODEL)
    save(folder, **LAYOUTS["sd"])
    study(write_study, folder, MODEL)
    with pytest.raises(StudyError) as error:
        study(write_study, folder, "{level: image_kl, channels: [8, 16], latent_channels: 16}")
    [problem] = error.value.problems
    assert "found model.channels [8, 16], expected [8, 8, 16]; model.latent_channels 16, expected 4" in problem.message
    assert (problem.line, "treatment 'baseline'" in problem.message) == (8, True)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "_class_name": "AutoencoderDC"}))
    with pytest.raises(StudyError, match="is of 'AutoencoderDC'; expected 'AutoencoderKL'"):
        study(write_study, folder, MODEL)
    (folder / "config.json").write_text("[]")
    with pytest.raises(StudyError, match=r"config\.json is no JSON object"):
        study(write_study, folder, MODEL)
    save(folder, **LAYOUTS["sd"])
    (folder / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(StudyError, match=r"holds no diffusion_pytorch_model\.safetensors"):
        study(write_study, folder, MODEL)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"act_fn": "relu"}, "act_fn relu, expected silu"),
        ({"in_channels": 4}, "in_channels 4, expected 3"),
        ({"down_block_types": ["AttnDownEncoderBlock2D"] * 3}, "down_block_types"),
        ({"use_magic": 1}, "use_magic 1, which no AutoencoderKL has"),
        ({"block_out_channels": 8}, "must give block_out_channels, a list"),
        ({"latent_channels": "4"}, "latent_channels, a whole number"),
    ],
)
def test_settings_that_image_kl_would_ignore_are_refused(
    write_study: Write, tmp_path: Path, settings: dict[str, Any], reason: str
) -> None:
    save(tmp_path, **LAYOUTS["sd"])
    file = tmp_path / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **settings}))
    with pytest.raises(StudyError, match=reason):
        study(write_study, tmp_path, MODEL)


def test_files_that_are_no_weights_are_found_before_training(write_study: Write, tmp_path: Path) -> None:
    save(tmp_path, **LAYOUTS["sd"])
    file = tmp_path / "diffusion_pytorch_model.safetensors"
    whole = file.read_bytes()
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n"
    for content, reason in ((pointer, "a pointer of Git LFS"), (whole[:-9], "bytes are there"), (b"", "is empty")):
        file.write_bytes(content)
        with pytest.raises(StudyError, match=reason):
            study(write_study, tmp_path, MODEL)
