"""Small models of diffusers under the names of LDM's single files."""

import re
from typing import Any

import diffusers
import torch

Tensors = dict[str, torch.Tensor]


SMALL: dict[str, Any] = {
    "block_out_channels": (32, 64, 32), "layers_per_block": 2, "latent_channels": 3, "norm_num_groups": 32,
    "down_block_types": ("DownEncoderBlock2D",) * 3, "up_block_types": ("UpDecoderBlock2D",) * 3,
}  # fmt: skip


ATTENTION = {
    "down_block_types": ("DownEncoderBlock2D", "DownEncoderBlock2D", "AttnDownEncoderBlock2D"),
    "up_block_types": ("AttnUpDecoderBlock2D", "UpDecoderBlock2D", "UpDecoderBlock2D"),
}


TO_LDM = (  # diffusers to LDM, one after the other; up blocks are turned round besides
    (r"down_blocks\.(\d)\.resnets\.(\d)", r"down.\1.block.\2"),
    (r"down_blocks\.(\d)\.attentions\.(\d)", r"down.\1.attn.\2"),
    (r"down_blocks\.(\d)\.downsamplers\.0", r"down.\1.downsample"),
    (r"up_blocks\.(\d)\.resnets\.(\d)", r"up.\1.block.\2"),
    (r"up_blocks\.(\d)\.attentions\.(\d)", r"up.\1.attn.\2"),
    (r"up_blocks\.(\d)\.upsamplers\.0", r"up.\1.upsample"),
    (r"mid_block\.resnets\.0", "mid.block_1"),
    (r"mid_block\.resnets\.1", "mid.block_2"),
    (r"mid_block\.attentions\.0", "mid.attn_1"),
    ("conv_shortcut", "nin_shortcut"),
    ("conv_norm_out", "norm_out"),
    ("group_norm", "norm"),
    (r"to_out\.0", "proj_out"),
    (r"to_([qkv])\.", r"\1."),
)


def model(**changes: Any) -> Any:
    """A small AutoencoderKL, every weight of it random (diffusers starts norms at 1 and 0)."""
    torch.manual_seed(0)
    made = diffusers.AutoencoderKL(**{**SMALL, **changes}).eval().requires_grad_(False)
    for parameter in made.parameters():
        parameter += torch.randn_like(parameter) / 20
    return made


def ldm_tensors(made: Any, prefix: str = "") -> Tensors:
    """Its weights under LDM's names, attention as convolutions of 1 x 1."""
    found = {}
    for name, tensor in made.state_dict().items():
        renamed = re.sub(r"(?<=up_blocks\.)\d", lambda i: str(2 - int(i[0])), name)
        for pattern, ldm in TO_LDM:
            renamed = re.sub(pattern, ldm, renamed)
        if re.search(r"attn.*\.(q|k|v|proj_out)\.weight", renamed):
            tensor = tensor[:, :, None, None]
        found[prefix + renamed] = tensor.contiguous()
    return found


def beside() -> Tensors:
    """Of other parts of a whole model, and of LDM's training."""
    return {
        "model.diffusion_model.input_blocks.0.0.weight": torch.ones(2, 2),
        "cond_stage_model.transformer.weight": torch.ones(2),
        "first_stage_model.loss.logvar": torch.ones(()),
        "first_stage_model.model_ema.decay": torch.ones(()),
    }
