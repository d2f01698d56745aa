"""Micro-batches: where training runs out of memory, its batches are split into twice as many parts.

Only the autoencoder runs in micro-batches, because its activations fill the memory. Each micro-batch is run without
keeping activations, and run again in the backward pass (gradient checkpointing: Chen et al., "Training Deep Nets with
Sublinear Memory Cost", 2016, arXiv 1604.06174), so the activations of only one are alive; gradients accumulate. Losses
and the discriminator see the whole batch. Apart from rounding the step is the same: norms over the batch, adaptive
weights and random draws do not change. It takes about a third longer.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import MethodType
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ablate.plan.footprint import Footprint, ran_out_reason, read, split_further, write
from ablate.recipe.stages import Stage
from ablate.slots.training import Autoencoder, Posterior
from ablate.store import host_memory
from ablate.store.folders import Store


def ran_out(error: BaseException) -> bool:
    """Whether an error says that the device or the host has run out of memory."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def device_name(device: torch.device) -> str:
    """The name under which footprints of a device are stored."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


class OutOfMemory(RuntimeError):
    """Training ran out of memory. The store now says to split batches: run it again, preferably in a new process."""


def room(device: torch.device) -> int:
    """Bytes that this process has or can get on a device, given what others hold."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device)
    return host_memory.room()


@contextmanager
def within_memory(
    store: Store, key: str, stage: Stage, device: torch.device, *, is_begun: bool = False
) -> Iterator[Footprint]:
    """Yield the footprint of a stage; if the body runs out of memory, double the number of micro-batches and store it.

    Raises OutOfMemory after that. Where a micro-batch is a single picture already, the original error is raised. A
    stage that was not begun yet tries whole batches again where there is clearly more memory than there was when the
    stage that ran out began: it may have been short because of another process, which later trials must not depend on.
    """
    name = device_name(device)
    stored = read(store, key, name)
    before = room(device)
    footprint = stored if is_begun else stored.where(before)
    if footprint != stored:
        write(store, key, name, footprint)
    try:
        yield footprint
    except Exception as error:
        if not ran_out(error):
            raise
        doubled = split_further(store, key, name, footprint, stage, before)
        if doubled is None:
            raise
        raise OutOfMemory(ran_out_reason(stage, doubled)) from error


@contextmanager
def micro_batches(vae: Autoencoder, size: int) -> Iterator[None]:
    """Make an autoencoder, and copies of it, encode and decode at most `size` pictures or clips at once."""

    def encode(self: Autoencoder, x: Tensor) -> Posterior:
        posteriors = _in_micro_batches(partial(type(self).encode, self), x, size)
        return Posterior(torch.cat([p.mean for p in posteriors]), torch.cat([p.logvar for p in posteriors]))

    def decode(self: Autoencoder, z: Tensor) -> Tensor:
        return torch.cat(_in_micro_batches(partial(type(self).decode, self), z, size))

    vae.encode = MethodType(encode, vae)  # type: ignore[method-assign]
    vae.decode = MethodType(decode, vae)  # type: ignore[method-assign]
    try:
        yield
    finally:
        del vae.encode, vae.decode


def _in_micro_batches(run: Callable[[Tensor], Any], x: Tensor, size: int) -> list[Any]:
    if len(x) <= size:
        return [run(x)]
    return [checkpoint(run, part, use_reentrant=False) for part in x.split(size)]
