"""Checkpoints: safetensors files with the settings as JSON in the header. Written by rename; never pickled.

A file has a checksum of its content (`ablate.store.checksum`). `read` verifies it before a tensor is used.
"""

import json
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from ablate.store import damage
from ablate.store.checksum import DIGITS, EMPTY_MARK, FORMAT, Damaged, TooNew, seal_file, verify_file
from ablate.store.files import atomic_write, is_sound, local
from ablate.store.record import HEADER, KEPT, parse_header
from ablate.store.record import read_header as header
from ablate.store.stage import StageFolder
from ablate.store.steps import read_lines

VERSION = "ablate.format"
"""The key of the format version in a checkpoint's metadata."""


CHECKSUM = "ablate.checksum"
"""The key of the checksum in a checkpoint's metadata."""

__all__ = [
    "Checkpoint", "has_log", "header", "latest", "load", "optimizer_tensors", "pack", "read",
    "restore_optimizer", "save",
]  # fmt: skip


@dataclass(frozen=True)
class Checkpoint:
    """A header and tensors that belong together: as this process has just trained them, or from one open file."""

    header: dict[str, Any]
    tensors: dict[str, Tensor]

    @property
    def has_raw(self) -> bool:
        """Whether it holds the weights as the optimiser left them, and not only their average."""
        return self.header.get(KEPT) != "ema"

    def part(self, prefix: str, device: torch.device | str = "cpu") -> dict[str, Tensor]:
        """The tensors whose names begin with `prefix`, on a device; the prefix is removed."""
        return {
            name.removeprefix(prefix): tensor.to(device)
            for name, tensor in self.tensors.items()
            if name.startswith(prefix)
        }


def save(path: Path, tensors: dict[str, Tensor], header: dict[str, Any], previous: Path | None = None) -> Checkpoint:
    """Write tensors and a JSON header to one file, which appears complete or not at all. Gives what it wrote.

    `previous`: where the file that is replaced is kept; the one before that is deleted, if the file to be replaced is
    sound. So there are never more than two files, the one that is being written included.
    """
    plain = {name: tensor.detach().to("cpu").contiguous() for name, tensor in tensors.items()}
    seen: set[int] = set()
    for name, tensor in plain.items():  # weights that a model uses twice: safetensors refuses tensors that share memory
        if tensor.numel() and tensor.untyped_storage().data_ptr() in seen:
            plain[name] = tensor.clone()
        seen.add(tensor.untyped_storage().data_ptr())
    if previous and previous.exists() and is_sound(path):
        previous.unlink()
    with atomic_write(path, previous=previous) as temporary:
        save_file(plain, temporary, {HEADER: json.dumps(header), VERSION: str(FORMAT), CHECKSUM: EMPTY_MARK})
        seal_file(temporary)
    return Checkpoint(header, plain)


def read(path: Path) -> Checkpoint | None:
    """A checkpoint of ours, header and tensors from one open file; None if there is no such file.

    Raises Damaged. A file without a checksum, from an older store, is read as it is.
    """
    while path.exists():
        try:
            place = local(path)
            found = verify_file(place)
            with safe_open(place, framework="pt") as file:
                metadata = file.metadata() or {}
                mark = metadata.get(CHECKSUM, "").removeprefix(EMPTY_MARK[:-DIGITS])
                if found != mark and is_replaced(place, found):
                    continue
                if (VERSION in metadata) != bool(found):
                    raise Damaged("its format version or its checksum is missing")
                if int(metadata.get(VERSION, FORMAT)) > FORMAT:
                    raise TooNew(f"{path}: it has format {metadata[VERSION]}: update ablate")
                found_header = parse_header(metadata[HEADER])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
                return Checkpoint(found_header, tensors)
        except FileNotFoundError:  # another process replaces it
            continue
        except (Damaged, TooNew):
            raise
        except (SafetensorError, KeyError, ValueError, RecursionError) as error:
            raise Damaged(f"it cannot be read ({error})") from None
    return None


def is_replaced(path: Path, found: str) -> bool:
    """Whether another process has written the file anew since its checksum was found; raises Damaged as it may."""
    return verify_file(path) != found


def latest(folder: StageFolder, signatures: Collection[str], *, with_log: bool = True) -> Checkpoint | None:
    """The last sound checkpoint of a stage, or the one before; None if there is none, so that it starts anew.

    `signatures`: of the stages that the checkpoint may be from. `with_log`: whether the log must be sound up to it.
    Damaged files, and those of another stage, are reported and moved to `damaged/`.
    """
    for path in (folder.checkpoint, folder.previous):
        try:
            saved = read(path)
            if saved and (stage := saved.header.get("signature")) not in signatures:
                raise Damaged(f"it is the checkpoint of stage {stage}")
        except Damaged as error:
            damage.report(path, error)
            damage.set_aside(path)
            continue
        if saved and (not with_log or has_log(folder, saved)):
            return saved
    return None


def has_log(folder: StageFolder, saved: Checkpoint) -> bool:
    """Whether the log of a stage is sound up to a checkpoint; that of an older store has no checksums and passes."""
    last = saved.header.get("log", {}).get("last")
    return last is None or read_lines(folder.steps, last) is not None


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
