"""Floating point operations of a model's round trip."""

import copy
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from ablate.slots.training import Autoencoder

aten = torch.ops.aten

FORMULAS = {
    **flop_registry,
    aten._scaled_dot_product_flash_attention_for_cpu: flop_registry[aten._scaled_dot_product_flash_attention],
}
"""Operation -> its number of floating point operations, from its arguments."""


def flops(vae: Autoencoder, shape: tuple[int, ...]) -> int:
    """Floating point operations of encoding and decoding `3 h w` or `3 t h w`; a clip is cut to what the model takes.

    The model runs once, where it is; on the meta device where memory is too short for that.
    """
    channels, *time, height, width = shape
    frames = [vae.whole(count) for count in time]
    for device in (next(vae.parameters()).device, torch.device("meta")):
        try:
            copied = copy.deepcopy(vae).to(device).eval()
            counter = Counter()
            with counter, torch.no_grad():
                copied.decode(copied.encode(torch.zeros(1, channels, *frames, height, width, device=device)).mean)
            break
        except RuntimeError:
            if device.type == "meta":
                raise
    return counter.total


class Counter(TorchDispatchMode):
    """Counts within a `with` block what `torch.utils.flop_counter.FlopCounterMode` counts, by the same formulas.

    That class loads PyTorch's compiler, which takes a process two seconds and 150 MB.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.total = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # otherwise PyTorch loads its compiler to keep it away from this class

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        with self:
            parts = func.decompose(*args, **kwargs)
        if parts is not NotImplemented:
            return parts
        out = func(*args, **kwargs)
        if count := FORMULAS.get(func._overloadpacket):
            self.total += int(count(*args, **kwargs, out_val=out))
        return out
