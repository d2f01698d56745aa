"""Checks of released weights before they are loaded: files that cannot hold any, and settings of other models."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FIXED: dict[str, Any] = {"act_fn": "silu", "in_channels": 3, "out_channels": 3}
"""Settings of `AutoencoderKL` that `image_kl` does not have -> what it does instead."""


COMPARED = {
    "block_out_channels", "force_upcast", "latent_channels", "latents_mean", "latents_std", "layers_per_block",
    "mid_block_add_attention", "norm_num_groups", "sample_size", "scaling_factor", "shift_factor",
    "use_post_quant_conv", "use_quant_conv",
}  # fmt: skip
"""Other settings of `AutoencoderKL`: compared with the recipe, shown by the weights, or without effect here."""


def unlike_image_kl(config: Mapping[str, Any]) -> list[str]:
    """What the configuration of an `AutoencoderKL` asks for and the level `image_kl` does not have, in words."""
    levels = len(config["block_out_channels"])
    fixed = {
        **FIXED, "down_block_types": ["DownEncoderBlock2D"] * levels, "up_block_types": ["UpDecoderBlock2D"] * levels
    }  # fmt: skip
    wrong = []
    for name, value in config.items():
        if name in fixed and value != fixed[name]:
            wrong.append(f"{name} {value}, expected {fixed[name]}")
        elif name not in fixed and name not in COMPARED and not name.startswith("_"):
            wrong.append(f"{name} {value}, which no AutoencoderKL has")
    return wrong


def unreadable(file: Path) -> str:
    """Why a file cannot hold weights, judged by its first bytes, its header and its size; empty if it may."""
    size = file.stat().st_size
    with file.open("rb") as opened:
        start = opened.read(512)
    if not start:
        return "it is damaged: the file is empty"
    if start.startswith(b"version https://git-lfs"):
        return "it is a pointer of Git LFS, not the file itself: fetch it with `git lfs pull`"
    if start.lstrip()[:1] == b"<":
        return "it is a web page (HTML or XML): the download was answered by an error or a login page"
    if start.startswith(b"\x1f\x8b"):
        return "it is compressed by gzip: unpack it first"
    return _cut_short(file, size) if file.suffix == ".safetensors" else ""


def _cut_short(file: Path, size: int) -> str:
    """Whether a safetensors file ends before its header or its last tensor does."""
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
        if size < 8 or length > size - 8:
            return f"it is damaged or no safetensors file: its header needs {length} bytes, the file has {size}"
        try:
            header = json.loads(opened.read(length))
            ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
            needed = 8 + length + max(ends, default=0)
        except (ValueError, TypeError, KeyError, AttributeError, IndexError, RecursionError):
            return "it is damaged or no safetensors file: its header is no list of tensors"
    return f"it is damaged: {size} of {needed} bytes are there" if needed > size else ""
