"""Loads autoencoders from folders as diffusers writes them: `config.json` beside safetensors weights.

The model is built by diffusers' class from the configuration; the weights must then have exactly its names and shapes.
diffusers itself only warns of settings and tensors that it does not know, and leaves them out.
"""

import inspect
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from ablate.errors import nearest
from ablate.released.files import read_config, weight_files
from ablate.released.weights import without_prefix

Say = Callable[[str], object]
"""Called with a line for the reader."""


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
        tensors |= load_file(part)

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
