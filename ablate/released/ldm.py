"""Single files of LDM: the autoencoder of latent diffusion alone or in a whole model, as .safetensors, .ckpt or .pt.

The layout is that of `AutoencoderKL` in Rombach et al. 2022, "High-Resolution Image Synthesis with Latent Diffusion
Models", which Stable Diffusion 1 to 3, SDXL and Flux release their VAEs in. It becomes diffusers' `AutoencoderKL`,
whose settings are read off the shapes of the tensors. What shapes do not tell is as LDM has it: 32 groups in each norm,
SiLU, one head of attention. Averaged copies of the weights (`model_ema`) are not used.

Pickles are opened by `torch.load(weights_only=True)` alone: one that would have to run code is refused.
"""

import pickle
import re
import warnings
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from ablate.engine import checkpoint

PICKLES = (".ckpt", ".pt")


PREFIXES = ("first_stage_model.", "vae.", "")


PARTS = ("encoder.", "decoder.", "quant_conv.", "post_quant_conv.")


GROUPS = 32


RESNET = {"norm1": "norm1", "conv1": "conv1", "norm2": "norm2", "conv2": "conv2", "nin_shortcut": "conv_shortcut"}


ATTENTION = {"norm": "group_norm", "q": "to_q", "k": "to_k", "v": "to_v", "proj_out": "to_out.0"}


ENDS = {"conv_in": "conv_in", "norm_out": "conv_norm_out", "conv_out": "conv_out"}


SAMPLER = {"conv": "conv"}


def holds_vae(file: Path) -> bool:
    """Whether a safetensors file has an autoencoder in the layout of LDM."""
    return _prefix(_names(file)) is not None


def _names(file: Path) -> list[str]:
    with safe_open(file, framework="pt") as opened:
        return list(opened.keys())


def load(file: Path) -> Any:
    """The file's VAE as a diffusers model in fp32, all its weights used.

    Raises ValueError for a file that cannot be read without running code or holds no such VAE, or one of other parts.
    """
    from diffusers import AutoencoderKL

    try:
        weights = _weights(_unpickled(file) if file.suffix in PICKLES else _tensors(file))
        model = AutoencoderKL(**_settings(weights))
        model.load_state_dict(_renamed(weights), strict=True)
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error
    except KeyError as error:
        raise ValueError(f"{file}: its VAE lacks the tensor {error}") from error
    except RuntimeError as error:  # of load_state_dict: a line for each tensor, after a heading
        reason = str(error).splitlines()[:2][-1].strip()
        raise ValueError(f"{file}: its VAE is not laid out as that of LDM: {reason}") from error
    return model.eval()


def _tensors(file: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, or of its VAE alone where it has one."""
    return checkpoint.load(file, _prefix(_names(file)) or "")


def _unpickled(file: Path) -> dict[str, Tensor]:
    """The tensors of a pickle, of its `state_dict` where it has one."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of TorchScript, which is then refused
            found = torch.load(file, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(file))
    except pickle.UnpicklingError as error:
        code = re.search(r"GLOBAL (\S+)", str(error))
        if code is None:
            raise ValueError("this is no pickle of tensors, or a damaged one") from error
        raise ValueError(
            f"it needs code ({code[1]}) to be opened, which is never run; save its tensors alone"
        ) from error
    except (RuntimeError, EOFError, OSError, UnicodeDecodeError) as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise ValueError(f"it is damaged, cut short or no file of torch.save: {reason}") from error
    found = found.get("state_dict", found) if isinstance(found, dict) else {}
    return {str(name): t for name, t in found.items() if isinstance(t, Tensor)} if isinstance(found, dict) else {}


def _prefix(names: Iterable[str]) -> str | None:
    """What stands before the names of the VAE's tensors; None where there is no VAE of this layout."""
    known = set(names)
    return next((prefix for prefix in PREFIXES if f"{prefix}encoder.mid.block_1.conv1.weight" in known), None)


def _weights(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Those of the VAE, named without prefix; losses, averages and other models left out."""
    prefix = _prefix(tensors)
    if prefix is None:
        raise ValueError("no autoencoder in the layout of LDM (encoder.mid.block_1.conv1.weight) is in it")
    found = {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
    if any(name.startswith("quantize.") for name in found):
        raise ValueError(
            "this is a VQGAN (it has a codebook, quantize.*); of LDM's layouts only AutoencoderKL is loaded"
        )
    return {name: t for name, t in found.items() if name.startswith(PARTS)}


def _settings(weights: dict[str, Tensor]) -> dict[str, Any]:
    """Arguments of the diffusers class."""
    if weights["encoder.conv_in.weight"].ndim != 4:
        raise ValueError("its convolutions are not those of pictures")
    levels, layers = _size(weights)
    channels = [weights[f"encoder.down.{i}.block.0.conv1.weight"].shape[0] for i in range(levels)]
    if any(count % GROUPS for count in channels):
        raise ValueError(f"its channels {channels} do not divide into the {GROUPS} groups of LDM's norms")
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
    """Resolutions, and residual blocks of the encoder at the first of them."""
    found = [re.match(r"encoder\.down\.(\d+)\.block\.(\d+)\.conv1\.weight", name) for name in weights]
    places = {(int(match[1]), int(match[2])) for match in found if match}
    return len({i for i, _ in places}), sum(i == 0 for i, _ in places)


def _renamed(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors under the names of diffusers. Raises ValueError for one that has no place there."""
    modules = _modules(*_size(weights))
    found = {}
    for name, tensor in weights.items():
        module, _, kind = name.rpartition(".")
        if module not in modules:
            raise ValueError(f"the tensor {name} has no place in an AutoencoderKL")
        pointwise = ".attentions." in modules[module] and tensor.ndim == 4  # a linear layer in diffusers
        found[f"{modules[module]}.{kind}"] = tensor.flatten(1) if pointwise else tensor
    return found


def _modules(levels: int, layers: int) -> dict[str, str]:
    """LDM's layers by name to those of diffusers: all that a model of this size may have."""
    places = []
    for half, side in (("encoder", "down"), ("decoder", "up")):
        for i in range(levels):
            level = i if side == "down" else levels - 1 - i  # LDM counts both from pixels inwards
            ours, theirs = f"{half}.{side}.{i}", f"{half}.{side}_blocks.{level}"
            for j in range(layers + (side == "up")):
                places += [(f"{ours}.block.{j}", f"{theirs}.resnets.{j}", RESNET)]
                places += [(f"{ours}.attn.{j}", f"{theirs}.attentions.{j}", ATTENTION)]
            places += [(f"{ours}.{side}sample", f"{theirs}.{side}samplers.0", SAMPLER)]
        places += [(f"{half}.mid.block_{j + 1}", f"{half}.mid_block.resnets.{j}", RESNET) for j in (0, 1)]
        places += [(f"{half}.mid.attn_1", f"{half}.mid_block.attentions.0", ATTENTION), (half, half, ENDS)]
    found = {f"{ldm}.{a}": f"{diffusers}.{b}" for ldm, diffusers, names in places for a, b in names.items()}
    return {**found, "quant_conv": "quant_conv", "post_quant_conv": "post_quant_conv"}
