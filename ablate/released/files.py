"""What a released VAE lies in, from names, headers and `config.json` alone, so that planning needs neither torch.

Three layouts: a folder as diffusers writes it (`config.json` beside safetensors weights), alone or as `vae/` of a
pipeline; a single file of LTX-2 (`ablate.released.ltx`); a single file of LDM (`ablate.released.ldm`).
"""

import json
from pathlib import Path
from typing import Any

from ablate.components.shared.released import unreadable as unreadable
from ablate.errors import nearest

IMAGE_CLASSES = (
    "AsymmetricAutoencoderKL", "AutoencoderDC", "AutoencoderKL", "AutoencoderKLFlux2", "AutoencoderKLHunyuanImage",
    "AutoencoderKLKVAE", "AutoencoderTiny", "VQModel",
)  # fmt: skip


VIDEO_CLASSES = (
    "AutoencoderKLCogVideoX", "AutoencoderKLCosmos", "AutoencoderKLHunyuanVideo", "AutoencoderKLLTX2Video",
    "AutoencoderKLLTXVideo", "AutoencoderKLMagvit", "AutoencoderKLQwenImage", "AutoencoderKLWan",
)  # fmt: skip
"""Classes for video that turn a clip of one frame into a clip of one frame."""


STEM = "diffusion_pytorch_model"


PICKLES = (".ckpt", ".pt")
"""Pickles that may be of LDM."""


def existing(path: Path) -> Path:
    """The path itself, with the home folder in place of `~`. Raises ValueError if there is nothing."""
    path = path.expanduser()
    if not path.exists():
        raise ValueError(
            f"there is no file or folder {path}; nothing is downloaded: fetch a released model first, for instance "
            "with `hf download OWNER/NAME --local-dir FOLDER`"
        )
    return path


def check_readable(file: Path) -> None:
    """Raise ValueError, with path and reason, for a file that cannot hold weights."""
    if reason := unreadable(file):
        raise ValueError(f"{file}: {reason}")


def read_config(folder: Path) -> dict[str, Any]:
    """The object in a folder's config.json. Raises ValueError if it holds none."""
    file = folder / "config.json"
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        config = None
    if not isinstance(config, dict):
        raise ValueError(f"{file} is no JSON object")
    return config


def diffusers_folder(path: Path) -> Path:
    """The folder of a diffusers autoencoder: `path` itself or its subfolder `vae`. Raises ValueError without one."""
    folder = next((folder for folder in (path, path / "vae") if (folder / "config.json").is_file()), None)
    if folder is None or "_class_name" not in read_config(folder):
        script = "; its *.jit files are TorchScript, which is not loaded" if [*path.glob("*.jit")] else ""
        raise ValueError(
            f"{path} is no VAE: expected a checkpoint.safetensors, or a config.json with '_class_name' as diffusers "
            f"writes it, here or in vae/{script}"
        )
    return folder


def class_of(folder: Path) -> str:
    """The class that a folder's config.json names. Raises ValueError for one that is not loaded."""
    config = read_config(folder)
    name = str(config["_class_name"])
    if name not in {*IMAGE_CLASSES, *VIDEO_CLASSES}:
        hint = nearest(name, [*IMAGE_CLASSES, *VIDEO_CLASSES])
        raise ValueError(f"{folder}: '{name}' is not an autoencoder that ablate can load{hint}")
    if config.get("timestep_conditioning"):
        raise ValueError(
            f"{folder}: the decoder of this {name} is conditioned on a timestep and expects noisy latents; probes "
            "examine plain round trips, so it is not supported"
        )
    return name


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a folder: one, the shards of an index, or, where these are missing, fp16 ones.

    Raises ValueError if there are none, if a shard is missing, and for files that cannot hold weights.
    """
    for variant in ("", ".fp16", ".bf16"):
        single = folder / f"{STEM}{variant}.safetensors"
        index = folder / f"{STEM}.safetensors.index{variant}.json"
        if single.is_file():
            files = [single]
        elif index.is_file():
            files = _shards(index)
        else:
            continue
        for file in files:
            check_readable(file)
        return files
    others = sorted(path.name for path in folder.iterdir() if path.suffix in {".bin", ".pt", ".ckpt", ".msgpack"})
    beside = f"; {others[0]} may hold code and is not opened: save it as safetensors" if others else ""
    raise ValueError(f"{folder}: no safetensors weights ({STEM}.safetensors){beside}")


def _shards(index: Path) -> list[Path]:
    """The files that an index of shards names, which stand beside it."""
    try:
        names = sorted({str(name) for name in json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()})
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise ValueError(f"{index} is no index of shards (a JSON object with 'weight_map')") from None
    for name in names:
        if Path(name).name != name:
            raise ValueError(f"{index}: the shard '{name}' is not a file of its folder")
        if not (index.parent / name).is_file():
            raise ValueError(f"{index}: the shard {name} is missing; fetch it again")
    return [index.parent / name for name in names]


def check_suffix(file: Path) -> None:
    """Raise ValueError for a single file of a kind that is not loaded."""
    if file.suffix not in {".safetensors", *PICKLES}:
        raise ValueError(f"{file}: only .safetensors files are loaded, and .ckpt and .pt of LDM; others may hold code")


def read_header(file: Path) -> dict[str, Any]:
    """The JSON header of a safetensors file: its tensors by name, and `__metadata__`. Raises ValueError."""
    check_readable(file)
    with file.open("rb") as opened:
        header: dict[str, Any] = json.loads(opened.read(int.from_bytes(opened.read(8), "little")))
    return header


def ltx_config(metadata: dict[str, str] | None) -> dict[str, Any] | None:
    """The `vae` part of the configuration in the metadata of a file of LTX; None if there is none."""
    text = (metadata or {}).get("config")
    try:
        config = json.loads(text) if text else None
    except json.JSONDecodeError:
        return None
    vae = config.get("vae") if isinstance(config, dict) else None
    return vae if isinstance(vae, dict) else None


def content_files(path: Path) -> list[Path]:
    """The files that a released VAE is read from. Raises ValueError if there is none."""
    path = existing(path)
    if path.is_file():
        return [path]
    folder = diffusers_folder(path)
    return [folder / "config.json", *sorted({*folder.glob(f"{STEM}*.index*.json"), *weight_files(folder)})]
