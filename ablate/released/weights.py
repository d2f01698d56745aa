"""Reads files of weights as people have them: wrapped in other keys, with prefixes, or not what their names say.

Nothing in a file is run: safetensors files and pickles that hold only tensors and numbers are read.
"""

import pickle
import re
import warnings
import zipfile
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from ablate.released.files import unreadable

WRAPPERS = ("state_dict", "model_state_dict", "model", "vae", "autoencoder", "module", "ema")
"""Keys under which training scripts save a model's tensors, in order of preference."""


PREFIXES = re.compile(r"(?:(?:module|_orig_mod|model|vae|autoencoder|ema|first_stage_model)\.)+")
"""What wrappers (data parallel, torch.compile, a parent module) put before all names."""


def read_tensors(file: Path) -> dict[str, Tensor]:
    """All tensors of a safetensors file, or of a pickle and the `state_dict` (or alike) in it; empty if it has none.

    Raises ValueError for a pickle that needs code to be opened, and for a damaged file.
    """
    if reason := unreadable(file):
        raise ValueError(reason)
    return load_file(file) if file.suffix == ".safetensors" else _unpickled(file)


def _unpickled(file: Path) -> dict[str, Tensor]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about TorchScript, which is refused
            content = torch.load(file, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(file))
    except pickle.UnpicklingError as error:
        code = re.search(r"GLOBAL (\S+)", str(error))
        if code is None:
            raise ValueError("this is not a pickle of tensors, or it is damaged") from error
        raise ValueError(
            f"it needs code ({code[1]}) to be opened, which is never run; save only its tensors"
        ) from error
    except Exception as error:  # a damaged pickle raises whatever its reader stumbles over
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise ValueError(f"it is damaged, cut short or not written by torch.save: {reason}") from error
    return _unwrapped(content)


def _unwrapped(content: Any, depth: int = 3) -> dict[str, Tensor]:
    """The tensors of a dictionary or, if these are fewer, of the first of `WRAPPERS` in it that holds several."""
    if not isinstance(content, dict):
        return {}
    tensors = {str(name): tensor for name, tensor in content.items() if isinstance(tensor, Tensor)}
    wrapped = [_unwrapped(content[key], depth - 1) for key in WRAPPERS if depth and key in content]
    inner = max(wrapped, key=lambda found: len(found) > 1, default={})
    return tensors if len(tensors) >= len(inner) else inner


def without_prefix(tensors: dict[str, Tensor], expected: Collection[str]) -> tuple[dict[str, Tensor], str]:
    """The tensors by the names that a model expects, and the prefix that was removed from all of these; else empty.

    A prefix is removed only if every expected name is then there; tensors without it are left as they are, for the
    caller to refuse.
    """
    if set(expected) <= tensors.keys():
        return tensors, ""
    for prefix in sorted({match[0] for name in tensors if (match := PREFIXES.match(name))}, key=len):
        if all(prefix + name in tensors for name in expected):
            return {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}, prefix
    return tensors, ""
