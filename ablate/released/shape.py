"""Stride and frames per latent frame of a released VAE, from its configuration or the names of its tensors.

The formulas follow the constructors of the classes in diffusers 0.42, whose defaults stand for settings that a
configuration leaves out. Where shapes cannot be known without torch (pickles), they are None.
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ablate.released.files import (
    PICKLES,
    VIDEO_CLASSES,
    check_suffix,
    class_of,
    diffusers_folder,
    existing,
    ltx_config,
    read_config,
    read_header,
    weight_files,
)

DETERMINISTIC = ("AutoencoderDC", "AutoencoderTiny", "VQModel")
"""Classes whose encoder gives latents and no distribution."""


@dataclass(frozen=True)
class Shape:
    """What planning must know of a released VAE.

    `stride`: px along a side for each place of the latent. `groups`: frames that share a latent frame. `clip_multiple`:
    clips have 1 + a multiple of this frames.
    """

    class_name: str
    stride: int | None
    groups: int = 1

    @property
    def video(self) -> bool:
        return self.class_name in VIDEO_CLASSES

    @property
    def clip_multiple(self) -> int:
        """The decoder of CogVideoX keeps the first frame by itself only if the number of latent frames is odd."""
        return 2 * self.groups if self.class_name == "AutoencoderKLCogVideoX" else self.groups

    @property
    def deterministic(self) -> bool:
        return self.class_name in DETERMINISTIC


def shape_of(path: Path) -> Shape:
    """The shape of the VAE in a folder or file. Raises ValueError if it holds none that is loaded, or no weights."""
    path = existing(path)
    if path.is_dir():
        folder = diffusers_folder(path)
        name = class_of(folder)
        weight_files(folder)
        try:
            return Shape(name, *SHAPES[name](read_config(folder)))
        except (TypeError, ValueError, ArithmeticError) as error:
            raise ValueError(f"{folder / 'config.json'}: {name} cannot be built from it: {error}") from None
    check_suffix(path)
    if path.suffix in PICKLES:
        return Shape("AutoencoderKL", None)
    header = read_header(path)
    config = ltx_config(header.get("__metadata__"))
    if config is not None:
        return Shape("AutoencoderKLLTX2Video", *_ltx_file(config))
    levels = {match[1] for name in header if (match := re.search(r"(?:^|\.)encoder\.down\.(\d+)\.block\.", name))}
    if not levels:
        raise ValueError(f"{path}: it holds neither a VAE of LTX-2 nor one in the layout of LDM")
    return Shape("AutoencoderKL", 1 << (len(levels) - 1))


Config = dict[str, Any]

Strides = tuple[int, int]
"""Stride in space and in time."""


def _halvings(setting: str, default: int) -> Callable[[Config], Strides]:
    """One halving between two levels, of which `setting` is a list; `default`: how many there are without it."""

    def strides(config: Config) -> Strides:
        levels = config.get(setting)
        return 1 << ((default if levels is None else len(levels)) - 1), 1

    return strides


def _hunyuan_image(config: Config) -> Strides:
    return int(config["spatial_compression_ratio"]), 1


def _wan(config: Config) -> Strides:
    halvings = len(config.get("dim_mult", (1, 2, 4, 4))) - 1
    in_time = sum(map(bool, config.get("temperal_downsample", (False, True, True))[:halvings]))
    return (config.get("patch_size") or 1) << halvings, 1 << in_time


def _ratios(space: int, time: int) -> Callable[[Config], Strides]:
    def strides(config: Config) -> Strides:
        ratios = config.get("spatial_compression_ratio", space), config.get("temporal_compression_ratio", time)
        return int(ratios[0]), int(ratios[1])

    return strides


def _cogvideox(config: Config) -> Strides:
    levels = config.get("block_out_channels")
    time = math.log2(config.get("temporal_compression_ratio", 4))
    return 1 << ((4 if levels is None else len(levels)) - 1), 1 << int(time)


def _magvit(config: Config) -> Strides:
    levels = len(config.get("block_out_channels", (128, 256, 512, 512)))
    return 1 << (levels - 1), 1 << max(0, levels - 2)


def _ltx(config: Config) -> Strides:
    return _ltx_strides(config, ("conv",) * 4, (True, True, True, False))


def _ltx2(config: Config) -> Strides:
    return _ltx_strides(config, ("spatial", "temporal", "spatiotemporal", "spatiotemporal"), (True,) * 4)


def _ltx_strides(config: Config, types: tuple[str, ...], scaling: tuple[bool, ...]) -> Strides:
    types = tuple(config.get("downsample_type", types))
    scaled = config.get("spatio_temporal_scaling", scaling)
    scaled = (scaled,) * len(types) if isinstance(scaled, bool) else tuple(scaled)
    done = [kind for kind, does in zip(types, scaled, strict=False) if does]
    space = sum(kind != "temporal" for kind in done)
    time = sum(kind != "spatial" for kind in done)
    return config.get("patch_size", 4) << space, config.get("patch_size_t", 1) << time


def _ltx_file(config: Config) -> Strides:
    """Of the configuration in the header of a single file, which lists the blocks of the encoder."""
    kinds = [str(kind) for kind, _ in config.get("encoder_blocks", ())]
    space = sum(kind.startswith(("compress_space", "compress_all")) for kind in kinds)
    time = sum(kind.startswith(("compress_time", "compress_all")) for kind in kinds)
    return config.get("patch_size", 4) << space, 1 << time


SHAPES: dict[str, Callable[[Config], Strides]] = {
    "AsymmetricAutoencoderKL": _halvings("down_block_out_channels", 1),
    "AutoencoderDC": _halvings("encoder_block_out_channels", 6),
    "AutoencoderKL": _halvings("block_out_channels", 1),
    "AutoencoderKLCogVideoX": _cogvideox,
    "AutoencoderKLCosmos": _ratios(8, 8),
    "AutoencoderKLFlux2": _halvings("block_out_channels", 4),
    "AutoencoderKLHunyuanImage": _hunyuan_image,
    "AutoencoderKLHunyuanVideo": _ratios(8, 4),
    "AutoencoderKLKVAE": _halvings("ch_mult", 4),
    "AutoencoderKLLTX2Video": _ltx2,
    "AutoencoderKLLTXVideo": _ltx,
    "AutoencoderKLMagvit": _magvit,
    "AutoencoderKLQwenImage": _wan,
    "AutoencoderKLWan": _wan,
    "AutoencoderTiny": _halvings("encoder_block_out_channels", 4),
    "VQModel": _halvings("block_out_channels", 1),
}
"""Class -> stride in space and in time, from its configuration."""
