"""Released weights as people have them: wrapped, prefixed, sharded, or not what their names and settings say."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from ablate.probing.load import load_vae
from tests.support.ldm import ldm_tensors, model
from tests.support.released import LTX23_VAE, SMALL, ltx_tensors, saved, write_ltx

diffusers = pytest.importorskip("diffusers")


CPU = torch.device("cpu")
WEIGHTS = "diffusion_pytorch_model.safetensors"


def configure(folder: Path, **settings: Any) -> None:
    """Change settings of a config.json; None removes one."""
    file = folder / "config.json"
    config = {**json.loads(file.read_text()), **settings}
    file.write_text(json.dumps({name: value for name, value in config.items() if value is not None}))


def rewrite(folder: Path, change: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> None:
    save_file(change(load_file(folder / WEIGHTS)), folder / WEIGHTS)


@pytest.mark.parametrize("name", SMALL)
def test_a_tensor_or_a_setting_too_many_is_refused_in_every_class(name: str, tmp_path: Path) -> None:
    saved(name, tmp_path)
    rewrite(tmp_path, lambda tensors: tensors | {"decoder.extra.weight": torch.ones(2)})
    with pytest.raises(ValueError, match=r"no place for 1 of the tensors, such as decoder\.extra\.weight"):
        load_vae(tmp_path, CPU)
    saved(name, tmp_path)
    configure(tmp_path, use_magic=True)
    with pytest.raises(ValueError, match=rf"config\.json: {name} has no setting 'use_magic', so it would be ignored"):
        load_vae(tmp_path, CPU)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"layers_per_block": 1}, r"weights .*different models|no place for"),  # the file holds two
        ({"latent_channels": 8}, r"has shape \(\d+.*\), but config\.json asks for \("),
        ({"block_out_channels": [10**5, 10**5], "norm_num_groups": 1}, "has shape"),  # and no memory is taken
        ({"mid_block_add_attention": False}, "no place for"),
        ({"latent_channels": "4"}, r"config\.json: AutoencoderKL cannot be built from it"),
        ({"block_out_channels": 8}, r"config\.json: AutoencoderKL cannot be built from it"),
        ({"norm_num_groups": 0}, r"config\.json: AutoencoderKL cannot be built from it"),
        ({"act_fn": "swoosh"}, r"config\.json: AutoencoderKL cannot be built from it"),
        ({"down_block_types": ["DownEncoderBlock3D"] * 2}, r"config\.json: AutoencoderKL cannot be built from it"),
        ({"layer_per_block": 2}, "did you mean 'layers_per_block'"),
        ({"_class_name": ["AutoencoderKL"]}, "is not an autoencoder that ablate can load"),
    ],
)
def test_a_configuration_of_another_model_is_refused(settings: dict[str, Any], reason: str, tmp_path: Path) -> None:
    saved("AutoencoderKL", tmp_path, layers_per_block=2)
    configure(tmp_path, **settings)
    with pytest.raises(ValueError, match=reason) as refusal:
        load_vae(tmp_path, CPU)
    assert str(tmp_path) in str(refusal.value)


@pytest.mark.parametrize("text", ["[]", "null", "{", '"AutoencoderKL"', "[" * 100_000, "\udcff"])
def test_a_config_that_is_no_object_is_refused(text: str, tmp_path: Path) -> None:
    saved("AutoencoderKL", tmp_path)
    (tmp_path / "config.json").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(ValueError, match=r"config\.json is no JSON object"):
        load_vae(tmp_path, CPU)


def test_fp16_weights_alone_and_shards_are_loaded(tmp_path: Path) -> None:
    made = saved("AutoencoderKL", tmp_path / "fp16")
    made.half().save_pretrained(tmp_path / "fp16", variant="fp16")
    (tmp_path / "fp16" / WEIGHTS).unlink()
    made.float().save_pretrained(tmp_path / "shards", max_shard_size="10KB")
    assert len([*(tmp_path / "shards").glob("*.safetensors")]) > 2
    x = torch.rand(1, 3, 32, 32) * 2 - 1
    with torch.no_grad():
        expected = made.encode(x).latent_dist.mode()
        for folder in ("fp16", "shards"):
            torch.testing.assert_close(load_vae(tmp_path / folder, CPU).encode(x).mean, expected, rtol=1e-5, atol=1e-5)
    first = sorted((tmp_path / "shards").glob("*.safetensors"))[0]
    first.unlink()
    with pytest.raises(ValueError, match=rf"the shard {first.name} is missing"):
        load_vae(tmp_path / "shards", CPU)
    index = tmp_path / "shards" / f"{WEIGHTS}.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "../../etc/passwd"}}))
    with pytest.raises(ValueError, match="is not a file of its folder"):
        load_vae(tmp_path / "shards", CPU)


@pytest.mark.parametrize(
    "prefix", ["module.", "_orig_mod.", "model.", "ema.", "vae.", "module._orig_mod.", "model.vae."]
)
def test_a_prefix_of_all_names_is_left_out_with_a_note(prefix: str, tmp_path: Path) -> None:
    made = saved("AutoencoderKL", tmp_path)
    rewrite(tmp_path, lambda tensors: {prefix + name: tensor for name, tensor in tensors.items()})
    notes: list[str] = []
    x = torch.rand(1, 3, 32, 32) * 2 - 1
    with torch.no_grad():
        expected = made.encode(x).latent_dist.mode()
        torch.testing.assert_close(load_vae(tmp_path, CPU, say=notes.append).encode(x).mean, expected)
    assert notes == [f"{tmp_path}: the prefix '{prefix}' of its tensors was left out"]


def test_a_prefix_before_some_names_only_is_not_left_out(tmp_path: Path) -> None:
    saved("AutoencoderKL", tmp_path)
    rewrite(tmp_path, lambda tensors: {("module." * (i > 0)) + name: t for i, (name, t) in enumerate(tensors.items())})
    with pytest.raises(ValueError, match="the weights lack"):
        load_vae(tmp_path, CPU)


@pytest.mark.parametrize("prefix", ["", "module.", "model.first_stage_model.", "_orig_mod.vae."])
@pytest.mark.parametrize("keys", [(), ("state_dict",), ("model",), ("vae",), ("model", "state_dict"), ("ema",)])
def test_a_pickle_may_wrap_its_tensors(prefix: str, keys: tuple[str, ...], tmp_path: Path) -> None:
    made = model()
    content: Any = {prefix + name: tensor for name, tensor in ldm_tensors(made).items()}
    for key in keys:
        content = {key: content, "step": 3, "lr": torch.tensor(0.1)}
    torch.save(content, tmp_path / "a.pt")
    notes: list[str] = []
    x = torch.rand(1, 3, 32, 32) * 2 - 1
    with torch.no_grad():
        expected = made.encode(x).latent_dist.mode()
        torch.testing.assert_close(load_vae(tmp_path / "a.pt", CPU, say=notes.append).encode(x).mean, expected)
    assert len(notes) == (prefix != "")


def test_tensors_of_a_vae_that_no_part_uses_are_refused(tmp_path: Path) -> None:
    save_file({**ldm_tensors(model(), "vae."), "vae.refiner.weight": torch.ones(2)}, tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match=r"1 tensors that are no part of .*, such as vae\.refiner\.weight"):
        load_vae(tmp_path / "a.safetensors", CPU)
    several = {**ldm_tensors(model(), "one."), **ldm_tensors(model(), "two.")}
    save_file(several, tmp_path / "b.safetensors")
    with pytest.raises(ValueError, match=r"holds several autoencoders, one\., two\."):
        load_vae(tmp_path / "b.safetensors", CPU)


def test_a_file_of_ltx_with_more_than_its_configuration_says_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "a.safetensors"
    write_ltx(file, {**ltx_tensors(), "vae.refiner.weight": torch.ones(2)})
    with pytest.raises(ValueError, match=r"the tensor vae\.refiner\.weight has no place"):
        load_vae(file, CPU)
    write_ltx(file, ltx_tensors(), {**LTX23_VAE, "activation": "relu"})
    with pytest.raises(ValueError, match="unknown setting 'activation' in the configuration of the VAE"):
        load_vae(file, CPU)


FAULTS: dict[str, tuple[bytes, str]] = {
    "lfs": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n",
        "a pointer of Git LFS",
    ),
    "html": (b"<!DOCTYPE html><html>404", "a web page"),
    "xml": (b"\n<?xml version='1.0'?><Error>AccessDenied</Error>", "a web page"),
    "empty": (b"", "the file is empty"),
    "gzip": (gzip.compress(b"weights"), "compressed by gzip"),
    "claim": ((2**60).to_bytes(8, "little") + b"{}", f"its header needs {2**60} bytes, the file has 10"),
    "short": (b"\x04", "damaged"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_files_that_are_no_weights_are_named_with_the_reason(fault: str, tmp_path: Path) -> None:
    content, reason = FAULTS[fault]
    saved("AutoencoderKL", tmp_path / "folder")
    files = [tmp_path / "folder" / WEIGHTS, tmp_path / "single.safetensors"]
    for file in files:
        file.write_bytes(content)
        with pytest.raises(ValueError, match=f"{file}.*{reason}"):
            load_vae(file.parent if file.name == WEIGHTS else file, CPU)
    if fault not in {"claim", "short"}:
        (tmp_path / "single.ckpt").write_bytes(content)
        with pytest.raises(ValueError, match=reason):
            load_vae(tmp_path / "single.ckpt", CPU)


@pytest.mark.parametrize("part", [0.3, 0.9, 0.9999])
def test_a_safetensors_file_cut_short_is_refused_before_it_is_read(part: float, tmp_path: Path) -> None:
    saved("AutoencoderKL", tmp_path)
    file = tmp_path / WEIGHTS
    file.write_bytes(file.read_bytes()[: int(part * file.stat().st_size)])
    with pytest.raises(ValueError, match=r"damaged: \d+ of \d+ bytes are there"):
        load_vae(tmp_path, CPU)
