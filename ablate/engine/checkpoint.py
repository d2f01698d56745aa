"""Checkpoints: safetensors files with the settings as JSON in the header. Written by rename; never pickled."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from ablate.store.files import atomic_write, local
from ablate.store.record import HEADER
from ablate.store.record import read_header as header

__all__ = ["Checkpoint", "header", "load", "optimizer_tensors", "pack", "read", "restore_optimizer", "save"]


@dataclass(frozen=True)
class Checkpoint:
    """A header and tensors that belong together: as this process has just trained them, or from one open file."""

    header: dict[str, Any]
    tensors: dict[str, Tensor]

    def part(self, prefix: str, device: torch.device | str = "cpu") -> dict[str, Tensor]:
        """The tensors whose names begin with `prefix`, on a device; the prefix is removed."""
        return {
            name.removeprefix(prefix): tensor.to(device)
            for name, tensor in self.tensors.items()
            if name.startswith(prefix)
        }


def save(path: Path, tensors: dict[str, Tensor], header: dict[str, Any]) -> Checkpoint:
    """Write tensors and a JSON header to one file, which appears complete or not at all. Gives what it wrote."""
    plain = {name: tensor.detach().to("cpu").contiguous() for name, tensor in tensors.items()}
    with atomic_write(path) as temporary:
        save_file(plain, temporary, metadata={HEADER: json.dumps(header)})
    return Checkpoint(header, plain)


def read(path: Path) -> Checkpoint | None:
    """A checkpoint of ours, header and tensors from one open file; None if there is no such file."""
    if not path.exists():
        return None
    with safe_open(local(path), framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return Checkpoint(json.loads(file.metadata()[HEADER]), tensors)


def load(path: Path, prefix: str = "", device: torch.device | str = "cpu") -> dict[str, Tensor]:
    """The tensors whose names begin with `prefix`; the prefix is removed."""
    with safe_open(local(path), framework="pt", device=str(device)) as file:
        return {name.removeprefix(prefix): file.get_tensor(name) for name in file.keys() if name.startswith(prefix)}  # noqa: SIM118


def pack(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors with `prefix` before every name."""
    return {prefix + name: tensor for name, tensor in tensors.items()}


def optimizer_tensors(parameters: dict[str, nn.Parameter], optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimiser's state by parameter name: `<parameter>/exp_avg` and so on."""
    return {
        f"{name}/{key}": value
        for name, parameter in parameters.items()
        if parameter in optimizer.state
        for key, value in optimizer.state[parameter].items()
    }


def restore_optimizer(
    parameters: dict[str, nn.Parameter], optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]
) -> None:
    """Restore the tensors of `optimizer_tensors`, for those parameters that this optimiser trains.

    Moments get the memory layout of their parameter, which the file does not keep: a fused step pairs elements by their
    place in memory and ignores strides.
    """
    trained = {parameter for group in optimizer.param_groups for parameter in group["params"]}
    for name, tensor in tensors.items():
        parameter, _, key = name.rpartition("/")
        if parameters[parameter] in trained:
            state = optimizer.state[parameters[parameter]]
            like = parameters[parameter].detach()
            if key == "step":
                state[key] = tensor.clone().to(like.device if optimizer.defaults.get("fused") else "cpu")
            else:
                state[key] = torch.empty_like(like).copy_(tensor)
