"""Loads VAE checkpoints as `Autoencoder`s: our own, diffusers folders, single files of LTX-2 and LDM.

No code in a checkpoint is run. Weights are read from safetensors files, and from pickles of LDM that hold only tensors
and numbers (`ablate.released.ldm`). TorchScript (`.jit`) holds code and is not loaded. So the image tokenizers of
Cosmos (Cosmos-0.1-Tokenizer-CI8x8 and others), which exist only as TorchScript, cannot be loaded; `AutoencoderKLCosmos`
is the video tokenizer. Nothing is downloaded.
"""

import importlib
import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError

from ablate.engine import checkpoint
from ablate.engine.bounds import bounded
from ablate.engine.build import build_model
from ablate.errors import AblateError
from ablate.recipe.validation import explain
from ablate.released.files import PICKLES, check_readable, check_suffix, existing
from ablate.released.folder import Say
from ablate.released.load import explained, holds_released, load_released
from ablate.slots import registry
from ablate.slots.installed import is_installed
from ablate.slots.targets import TARGET
from ablate.slots.training import Autoencoder
from ablate.slots.video import group_of
from ablate.store.checksum import Damaged
from ablate.store.stage import StageFolder

LIBRARIES = ("diffusers", "torch", "torchvision")
"""Installed packages whose modules (`nn.Module`) a checkpoint may name."""


def load_vae(path: Path, device: torch.device, frames: int = 1, say: Say = lambda text: None) -> Autoencoder:
    """Load a frozen VAE, in fp32 and eval mode, on `device`.

    `path`: a checkpoint file of ours or the folder of a stage (averaged weights, if there are any); the folder of a
    diffusers autoencoder, or of a pipeline that has one in `vae`; or a single file of LTX-2 (`ablate.released.ltx`) or
    LDM (`ablate.released.ldm`). A picture goes through a video autoencoder as a clip of `frames` equal frames. `say`
    gets a line for each thing in the file that was not used as it stands, such as a prefix of all names. Raises
    ValueError for anything else, for tensors and settings that would be left out, and for a model that does not
    reconstruct RGB pictures or such clips in their own shape; ImportError if diffusers is needed and missing.
    """
    path = existing(path)
    own = StageFolder(path).checkpoint if path.is_dir() else path
    try:
        with explained(path):
            vae = _from_file(own, frames, say) if own.is_file() else load_released(path, say, frames)
    except Damaged as error:
        raise ValueError(f"{path}: the checkpoint is damaged: {error}") from error
    return vae.to(device).eval().requires_grad_(False)


def _from_file(file: Path, frames: int, say: Say) -> Autoencoder:
    check_suffix(file)
    check_readable(file)
    if file.suffix in PICKLES:
        return load_released(file, say, frames)
    try:
        header = checkpoint.header(file)
    except ValueError as error:
        if holds_released(file):
            return load_released(file, say, frames)
        raise ValueError(f"{error}; a diffusers autoencoder is given by its folder") from None
    assert header is not None  # the file exists
    vae = _build(header.get("settings"), file)
    if vae.temporal:
        group_of(frames, vae.groups)
    elif frames > 1:
        raise ValueError(f"{file}: clips of {frames} frames need a video autoencoder, but this is an image autoencoder")
    saved = checkpoint.read(file)
    assert saved is not None  # the file exists
    vae.load_state_dict(saved.part("model."), strict=saved.has_raw)
    averaged = vae.load_state_dict(saved.part("ema."), strict=False)  # buffers have no average
    if averaged.unexpected_keys:
        name = averaged.unexpected_keys[0]
        raise ValueError(f"{file}: it holds an average of {name}, which the model does not have")
    return vae


def _build(settings: Any, file: Path) -> Autoencoder:
    """The model of a checkpoint, from the settings in its header, which may hold anything. Raises ValueError."""
    if not isinstance(settings, dict):
        raise ValueError(f"{file}: its header holds no settings of a model")
    _check_code(settings, file)
    try:
        with bounded(parameters=file.stat().st_size):  # each has a byte at least
            return build_model(settings)
    except (ImportError, AblateError, KeyError):
        raise
    except ValidationError as error:
        reason = "; ".join(f"{'.'.join(map(str, item['loc']))}: {explain(item)}" for item in error.errors())
    except Exception as error:  # levels raise all kinds of errors for settings that nobody has checked
        reason = f"{error}" if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
    raise ValueError(f"{file}: its settings make no model: {' '.join(reason.split())}")


def _check_code(settings: dict[str, Any], file: Path) -> None:
    """Raise ValueError where a checkpoint names code to run that is neither the user's own nor a module of `LIBRARIES`.

    A checkpoint may be from anybody: `model: {level: python, target: subprocess:getoutput}` would run what it likes.
    """
    code = registry.own()
    for name in _targets([settings.get(slot) for slot in registry.SLOTS]):
        module, _, word = name.partition(":")
        if module.partition(".")[0] in code.named:  # a study of the user's, or of this store, names it too
            continue
        if module.partition(".")[0] in LIBRARIES:
            found = getattr(importlib.import_module(module), word, None) if importlib.util.find_spec(module) else None
            if isinstance(found, type) and issubclass(found, torch.nn.Module):
                continue
        known = code.require(module, on_path=False)
        if known is None or is_installed(known):
            raise ValueError(
                f"{file}: its settings name the code '{name}', which is not run, as a checkpoint may be from anybody; "
                "if it is yours, name the folder of its module with --components, or probe it within its store"
            )


def _targets(settings: Any) -> Iterator[str]:
    """All texts in plain settings, keys too, that may name an object of a module."""
    if isinstance(settings, dict):
        for key, value in settings.items():
            yield from _targets(key)
            yield from _targets(value)
    elif isinstance(settings, list):
        for value in settings:
            yield from _targets(value)
    elif isinstance(settings, str) and TARGET.fullmatch(settings):
        yield settings
