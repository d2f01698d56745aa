"""Small VAEs as released: each class of diffusers, one of them that is an identity, and random files of LTX-2."""

import json
from pathlib import Path
from typing import Any

import diffusers
import torch
from safetensors.torch import save_file
from torch import nn

from ablate.components.shared.measure import GREY_LEVELS

DOWN, UP = ("DownEncoderBlock2D",) * 2, ("UpDecoderBlock2D",) * 2


LDM: dict[str, Any] = {
    "block_out_channels": (8, 8), "down_block_types": DOWN, "up_block_types": UP, "norm_num_groups": 4,
}  # fmt: skip


WAN: dict[str, Any] = {
    "base_dim": 4, "z_dim": 4, "dim_mult": [1, 1, 1], "num_res_blocks": 1, "temperal_downsample": [False, True],
}  # fmt: skip


FOUR = {"latent_channels": 4, "block_out_channels": (8, 8, 8, 8), "layers_per_block": 1, "norm_num_groups": 4}


LTX: dict[str, Any] = {"latent_channels": 4, "layers_per_block": (1, 1, 1, 1, 1), "patch_size": 1}


SMALL: dict[str, dict[str, Any]] = {
    "AutoencoderKL": LDM,
    "AutoencoderKLFlux2": {**LDM, "latent_channels": 4},
    "AsymmetricAutoencoderKL": {
        "down_block_out_channels": (8, 8), "up_block_out_channels": (8, 8), "down_block_types": DOWN,
        "up_block_types": UP, "norm_num_groups": 4,
    },
    "AutoencoderTiny": {
        "encoder_block_out_channels": (8, 8), "decoder_block_out_channels": (8, 8), "num_encoder_blocks": (1, 1),
        "num_decoder_blocks": (1, 1),
    },
    "AutoencoderDC": {
        "latent_channels": 4, "attention_head_dim": 4, "encoder_block_out_channels": (8, 8),
        "decoder_block_out_channels": (8, 8), "encoder_layers_per_block": (1, 1), "decoder_layers_per_block": (1, 1),
        "encoder_qkv_multiscales": ((), ()), "decoder_qkv_multiscales": ((), ()),
    },
    "AutoencoderKLKVAE": {
        "channels": 32, "num_enc_blocks": 1, "num_dec_blocks": 1, "z_channels": 4, "ch_mult": (1, 1),
    },
    "AutoencoderKLHunyuanImage": {
        "in_channels": 3, "out_channels": 3, "latent_channels": 4, "block_out_channels": (32, 32),
        "layers_per_block": 1, "spatial_compression_ratio": 2, "sample_size": 64,
    },
    "VQModel": {**LDM, "num_vq_embeddings": 16},
    "AutoencoderKLWan": WAN,
    "AutoencoderKLQwenImage": WAN,
    "AutoencoderKLLTXVideo": {
        **LTX, "block_out_channels": (8, 8, 8, 8), "decoder_block_out_channels": (8, 8, 8, 8),
        "decoder_layers_per_block": (1, 1, 1, 1, 1),
    },
    "AutoencoderKLLTX2Video": {
        **LTX, "block_out_channels": (8, 16, 32, 64), "decoder_block_out_channels": (8, 16, 32),
        "decoder_layers_per_block": (1, 1, 1, 1),
    },
    "AutoencoderKLHunyuanVideo": FOUR,
    "AutoencoderKLCogVideoX": FOUR,
    "AutoencoderKLMagvit": FOUR,
    "AutoencoderKLCosmos": {
        "latent_channels": 4, "encoder_block_out_channels": (8, 8, 8, 8), "decode_block_out_channels": (8, 8, 8, 8),
        "attention_resolutions": (8,), "resolution": 64, "num_layers": 1, "patch_size": 4,
        "temporal_compression_ratio": 4,
    },
}  # fmt: skip


def saved(name: str, folder: Path, **changes: Any) -> Any:
    """A small model of diffusers, random but repeatable, saved to a folder.

    Frozen as ours: torch computes attention of weights that are trained in another way, with 2e-5 of difference.
    """
    torch.manual_seed(0)
    model = getattr(diffusers, name)(**{**SMALL[name], **changes}).eval().requires_grad_(False)
    model.save_pretrained(folder)
    return model


LARGE = 1e4
"""Held by channels of their own, so that the per-pixel norm divides by nearly the same everywhere."""


def identity(folder: Path, grid: float) -> Path:
    """An AutoencoderKLLTX2Video of stride 4 that gives back what it gets, and draws lines of period 4 on top.

    Rows alternate two by two by plus and minus `grid` grey levels, an rms of `grid`: 16 pixels of a patch are 16
    channels of the last convolution, whose bias draws the pattern, as in any decoder that unfolds patches.
    """
    patch, colours = 4, 48
    width = 2 * colours + 1
    model = diffusers.AutoencoderKLLTX2Video(
        latent_channels=width, block_out_channels=(width,), down_block_types=("LTX2VideoDownBlock3D",),
        decoder_block_out_channels=(width,), layers_per_block=(1, 1), decoder_layers_per_block=(1, 1),
        spatio_temporal_scaling=(False,), decoder_spatio_temporal_scaling=(False,), decoder_inject_noise=(False, False),
        downsample_type=("spatial",), upsample_type=("spatial",), upsample_residual=(False,), upsample_factor=(1,),
        patch_size=patch, decoder_causal=False,
    )  # fmt: skip
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.Conv3d):
                module.weight.zero_()
                module.bias.zero_()
        scale = LARGE / width**0.5  # what the norm divides by
        for half in (model.encoder, model.decoder):  # SiLU(a) - SiLU(-a) is a
            first, last = half.conv_in.conv, half.conv_out.conv
            _pass(first, range(colours), range(colours), 1)
            _pass(first, range(colours, 2 * colours), range(colours), -1)
            first.bias[-1] = LARGE
            _pass(last, range(colours), range(colours), scale)
            _pass(last, range(colours), range(colours, 2 * colours), -scale)
        model.encoder.conv_out.conv.bias[-1] = -30
        signs = torch.tensor([1.0, 1.0, -1.0, -1.0])
        pattern = signs.expand(3, patch, patch) * 2 * grid / GREY_LEVELS  # channels are colour, column, row of a patch
        model.decoder.conv_out.conv.bias.copy_(pattern.reshape(-1))
    model.save_pretrained(folder)
    return folder


def _pass(conv: nn.Conv3d, to: range, source: range, gain: float) -> None:
    """Let input channels through to output channels, one to one, at the middle tap of a 3 x 3 x 3 kernel."""
    for o, i in zip(to, source, strict=True):
        conv.weight[o, i, 1, 1, 1] = gain


LTX23_VAE: dict[str, Any] = {
    "_class_name": "CausalVideoAutoencoder", "dims": 3, "in_channels": 3, "out_channels": 3, "latent_channels": 8,
    "encoder_blocks": [
        ["res_x", {"num_layers": 2}], ["compress_space_res", {"multiplier": 2}], ["res_x", {"num_layers": 1}],
        ["compress_time_res", {"multiplier": 2}], ["res_x", {"num_layers": 1}],
        ["compress_all_res", {"multiplier": 2}], ["res_x", {"num_layers": 1}], ["compress_all_res", {"multiplier": 1}],
        ["res_x", {"num_layers": 1}],
    ],
    "decoder_blocks": [
        ["res_x", {"num_layers": 2}], ["compress_space", {"multiplier": 2}], ["res_x", {"num_layers": 3}],
        ["compress_time", {"multiplier": 2}], ["res_x", {"num_layers": 1}], ["compress_all", {"multiplier": 1}],
        ["res_x", {"num_layers": 1}], ["compress_all", {"multiplier": 2}], ["res_x", {"num_layers": 1}],
    ],
    "scaling_factor": 1.0, "norm_layer": "pixel_norm", "patch_size": 4, "latent_log_var": "uniform",
    "use_quant_conv": False, "causal_decoder": False, "timestep_conditioning": False,
    "normalize_latent_channels": False, "encoder_base_channels": 8, "decoder_base_channels": 8,
    "spatial_padding_mode": "zeros",
}  # fmt: skip
"""The embedded configuration of LTX-2.3 with fewer channels and layers."""


def ltx_tensors(config: dict[str, Any] = LTX23_VAE, seed: int = 0) -> dict[str, torch.Tensor]:
    """Random weights under the names of a released file, from the configuration alone, in bf16."""
    generator = torch.Generator().manual_seed(seed)
    found: dict[str, torch.Tensor] = {}

    def conv(name: str, inputs: int, outputs: int) -> None:
        weight = torch.randn(outputs, inputs, 3, 3, 3, generator=generator) / (27 * inputs) ** 0.5
        found[f"{name}.conv.weight"] = weight.bfloat16()
        found[f"{name}.conv.bias"] = (torch.randn(outputs, generator=generator) / 10).bfloat16()

    def half(prefix: str, blocks: list[Any], inputs: int, channels: int, outputs: int, *, up: bool) -> None:
        conv(f"{prefix}.conv_in", inputs, channels)
        for i, (kind, settings) in enumerate(blocks):
            place = f"{prefix}.{'up' if up else 'down'}_blocks.{i}"
            if kind == "res_x":
                for j in range(settings["num_layers"]):
                    conv(f"{place}.res_blocks.{j}.conv1", channels, channels)
                    conv(f"{place}.res_blocks.{j}.conv2", channels, channels)
                continue
            folded = {"space": 4, "time": 2, "all": 8}[kind.split("_")[1]]
            after = channels // settings["multiplier"] if up else channels * settings["multiplier"]
            conv(f"{place}.conv", channels, after * folded if up else after // folded)
            channels = after
        conv(f"{prefix}.conv_out", channels, outputs)

    latent, pixels = config["latent_channels"], 3 * config["patch_size"] ** 2
    half("vae.encoder", config["encoder_blocks"], pixels, latent, latent + 1, up=False)
    half("vae.decoder", config["decoder_blocks"][::-1], latent, 8 * latent, pixels, up=True)
    for name in ("channel", "mean-of-means", "mean-of-stds", "mean-of-stds_over_std-of-means", "std-of-means"):
        found[f"vae.per_channel_statistics.{name}"] = torch.ones(latent)
    found["model.diffusion_model.proj_in.weight"] = torch.zeros(2, 2)
    found["audio_vae.decoder.conv_in.conv.weight"] = torch.zeros(2, 2)
    return found


def write_ltx(file: Path, tensors: dict[str, torch.Tensor], config: dict[str, Any] = LTX23_VAE) -> Path:
    """A single file with its configuration in the header, as released."""
    embedded = {"transformer": {"_class_name": "AVTransformer3DModel"}, "vae": config}
    save_file(tensors, file, metadata={"config": json.dumps(embedded)})
    return file
