"""Loads single files in the layout of LDM: a latent diffusion autoencoder, alone or in a whole model.

The files are .safetensors, .ckpt or .pt. The layout is that of `AutoencoderKL` in Rombach et al. 2022, "High-Resolution
Image Synthesis with Latent Diffusion Models", in which Stable Diffusion 1 to 3, SDXL and Flux release their VAEs. It is
converted to diffusers' `AutoencoderKL`, whose settings follow from the shapes of the tensors. Whatever shapes do not
show is assumed as in LDM: 32 groups per norm, SiLU, one attention head. Averaged weights (`model_ema`) are not used.

Pickles are opened only with `torch.load(weights_only=True)`: one that needs code to be run is refused.
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from safetensors import safe_open
from torch import Tensor

from ablate.released.folder import Say
from ablate.released.weights import read_tensors

PREFIXES = ("first_stage_model.", "vae.", "")
"""What may stand before the names of the VAE's tensors in a file."""


PARTS = ("encoder.", "decoder.", "quant_conv.", "post_quant_conv.")
"""The modules of the VAE; other tensors are losses and the like."""


TRAINING = ("loss.", "model_ema.", "discriminator.", "logvar")
"""Other tensors that LDM's training keeps beside the VAE's."""


OTHER_MODELS = ("model.", "cond_stage_model.", "conditioner.", "first_stage_model.", "text_encoders.", "ema.")
"""What a file may hold beside a VAE whose tensors have no prefix."""


GROUPS = 32
"""Groups of every norm."""


RESNET = {"norm1": "norm1", "conv1": "conv1", "norm2": "norm2", "conv2": "conv2", "nin_shortcut": "conv_shortcut"}


ATTENTION = {"norm": "group_norm", "q": "to_q", "k": "to_k", "v": "to_v", "proj_out": "to_out.0"}


ENDS = {"conv_in": "conv_in", "norm_out": "conv_norm_out", "conv_out": "conv_out"}


SAMPLER = {"conv": "conv"}
"""These four: LDM's name of a layer -> diffusers' name, by kind of module."""


def holds_vae(file: Path) -> bool:
    """Whether a safetensors file holds an autoencoder in the layout of LDM."""
    return _prefix(_names(file)) is not None


def _names(file: Path) -> list[str]:
    with safe_open(file, framework="pt") as opened:
        return list(opened.keys())


def load(file: Path, say: Say) -> Any:
    """Load the file's VAE as a diffusers model in fp32; every weight is used.

    Raises ValueError for a file that cannot be read without running code, or that holds no VAE of this layout.
    """
    from diffusers import AutoencoderKL

    try:
        weights = _weights(read_tensors(file), say, file)
        model = AutoencoderKL(**_settings(weights))
        model.load_state_dict(_renamed(weights), strict=True)
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error
    except KeyError as error:
        raise ValueError(f"{file}: its VAE lacks the tensor {error}") from error
    except RuntimeError as error:  # from load_state_dict: a heading, then a line per tensor
        reason = str(error).splitlines()[:2][-1].strip()
        raise ValueError(f"{file}: its VAE does not have the layout of LDM: {reason}") from error
    return model.eval()


def _prefix(names: Iterable[str]) -> str | None:
    """The prefix of the VAE's tensors; None if there is no VAE of this layout.

    Of several VAEs the one with LDM's own prefix counts. Raises ValueError if none of them has it.
    """
    marker = "encoder.mid.block_1.conv1.weight"
    found = sorted({name.removesuffix(marker) for name in names if name.endswith(marker)})
    found = [prefix for prefix in found if not prefix or prefix.endswith(".")]
    own = [prefix for prefix in PREFIXES if prefix in found]
    if not own and len(found) > 1:
        raise ValueError(f"it holds several autoencoders, {', '.join(found)}; save the one to be loaded alone")
    return next(iter(own or found), None)


def _weights(tensors: dict[str, Tensor], say: Say, file: Path) -> dict[str, Tensor]:
    """The tensors of the VAE, without prefix; losses, averages and other models are left out.

    Raises ValueError for tensors that belong to the VAE but to none of its known parts.
    """
    prefix = _prefix(tensors)
    if prefix is None:
        raise ValueError("it holds no autoencoder in the layout of LDM (encoder.mid.block_1.conv1.weight)")
    if prefix not in PREFIXES:
        say(f"{file}: the prefix '{prefix}' of its tensors was left out")
    weights = {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
    if any(name.startswith("quantize.") for name in weights):
        raise ValueError("this is a VQGAN (it has a codebook, quantize.*); only LDM's AutoencoderKL can be loaded")
    known = (*PARTS, *TRAINING) if prefix else (*PARTS, *TRAINING, *OTHER_MODELS)
    unused = [name for name in weights if not name.startswith(known)]
    if unused:
        raise ValueError(
            f"it has {len(unused)} tensors that are no part of an AutoencoderKL, such as {prefix}{unused[0]}; "
            "without them it is another model"
        )
    return {name: t for name, t in weights.items() if name.startswith(PARTS)}


def _settings(weights: dict[str, Tensor]) -> dict[str, Any]:
    """The arguments of the diffusers class, from the shapes of the tensors."""
    if weights["encoder.conv_in.weight"].ndim != 4:
        raise ValueError("its convolutions are not those of an image model")
    levels, layers = _size(weights)
    channels = [weights[f"encoder.down.{i}.block.0.conv1.weight"].shape[0] for i in range(levels)]
    if any(count % GROUPS for count in channels):
        raise ValueError(f"its channels {channels} are not all multiples of {GROUPS}, the groups of LDM's norms")
    attention = [f"encoder.down.{i}.attn.0.q.weight" in weights for i in range(levels)]
    return {
        "in_channels": weights["encoder.conv_in.weight"].shape[1],
        "out_channels": weights["decoder.conv_out.weight"].shape[0],
        "latent_channels": weights["decoder.conv_in.weight"].shape[1],
        "block_out_channels": channels,
        "layers_per_block": layers,
        "down_block_types": ["AttnDownEncoderBlock2D" if has else "DownEncoderBlock2D" for has in attention],
        "up_block_types": ["AttnUpDecoderBlock2D" if has else "UpDecoderBlock2D" for has in attention[::-1]],
        "mid_block_add_attention": "encoder.mid.attn_1.q.weight" in weights,
        "norm_num_groups": GROUPS,
        "use_quant_conv": "quant_conv.weight" in weights,
        "use_post_quant_conv": "post_quant_conv.weight" in weights,
    }


def _size(weights: dict[str, Tensor]) -> tuple[int, int]:
    """The number of resolutions, and of residual blocks of the encoder at the first of them."""
    matches = [re.match(r"encoder\.down\.(\d+)\.block\.(\d+)\.conv1\.weight", name) for name in weights]
    blocks = {(int(match[1]), int(match[2])) for match in matches if match}
    return len({level for level, _ in blocks}), sum(level == 0 for level, _ in blocks)


def _renamed(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors under their names in diffusers. Raises ValueError for one that diffusers' class lacks."""
    modules = _modules(*_size(weights))
    renamed = {}
    for name, tensor in weights.items():
        module, _, kind = name.rpartition(".")
        if module not in modules:
            raise ValueError(f"an AutoencoderKL has no tensor {name}")
        pointwise = ".attentions." in modules[module] and tensor.ndim == 4  # a linear layer in diffusers
        renamed[f"{modules[module]}.{kind}"] = tensor.flatten(1) if pointwise else tensor
    return renamed


def _modules(levels: int, layers: int) -> dict[str, str]:
    """LDM's name -> diffusers' name, for every layer that a model of this size may have."""
    groups = []
    for half, side in (("encoder", "down"), ("decoder", "up")):
        for i in range(levels):
            level = i if side == "down" else levels - 1 - i  # LDM counts both halves from the pixels inwards
            ldm = f"{half}.{side}.{i}"
            diffusers = f"{half}.{side}_blocks.{level}"
            for j in range(layers + (side == "up")):
                groups += [(f"{ldm}.block.{j}", f"{diffusers}.resnets.{j}", RESNET)]
                groups += [(f"{ldm}.attn.{j}", f"{diffusers}.attentions.{j}", ATTENTION)]
            groups += [(f"{ldm}.{side}sample", f"{diffusers}.{side}samplers.0", SAMPLER)]
        groups += [(f"{half}.mid.block_{j + 1}", f"{half}.mid_block.resnets.{j}", RESNET) for j in (0, 1)]
        groups += [(f"{half}.mid.attn_1", f"{half}.mid_block.attentions.0", ATTENTION), (half, half, ENDS)]
    modules = {f"{ldm}.{a}": f"{diffusers}.{b}" for ldm, diffusers, names in groups for a, b in names.items()}
    return {**modules, "quant_conv": "quant_conv", "post_quant_conv": "post_quant_conv"}
