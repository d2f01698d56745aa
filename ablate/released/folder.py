"""Loads autoencoders from folders as diffusers writes them: `config.json` beside safetensors weights.

The model is built by diffusers' class from the configuration; the weights must then have exactly its names and shapes.
diffusers itself only warns of settings and tensors that it does not know, and leaves them out.
"""

import inspect
import json
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ablate.engine import checkpoint
from ablate.engine.weights import check_readable, without_prefix
from ablate.errors import nearest

Say = Callable[[str], object]
"""Called with a line for the reader."""


STEM = "diffusion_pytorch_model"


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


def load_folder(folder: Path, class_name: str, say: Say) -> Any:
    """Load a diffusers model in fp32 with every setting of its configuration and every tensor of its weights.

    Raises ValueError for settings that the class does not have or cannot use, and for tensors that do not fit.
    """
    import diffusers

    loader = getattr(diffusers, class_name, None)
    if loader is None:
        raise ValueError(f"{folder}: diffusers {diffusers.__version__} has no '{class_name}'; a newer one may")
    file = folder / "config.json"
    config = read_config(folder)
    tensors: dict[str, Tensor] = {}
    for part in weight_files(folder):
        tensors |= checkpoint.load(part)

    # Names and shapes first, so that a wrong configuration allocates nothing.
    with torch.device("meta"):
        planned = _build(file, loader, config)
    planned._fix_state_dict_keys_on_load(tensors)
    shapes = {name: tensor.shape for name, tensor in planned.state_dict().items()}
    tensors, prefix = without_prefix(tensors, shapes)
    if prefix:
        say(f"{folder}: the prefix '{prefix}' of its tensors was left out")
    _check_names(folder, class_name, tensors, shapes)
    for name, shape in shapes.items():
        if tensors[name].shape != shape:
            raise ValueError(
                f"{folder}: {name} has shape {tuple(tensors[name].shape)}, but config.json asks for {tuple(shape)}"
            )
    model = _build(file, loader, config)
    model.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
    for switch in ("disable_tiling", "disable_slicing"):
        getattr(model, switch, lambda: None)()
    return model.eval()


def _check_names(where: object, model: str, tensors: Collection[str], expected: Collection[str]) -> None:
    """Raise ValueError if a model lacks tensors that a file holds, or a file tensors that the model needs."""
    missing = sorted(set(expected) - set(tensors))
    unused = sorted(set(tensors) - set(expected))
    if missing:
        raise ValueError(f"{where}: the weights lack {len(missing)} of {model}'s tensors, such as {missing[0]}")
    if unused:
        raise ValueError(
            f"{where}: {model} with these settings has no place for {len(unused)} of the tensors, such as {unused[0]}: "
            "settings and weights are of different models"
        )


def _build(file: Path, loader: Any, config: dict[str, Any]) -> Any:
    """The model of a configuration. Raises ValueError for settings that its class would ignore or cannot use."""
    settings = {name: value for name, value in config.items() if not name.startswith("_")}
    known = [name for name in inspect.signature(loader.__init__).parameters if name != "self"]
    try:
        model = loader(**{name: value for name, value in settings.items() if name in known})
    except Exception as error:  # a class raises whatever its first use of a wrong value does
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise ValueError(f"{file}: {loader.__name__} cannot be built from it: {reason}") from error
    for name in settings:
        if name not in model.config:  # some classes write settings of their own
            raise ValueError(
                f"{file}: {loader.__name__} has no setting '{name}', so it would be ignored{nearest(name, known)}; "
                "a newer diffusers may have it"
            )
    return model
