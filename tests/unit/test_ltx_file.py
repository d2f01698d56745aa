"""Single files of LTX-2: every tensor finds its place, and what is built otherwise is refused."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from ablate.probing.load import load_vae
from ablate.released.ltx import load
from tests.support.released import LTX23_VAE, ltx_tensors, write_ltx

diffusers = pytest.importorskip("diffusers")


CPU = torch.device("cpu")


SMALL20: dict[str, Any] = {
    **LTX23_VAE,
    "encoder_blocks": [
        *LTX23_VAE["encoder_blocks"][:7], ["compress_all_res", {"multiplier": 2}], ["res_x", {"num_layers": 1}],
    ],
    "decoder_blocks": [
        ["res_x", {"num_layers": 1, "inject_noise": False}], ["compress_all", {"residual": True, "multiplier": 2}],
        ["res_x", {"num_layers": 1, "inject_noise": False}], ["compress_all", {"residual": True, "multiplier": 2}],
        ["res_x", {"num_layers": 2, "inject_noise": False}], ["compress_all", {"residual": True, "multiplier": 2}],
        ["res_x", {"num_layers": 1, "inject_noise": False}],
    ],
}  # fmt: skip


del SMALL20["spatial_padding_mode"]


def changed(**settings: Any) -> dict[str, Any]:
    return {**copy.deepcopy(LTX23_VAE), **settings}


def test_the_configuration_is_that_of_ltx_2_3(tmp_path: Path) -> None:
    """Widths as in the release, relative to 128: decoder (256, 512, 512, 1024), layers 4 6 4 2 2 there."""
    model = load(write_ltx(tmp_path / "a.safetensors", ltx_tensors()), LTX23_VAE)
    config = model.config
    assert tuple(config.decoder_block_out_channels) == (16, 32, 32, 64)
    assert tuple(config.block_out_channels) == (16, 32, 64, 64)
    assert tuple(config.upsample_factor) == (2, 2, 1, 2)
    assert tuple(config.upsample_type) == ("spatiotemporal", "spatiotemporal", "temporal", "spatial")
    assert tuple(config.decoder_layers_per_block) == (2, 3, 1, 1, 1)
    assert not any(config.upsample_residual)
    assert (config.encoder_spatial_padding_mode, config.decoder_spatial_padding_mode) == ("zeros", "zeros")


def test_tensors_are_where_they_belong(tmp_path: Path) -> None:
    tensors = ltx_tensors()
    state = load(write_ltx(tmp_path / "a.safetensors", tensors), LTX23_VAE).state_dict()
    places = {
        "encoder.down_blocks.0.res_blocks.1.conv2.conv.weight": "encoder.down_blocks.0.resnets.1.conv2.conv.weight",
        "encoder.down_blocks.3.conv.conv.bias": "encoder.down_blocks.1.downsamplers.0.conv.conv.bias",
        "encoder.down_blocks.8.res_blocks.0.conv1.conv.weight": "encoder.mid_block.resnets.0.conv1.conv.weight",
        "decoder.up_blocks.0.res_blocks.0.conv1.conv.weight": "decoder.mid_block.resnets.0.conv1.conv.weight",
        "decoder.up_blocks.1.conv.conv.weight": "decoder.up_blocks.0.upsamplers.0.conv.conv.weight",
        "decoder.up_blocks.2.res_blocks.0.conv1.conv.bias": "decoder.up_blocks.0.resnets.0.conv1.conv.bias",
        "decoder.up_blocks.7.conv.conv.weight": "decoder.up_blocks.3.upsamplers.0.conv.conv.weight",
        "decoder.up_blocks.8.res_blocks.1.conv1.conv.weight": "decoder.up_blocks.3.resnets.1.conv1.conv.weight",
        "decoder.conv_out.conv.bias": "decoder.conv_out.conv.bias",
        "per_channel_statistics.std-of-means": "latents_std",
    }  # fmt: skip
    for released, place in places.items():
        assert torch.equal(state[place], tensors[f"vae.{released}"].float()), released


def test_names_agree_with_the_converter_of_diffusers_where_it_knows_the_layout(tmp_path: Path) -> None:
    from diffusers.loaders.single_file_utils import convert_ltx2_vae_to_diffusers

    tensors = ltx_tensors(SMALL20)
    ours = load(write_ltx(tmp_path / "a.safetensors", tensors, SMALL20), SMALL20)
    theirs = convert_ltx2_vae_to_diffusers({name: t for name, t in tensors.items() if name.startswith("vae.")})
    state = ours.state_dict()
    assert set(state) == set(theirs)
    assert all(torch.equal(state[name], tensor.float()) for name, tensor in theirs.items())
    assert all(ours.config.upsample_residual) and ours.config.decoder_spatial_padding_mode == "reflect"


def test_the_round_trip_is_that_of_the_model(tmp_path: Path) -> None:
    """With the prefix `vae.` and without, as in a file of the VAE alone."""
    tensors = ltx_tensors()
    alone = {name.removeprefix("vae."): tensor for name, tensor in tensors.items() if name.startswith("vae.")}
    whole, part = tmp_path / "whole.safetensors", tmp_path / "part.safetensors"
    write_ltx(whole, tensors)
    write_ltx(part, alone)
    x = torch.rand(1, 3, 64, 64) * 2 - 1
    model = load(whole, LTX23_VAE)
    with torch.no_grad():
        expected = model.decode(model.encode(x.unsqueeze(2)).latent_dist.mode()).sample.squeeze(2)
        for file in (whole, part):
            vae = load_vae(file, CPU)
            torch.testing.assert_close(vae.decode(vae.encode(x).mean), expected, rtol=1e-5, atol=1e-5)
    assert vae.stride == 32


def test_a_constant_log_variance_is_at_its_floor(tmp_path: Path) -> None:
    config = changed(latent_log_var="constant")
    vae = load_vae(write_ltx(tmp_path / "a.safetensors", ltx_tensors(), config), CPU)
    posterior = vae.encode(torch.rand(1, 3, 32, 32))
    assert (posterior.logvar == -30).all() and (posterior.mean != 0).any()


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"_class_name": "CausalDiffusionVAE"}, "'CausalDiffusionVAE' is not a convolutional autoencoder"),
        ({"timestep_conditioning": True}, "timestep_conditioning True is not supported"),
        ({"norm_layer": "group_norm"}, "norm_layer 'group_norm' is not supported"),
        ({"latent_log_var": "per_channel"}, "latent_log_var 'per_channel' is not supported"),
        (
            {"decoder_blocks": [["res_x", {"num_layers": 1}], ["res_x_y", {}]]},
            "decoder_blocks do not alternate",
        ),
        ({"patch_size": 2}, "the weights do not fit .*size mismatch"),
        ({"encoder_blocks": LTX23_VAE["encoder_blocks"][:7]}, "the weights do not fit"),
    ],
)
def test_what_is_built_otherwise_is_refused(settings: dict[str, Any], reason: str, tmp_path: Path) -> None:
    file = write_ltx(tmp_path / "a.safetensors", ltx_tensors(), changed(**settings))
    with pytest.raises(ValueError, match=f"{file}: .*{reason}"):
        load_vae(file, CPU)


@pytest.mark.parametrize("name", ["latent_channels", "encoder_blocks", "decoder_blocks"])
def test_a_configuration_that_lacks_something_is_refused(name: str, tmp_path: Path) -> None:
    config = changed()
    del config[name]
    with pytest.raises(ValueError, match=f"lack '{name}'"):
        load_vae(write_ltx(tmp_path / "a.safetensors", ltx_tensors(), config), CPU)


def test_a_tensor_too_few_or_too_many_is_refused(tmp_path: Path) -> None:
    few, many = ltx_tensors(), ltx_tensors()
    del few["vae.decoder.up_blocks.8.res_blocks.1.conv2.conv.bias"]
    many["vae.decoder.up_blocks.8.res_blocks.2.conv1.conv.bias"] = torch.zeros(2)
    for tensors, reason in ((few, "Missing key"), (many, "Unexpected key")):
        with pytest.raises(ValueError, match=reason):
            load_vae(write_ltx(tmp_path / "a.safetensors", tensors), CPU)


@pytest.mark.parametrize("text", ["{", "[]", json.dumps({"transformer": {}})])
def test_a_file_without_a_configuration_of_a_vae_is_refused(text: str, tmp_path: Path) -> None:
    save_file(ltx_tensors(), tmp_path / "a.safetensors", metadata={"config": text})
    with pytest.raises(ValueError, match="not a checkpoint of ablate"):
        load_vae(tmp_path / "a.safetensors", CPU)
