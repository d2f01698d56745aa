"""Running out of memory is a planned event: the batch is split into twice as many micro-batches.

Only the autoencoder, whose activations fill the memory, sees micro-batches. Each is run without keeping activations and
once more on the way back (Chen et al., "Training Deep Nets with Sublinear Memory Cost", 2016, arXiv 1604.06174), so
that those of one alone are alive; gradients accumulate over them. All that compares pictures sees the whole batch. The
step stays the same but for rounding, with norms over the batch, adaptive weights and every draw; it takes about a third
longer.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from types import MethodType
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ablate.plan.footprint import OUT_OF_MEMORY, Footprint, read, write
from ablate.recipe.stages import Stage
from ablate.slots.training import Autoencoder, Posterior
from ablate.store.folders import Store


def ran_out(error: BaseException) -> bool:
    """Whether an error says that a device, or the host, has no memory left."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def device_name(device: torch.device) -> str:
    """By which needs are kept."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


class OutOfMemory(RuntimeError):
    """Training ran out of memory. Batches are split from now on: run it again, at best in a fresh process."""


@contextmanager
def within_memory(store: Store, key: str, stage: Stage, device: torch.device) -> Iterator[Footprint]:
    """What a stage is known to need. Should it run out of memory, raises OutOfMemory, having noted that it needs twice
    as many parts; where a part is one picture already, the error is passed on."""
    name = device_name(device)
    need = read(store, key, name)
    try:
        yield need
    except Exception as error:
        if not ran_out(error) or need.parts >= stage.settings.batch:
            raise
        more = replace(need, parts=2 * need.parts)
        write(store, key, name, more)
        what = f"{OUT_OF_MEMORY} in stage '{stage.name}', goes on with batches in {more.parts} parts"
        raise OutOfMemory(what) from error


@contextmanager
def micro_batches(vae: Autoencoder, size: int) -> Iterator[None]:
    """Let an autoencoder encode and decode at most `size` pictures or clips at once. Its copies do so too."""

    def encode(self: Autoencoder, x: Tensor) -> Posterior:
        found = _by_part(partial(type(self).encode, self), x, size)
        return Posterior(torch.cat([one.mean for one in found]), torch.cat([one.logvar for one in found]))

    def decode(self: Autoencoder, z: Tensor) -> Tensor:
        return torch.cat(_by_part(partial(type(self).decode, self), z, size))

    vae.encode, vae.decode = MethodType(encode, vae), MethodType(decode, vae)  # type: ignore[method-assign]
    try:
        yield
    finally:
        del vae.encode, vae.decode


def _by_part(run: Callable[[Tensor], Any], x: Tensor, size: int) -> list[Any]:
    if len(x) <= size:
        return [run(x)]
    return [checkpoint(run, part, use_reentrant=False) for part in x.split(size)]
