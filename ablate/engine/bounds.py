"""Bounds on the size of a model while it is built: a number that is too large ends in an error, not in all memory."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch.nn.modules import module

MOST_LAYERS = 5_000
"""Modules of a model at most, each within another counted; large released autoencoders have about a thousand."""

MOST_PARAMETERS = 10**11


class TooLarge(ValueError):
    """A model is larger than any that could be trained or than the file that its weights are in."""


@contextmanager
def bounded(parameters: int = MOST_PARAMETERS, layers: int = MOST_LAYERS) -> Iterator[None]:
    """Raise TooLarge as soon as a model that is built within has more parameters or layers than this."""
    counts = {"parameters": 0, "layers": 0}

    def count_layer(_module: Any, _name: str, _layer: Any) -> None:
        counts["layers"] += 1
        if counts["layers"] > layers:
            raise TooLarge(f"model: more than {layers} layers; are its numbers of blocks and channels meant?")

    def count_parameters(_module: Any, _name: str, parameter: Any) -> None:
        counts["parameters"] += parameter.numel() if parameter is not None else 0
        if counts["parameters"] > parameters:
            raise TooLarge(f"model: more than {parameters} parameters; are its numbers of channels meant?")

    handles = [
        module.register_module_module_registration_hook(count_layer),
        module.register_module_parameter_registration_hook(count_parameters),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
