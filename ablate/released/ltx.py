"""Loads single files of LTX-2 as Lightricks releases them: a safetensors file with its configuration in the header.

The header's `config` is JSON, whose `vae` lists the blocks of both halves; a diffusers `AutoencoderKLLTX2Video` is
built from it. The converter in diffusers (0.42) knows only the layout of LTX-2.0 and guesses it from the names of
tensors; LTX-2.3 and the convolutional VAE of LTX-2.5 have one stage more. The file may hold the VAE alone or the whole
model, with the VAE's weights under `vae.`.
"""

from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from ablate.released.files import ltx_config

HALVES = ("encoder.", "decoder.")


STATISTICS = {"mean-of-means": "latents_mean", "std-of-means": "latents_std"}
"""LTX's name of a latent statistic -> diffusers' name."""


DIRECTIONS = {"space": "spatial", "time": "temporal", "all": "spatiotemporal"}
"""What a sampler of LTX compresses -> the type of sampler in diffusers."""


READ = {
    "_class_name", "causal_decoder", "decoder_blocks", "decoder_spatial_padding_mode", "dims", "encoder_blocks",
    "encoder_spatial_padding_mode", "in_channels", "latent_channels", "latent_log_var", "norm_layer", "out_channels",
    "patch_size", "spatial_padding_mode", "timestep_conditioning",
}  # fmt: skip
"""Settings of the configuration that the model is built from."""


REDUNDANT = {
    "decoder_base_channels", "encoder_base_channels", "normalize_latent_channels", "scaling_factor", "use_quant_conv",
}  # fmt: skip
"""Settings that change no round trip, or that the shapes of the weights show as well."""


LEAST_LOGVAR = -30.0
"""The log-variance of a VAE whose `latent_log_var` is constant."""


Blocks = list[tuple[str, dict[str, Any]]]
"""The kind and settings of each block."""


def embedded_config(file: Path) -> dict[str, Any] | None:
    """The `vae` part of the configuration in a file's header; None if there is none."""
    with safe_open(file, framework="pt") as opened:
        return ltx_config(opened.metadata())


def load(file: Path, config: dict[str, Any]) -> Any:
    """Load the file's VAE as a diffusers model in fp32; every weight is used.

    Raises ValueError for an unknown configuration, KeyError for an incomplete one, RuntimeError if names or shapes of
    weights do not fit.
    """
    from diffusers import AutoencoderKLLTX2Video

    tensors = load_file(file)
    whole = any(key.startswith("vae.") for key in tensors)  # a file of the whole model
    weights: dict[str, Tensor] = {}
    for key, tensor in tensors.items():
        name = _diffusers_name(key.removeprefix("vae."), config)
        if name is not None:
            weights[name] = tensor
        elif (key.startswith("vae.") or not whole) and "per_channel_statistics." not in key:
            raise ValueError(f"{file}: the tensor {key} has no place in the VAE that the configuration describes")
    try:
        model = AutoencoderKLLTX2Video(**_settings(config, weights))
        if config.get("latent_log_var", "uniform") == "constant":  # the output for it is not used, whatever its weights
            weights["encoder.conv_out.conv.weight"][-1] = 0
            weights["encoder.conv_out.conv.bias"][-1] = LEAST_LOGVAR
        model.load_state_dict(weights, strict=True)
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error
    return model.float().eval()


def _settings(config: dict[str, Any], weights: dict[str, Tensor]) -> dict[str, Any]:
    """The arguments of the diffusers class."""
    if config.get("_class_name", "CausalVideoAutoencoder") != "CausalVideoAutoencoder":
        raise ValueError(f"'{config['_class_name']}' is not a convolutional autoencoder, and not supported")
    for name, value in (("norm_layer", "pixel_norm"), ("timestep_conditioning", False), ("dims", 3)):
        if config.get(name, value) != value:
            raise ValueError(f"{name} {config[name]!r} is not supported, only {value!r}")
    if config.get("latent_log_var", "uniform") not in {"uniform", "constant"}:
        raise ValueError(f"latent_log_var {config['latent_log_var']!r} is not supported, only uniform and constant")

    unknown = sorted(config.keys() - READ - REDUNDANT - {name for name in config if name.startswith("_")})
    if unknown:
        raise ValueError(f"unknown setting '{unknown[0]}' in the configuration of the VAE; it would be ignored")

    # Blocks and channels; the file lists both halves from the pixels inwards
    down = _blocks(config, "encoder_blocks")
    up = _blocks(config, "decoder_blocks")[::-1]
    decoder_channels = [weights["decoder.conv_in.conv.weight"].shape[0]]
    encoder_channels = [weights["encoder.conv_in.conv.weight"].shape[0]]
    for _, settings in down[1::2]:
        encoder_channels.append(encoder_channels[-1] * settings.get("multiplier", 2))
    for _, settings in up[1::2]:
        decoder_channels.append(decoder_channels[-1] // settings.get("multiplier", 2))
    down_stages = len(down) // 2
    up_stages = len(up) // 2
    return {
        "in_channels": config.get("in_channels", 3), "out_channels": config.get("out_channels", 3),
        "latent_channels": config["latent_channels"], "patch_size": config.get("patch_size", 4),
        "block_out_channels": encoder_channels[1:],
        "down_block_types": ("LTX2VideoDownBlock3D",) * down_stages,
        "layers_per_block": [settings["num_layers"] for _, settings in down[::2]],
        "spatio_temporal_scaling": (True,) * down_stages,
        "downsample_type": [_direction(name, "_res") for name, _ in down[1::2]],
        # diffusers reverses all lists of the decoder except the types
        "decoder_block_out_channels": decoder_channels[-2::-1],
        "decoder_layers_per_block": [settings["num_layers"] for _, settings in up[::-2]],
        "decoder_spatio_temporal_scaling": (True,) * up_stages,
        "decoder_inject_noise": (False,) * (up_stages + 1),
        "upsample_type": [_direction(name, "") for name, _ in up[1::2]],
        "upsample_residual": [settings.get("residual", False) for _, settings in up[-2::-2]],
        "upsample_factor": [settings.get("multiplier", 2) for _, settings in up[-2::-2]],
        "decoder_causal": config.get("causal_decoder", False),
        "encoder_spatial_padding_mode": config.get("encoder_spatial_padding_mode", "zeros"),
        "decoder_spatial_padding_mode": config.get(
            "decoder_spatial_padding_mode", config.get("spatial_padding_mode", "reflect")
        ),
    }  # fmt: skip


def _blocks(config: dict[str, Any], name: str) -> Blocks:
    """The blocks of one half: residual blocks and samplers alternate, with residual blocks at both ends.

    Raises ValueError for any other list.
    """
    blocks: Blocks = [(kind, settings) for kind, settings in config[name]]
    for i, (kind, settings) in enumerate(blocks):
        if (kind == "res_x") != (i % 2 == 0) or settings.get("inject_noise") or len(blocks) % 2 == 0:
            raise ValueError(
                f"{name} do not alternate between res_x without noise and samplers: block {i} is {kind} {settings}"
            )
    return blocks


def _direction(name: str, suffix: str) -> str:
    """`compress_space` + suffix to `spatial`, and so on."""
    direction = DIRECTIONS.get(name.removeprefix("compress_").removesuffix(suffix))
    if direction is None or not name.endswith(suffix):
        raise ValueError(f"the block '{name}' is not supported")
    return direction


def _diffusers_name(name: str, config: dict[str, Any]) -> str | None:
    """A tensor's name in diffusers; None if its class has no such tensor."""
    if name.startswith("per_channel_statistics."):
        return STATISTICS.get(name.removeprefix("per_channel_statistics."))
    if not name.startswith(HALVES):
        return None
    half, part, *rest = name.split(".")
    if part not in {"down_blocks", "up_blocks"}:
        return name
    index = int(rest[0])
    if part == "down_blocks":
        is_middle = index == len(config["encoder_blocks"]) - 1
        stage = index // 2
        sampler = ".downsamplers.0"
    else:
        is_middle = index == 0
        stage = (index - 1) // 2
        sampler = ".upsamplers.0"
    module = "mid_block" if is_middle else f"{part}.{stage}" + sampler * (index % 2)
    return ".".join([half, module, *("resnets" if word == "res_blocks" else word for word in rest[1:])])
