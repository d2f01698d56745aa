"""Checkpoints: safetensors with the settings as JSON in the header. Written by rename; never pickle."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from ablate.store import whole

HEADER = "ablate"


def save(path: Path, tensors: dict[str, Tensor], header: dict[str, Any]) -> None:
    """Write tensors and a JSON header in one file that appears whole."""
    plain = {name: tensor.detach().to("cpu").contiguous() for name, tensor in tensors.items()}
    with whole(path) as temporary:
        save_file(plain, temporary, metadata={HEADER: json.dumps(header)})


def header(path: Path) -> dict[str, Any] | None:
    """The JSON header alone, or None if there is no such file. Raises ValueError for a file that is not ours."""
    if not path.exists():
        return None
    with safe_open(path, framework="pt") as file:
        text = (file.metadata() or {}).get(HEADER)
    if text is None:
        raise ValueError(f"{path} is not a checkpoint of ablate: its header lacks '{HEADER}'")
    found: dict[str, Any] = json.loads(text)
    return found


def load(path: Path, prefix: str = "", device: torch.device | str = "cpu") -> dict[str, Tensor]:
    """The tensors whose names begin with `prefix`, under their names without it."""
    with safe_open(path, framework="pt", device=str(device)) as file:
        return {name.removeprefix(prefix): file.get_tensor(name) for name in file.keys() if name.startswith(prefix)}  # noqa: SIM118


def pack(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors with `prefix` before every name."""
    return {prefix + name: tensor for name, tensor in tensors.items()}


def optimizer_tensors(module: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimiser's state by parameter name: `<parameter>/exp_avg` and so on."""
    return {
        f"{name}/{key}": value
        for name, parameter in module.named_parameters()
        for key, value in optimizer.state[parameter].items()
    }


def restore_optimizer(module: nn.Module, optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Put back what `optimizer_tensors` gave."""
    parameters = dict(module.named_parameters())
    for name, tensor in tensors.items():
        parameter, _, key = name.rpartition("/")
        device = "cpu" if key == "step" and not optimizer.defaults.get("fused") else parameters[parameter].device
        optimizer.state[parameters[parameter]][key] = tensor.clone().to(device)
